"""The command line on a small network: every command, every error as one message with exit code 2."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli import tiny
from typer.testing import CliRunner, Result

from sd_tvm._yaml import dump_yaml, load_yaml
from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.config.model import CONFIGS
from sd_tvm.accelerator.isa import Program
from sd_tvm.cli.app import COMMANDS, app
from sd_tvm.errors import ConfigError, FormatError
from sd_tvm.profiling import profile
from sd_tvm.report import report_to_json


def invoke(*args: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in args])


def succeed(*args: object) -> str:
    result = invoke(*args)
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.stdout


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with tiny.sd, tiny.so and x.npy."""
    folder = tmp_path_factory.mktemp("cli")
    np.save(folder / "x.npy", tiny.batch())
    np.save(folder / "calibration.npy", tiny.data())
    succeed(
        "compress", "cli.tiny:model", "-o", folder / "tiny.sd", "--calibration", folder / "calibration.npy"
    )
    succeed("compile", folder / "tiny.sd", "-o", folder / "tiny.so")
    return folder


def test_help_lists_every_command() -> None:
    text = succeed("--help")
    for name in COMMANDS:
        assert name in text
        assert "--help" in succeed(name, "--help")


def test_version() -> None:
    import sd_tvm

    assert succeed("--version").strip() == f"sd-tvm {sd_tvm.__version__}"


def test_compress_says_what_it_made(tmp_path: Path) -> None:
    result = invoke("compress", "cli.tiny:model", "-o", tmp_path / "a.sd")
    assert result.exit_code == 0
    assert f"{(tmp_path / 'a.sd').stat().st_size:,} bytes" in result.stdout
    assert "not calibrated" in result.stderr


def test_calibration_from_a_function_gives_the_same_file(files: Path, tmp_path: Path) -> None:
    succeed("compress", "cli.tiny:model", "-o", tmp_path / "a.sd", "--calibration", "cli.tiny:data")
    assert (tmp_path / "a.sd").read_bytes() == (files / "tiny.sd").read_bytes()


def test_entropy_coded_file_is_the_same_model(files: Path, tmp_path: Path) -> None:
    import sd_tvm
    from sd_tvm.format import dumps

    small, plain = tmp_path / "small.sd", files / "tiny.sd"
    arguments = ("compress", "cli.tiny:model", "--calibration", "cli.tiny:data", "-o", small)
    text = succeed(*arguments, "--storage", "entropy")
    shown = [json.loads(succeed("inspect", path, "--json")) for path in (plain, small)]
    assert [data["storage"] for data in shown] == ["plain", "entropy"]
    assert small.stat().st_size < plain.stat().st_size
    assert shown[0]["used_nbytes"] == shown[1]["used_nbytes"]
    assert f"{shown[1]['used_nbytes']:,} bytes in use" in text.replace("\n", " ")
    model = sd_tvm.load(small)
    assert dumps(model.stored) == plain.read_bytes()
    assert sd_tvm.save(model, tmp_path / "again.sd", storage="entropy") == small.stat().st_size
    assert (tmp_path / "again.sd").read_bytes() == small.read_bytes()


def test_inspect(files: Path) -> None:
    text = succeed("inspect", files / "tiny.sd")
    assert "depthwise" in text
    assert f"{(files / 'tiny.sd').stat().st_size:,} bytes" in text
    data = json.loads(succeed("inspect", files / "tiny.sd", "--json"))
    parts = data["header_bytes"] + data["tensor_bytes"] + sum(x["nbytes"] for x in data["layers"])
    assert data["file_bytes"] == parts == (files / "tiny.sd").stat().st_size


def test_compile_shows_where_nodes_run(files: Path, tmp_path: Path) -> None:
    text = succeed("compile", files / "tiny.sd", "-o", tmp_path / "v.so", "--verbose")
    assert "fused into depthwise" in text
    assert "sd_accel" in text


def test_compile_for_another_architecture(files: Path, tmp_path: Path) -> None:
    result = invoke("compile", files / "tiny.sd", "-o", tmp_path / "arm.so", "-t", "llvm/neoverse-n1")
    assert result.exit_code == 2
    assert "ends in .tar" in " ".join(result.output.split())
    text = succeed("compile", files / "tiny.sd", "-o", tmp_path / "arm.tar", "-t", "llvm/neoverse-n1", "-v")
    assert "neondot" in text
    assert "dotprod" in text


def test_run_is_the_same_everywhere(files: Path, tmp_path: Path) -> None:
    x = files / "x.npy"
    texts = {
        succeed("run", files / "tiny.so", "-i", x, "-o", tmp_path / "library.npz", "--top", 3),
        succeed("run", files / "tiny.sd", "-i", x, "-o", tmp_path / "accel.npz", "--top", 3),
        succeed("run", files / "tiny.sd", "-i", x, "-o", tmp_path / "cpu.npz", "--top", 3, "-t", "llvm"),
    }
    assert len(texts) == 1
    assert "float32 1x10" in texts.pop()
    outputs = [np.load(tmp_path / f"{name}.npz")["arr_0"] for name in ("library", "accel", "cpu")]
    np.testing.assert_array_equal(outputs[0], outputs[1])
    np.testing.assert_array_equal(outputs[0], outputs[2])


def test_profile(files: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        text = succeed("profile", files / "tiny.so", "-i", files / "x.npy", "-o", tmp_path / name)
    assert "cycles" in text
    for suffix in ("json", "csv", "html"):
        one, two = (tmp_path / name / f"report.{suffix}" for name in ("a", "b"))
        assert one.read_bytes() == two.read_bytes()
    data = json.loads(succeed("profile", files / "tiny.so", "-i", files / "x.npy", "--json"))
    assert data == json.loads((tmp_path / "a" / "report.json").read_text())
    assert data["sums"]["cycles"] == sum(row["cycles"] for row in data["layers"])


def test_profile_of_a_file_makes_its_own_input(files: Path) -> None:
    data = json.loads(succeed("profile", files / "tiny.sd", "-c", "edge", "--json"))
    assert data["config"]["name"] == "edge"


def test_profile_writes_a_trace(files: Path, tmp_path: Path) -> None:
    """The same programs from the file and from the library; as many cycles as the report has."""
    for source in ("tiny.sd", "tiny.so"):
        args = ("-i", files / "x.npy", "--trace", tmp_path / f"{source}.json", "--json")
        data = json.loads(succeed("profile", files / source, *args))
        events = json.loads((tmp_path / f"{source}.json").read_text())["traceEvents"]
        layers = [e for e in events if e.get("cat") == "layer"]
        cycles: dict[str, int] = {}
        for event in layers:
            cycles[event["name"]] = cycles.get(event["name"], 0) + event["args"]["cycles"]
        assert cycles == {row["name"]: row["cycles"] for row in data["layers"] if row["cycles"]}


def test_profile_on_a_configuration_of_ones_own(files: Path, tmp_path: Path) -> None:
    """Another name and other sizes: tiled for them and timed on them, from the file and from the object."""
    shipped = load_yaml((CONFIGS / "edge.yaml").read_text(), source="edge", error=ConfigError)
    shipped |= {"name": "mine", "clock_mhz": 333}
    shipped["sram"] |= {"inp_kb": 1, "acc_kb": 2, "out_kb": 1}
    path = tmp_path / "my.yaml"
    path.write_text(dump_yaml(shipped))
    args = ("profile", files / "tiny.sd", "-i", files / "x.npy", "--json")
    data, edge = (json.loads(succeed(*args, "-c", c)) for c in (path, "edge"))
    assert data["config"]["name"] == "mine"
    assert data["title"].endswith("on mine")
    assert data["sums"]["instructions"] > edge["sums"]["instructions"]  # smaller tiles
    config = AcceleratorConfig.load(path)
    by_object = profile(str(files / "tiny.sd"), [np.load(files / "x.npy")], config=config)
    assert json.loads(report_to_json(by_object.report)) == data
    for call in by_object.calls:
        for mem, words in Program.from_bytes(call.program).required_words.items():
            assert words <= config.buffer_words(mem)


def test_a_library_is_profiled_on_its_own_configuration(files: Path, tmp_path: Path) -> None:
    library = tmp_path / "edge.so"
    succeed("compile", files / "tiny.sd", "-o", library, "-t", "sd_accel/edge")
    args = ("-i", files / "x.npy", "--json")
    own, named, default = (
        json.loads(succeed("profile", library, *args, *more))
        for more in ((), ("-c", "edge"), ("-c", "smartexchange-28nm-parallel"))
    )
    assert own == named
    assert own["config"]["name"] == "edge"
    assert default["sums"]["cycles"] != own["sums"]["cycles"]


def test_tiles_are_tuned_saved_and_reused(files: Path, tmp_path: Path) -> None:
    """The tuned library computes the same, not slower; the file alone gives it again."""
    tiles = tmp_path / "tiles.json"
    made = {}
    for name, args in {
        "plain": (),
        "tuned": ("--tiles", tiles, "--tune", 3),
        "again": ("--tiles", tiles),
    }.items():
        made[name] = tmp_path / f"{name}.so"
        succeed("compile", files / "tiny.sd", "-o", made[name], "-t", "sd_accel/edge", *args)
        if name == "tuned":
            before = tiles.read_bytes()
            assert json.loads(before)["tiles"]
    assert tiles.read_bytes() == before
    stats = {
        name: json.loads(succeed("profile", path, "-i", files / "x.npy", "--json"))["sums"]
        for name, path in made.items()
    }
    assert stats["tuned"] == stats["again"]
    assert stats["tuned"]["macs"] == stats["plain"]["macs"]
    assert stats["tuned"]["cycles"] <= stats["plain"]["cycles"]


def test_kernels_are_timed_saved_and_reused(files: Path, tmp_path: Path) -> None:
    """On the CPU: the tuned library computes the same, the file alone gives its kernels again."""
    kernels, results, said = tmp_path / "kernels.json", [], []
    for name, args in {"plain": (), "tuned": ("--tune", 2), "again": ()}.items():
        more = () if name == "plain" else ("--tiles", kernels, *args)
        library, out = tmp_path / f"{name}.so", tmp_path / f"{name}.npz"
        said.append(succeed("compile", files / "tiny.sd", "-o", library, "-t", "llvm", "-v", *more))
        succeed("run", library, "-i", files / "x.npy", "-o", out)
        results.append(np.load(out))
        if name == "tuned":
            before = kernels.read_bytes()
            assert json.loads(before)["kernels"]
    assert kernels.read_bytes() == before
    assert said[1].splitlines()[:-1] == said[2].splitlines()[:-1]
    for other in results[1:]:
        assert other.files == results[0].files
        for array in other.files:
            np.testing.assert_array_equal(other[array], results[0][array])


def test_nothing_to_tune_is_an_error(files: Path, tmp_path: Path) -> None:
    result = invoke("compile", files / "tiny.sd", "-o", tmp_path / "a.so", "-t", "llvm/x86-64", "--tune", 2)
    assert result.exit_code == 2
    assert "the target has none" in " ".join(result.stderr.split())


@pytest.mark.parametrize("command", ["compile", "run"])
def test_targets_are_refused_before_the_model_is_read(command: str, tmp_path: Path) -> None:
    more = ("-o", tmp_path / "a.so") if command == "compile" else ("-i", "none.npy")
    result = invoke(command, "no such model.sd", "-t", "cuda", *more)
    assert result.exit_code == 2
    assert "unknown target 'cuda'" in result.stderr


@pytest.mark.parametrize("name", ["tiny.sd", "no such model.sd"])
def test_trace_of_a_serial_array_is_refused_before_any_work(name: str, tmp_path: Path) -> None:
    """The model is not even looked at, nothing is written."""
    args = ("-c", "smartexchange-28nm", "-o", tmp_path / "out", "--trace", tmp_path / "t.json")
    result = invoke("profile", name, *args)
    assert result.exit_code == 2
    assert "bit-serial" in result.stderr
    assert list(tmp_path.iterdir()) == []


ERRORS = {
    "no such file": ("inspect", "none.sd"),
    "not a .sd file": ("inspect", "x.npy"),
    "unknown suffix": ("compress", "net.pt", "-o", "a.sd"),
    "no module": ("compress", "no.such.module:model", "-o", "a.sd"),
    "no callable": ("compress", "cli.tiny:nothing", "-o", "a.sd"),
    "unknown recipe": ("compress", "cli.tiny:model", "-o", "a.sd", "--recipe", "defualt"),
    "recipe file": ("compress", "cli.tiny:model", "-o", "a.sd", "--recipe", "none.yaml"),
    "calibration kind": ("compress", "cli.tiny:model", "-o", "a.sd", "--calibration", "folder"),
    "calibration file": ("compress", "cli.tiny:model", "-o", "a.sd", "--calibration", "none.npy"),
    "shape": ("compress", "cli.tiny:model", "-o", "a.sd", "--shape", "1,b"),
    "folder": ("compress", "cli.tiny:model", "-o", "no/such/folder/a.sd"),
    "storage": ("compress", "cli.tiny:model", "-o", "a.sd", "--storage", "zip"),
    "target": ("compile", "tiny.sd", "-o", "a.so", "-t", "cuda"),
    "configuration of a target": ("compile", "tiny.sd", "-o", "a.so", "-t", "sd_accel/none"),
    "library": ("run", "none.so", "-i", "x.npy"),
    "not a library": ("run", "fake.so", "-i", "x.npy"),
    "input": ("run", "tiny.so", "-i", "none.npy"),
    "input shape": ("run", "tiny.so", "-i", "calibration.npy"),
    "input function": ("run", "tiny.so", "-i", "cli.tiny:nothing"),
    "no input": ("profile", "tiny.so"),
    "trace of a serial array": ("profile", "tiny.sd", "-c", "smartexchange-28nm", "--trace", "t.json"),
    "trace into no folder": ("profile", "tiny.sd", "--trace", "no/such/folder/t.json"),
    "configuration": ("profile", "tiny.sd", "-c", "none"),
    "configuration file": ("profile", "tiny.sd", "-c", "none.yaml"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_one_message(name: str, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (files / "fake.so").write_bytes(b"no library")
    monkeypatch.chdir(files)
    result = invoke(*ERRORS[name])
    assert result.exit_code == 2, (result.output, result.exception)
    assert result.stderr.count("error:") == 1
    assert "Traceback" not in result.output
    assert "expected:" in result.stderr or "what to do:" in result.stderr


@pytest.mark.parametrize("place", ["first", "last"])
def test_debug_shows_the_traceback(place: str) -> None:
    args = ["--debug", "inspect", "none.sd"] if place == "first" else ["inspect", "none.sd", "--debug"]
    assert isinstance(invoke(*args).exception, FormatError)


def test_the_script_exits_with_2() -> None:
    program = "import sys; sys.argv = ['sd-tvm', 'inspect', 'none.sd']; from sd_tvm.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith("error: 'none.sd'")
    assert "Traceback" not in done.stderr


def test_output_folder_is_checked_before_the_work(files: Path, tmp_path: Path) -> None:
    nowhere = tmp_path / "missing"
    for args in (
        ("compress", "cli.tiny:model", "-o", nowhere / "a.sd"),
        ("compile", files / "tiny.sd", "-o", nowhere / "a.so"),
        ("run", files / "tiny.so", "-i", files / "x.npy", "-o", nowhere / "a.npz"),
    ):
        result = invoke(*args)
        assert result.exit_code == 2
        assert "folder that exists" in " ".join(result.stderr.split())


def test_too_many_inputs(files: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", tiny.batch(), tiny.batch())
    result = invoke("run", files / "tiny.so", "-i", tmp_path / "two.npz")
    assert result.exit_code == 2
    assert "2 inputs" in result.stderr


def test_function_that_raises(files: Path) -> None:
    result = invoke("run", files / "tiny.so", "-i", "cli.tiny:broken")
    assert result.exit_code == 2
    assert "raised ZeroDivisionError" in " ".join(result.stderr.split())


@pytest.mark.parametrize("count", [1, 2])
def test_calibration_with_one_or_with_equal_examples(count: int, tmp_path: Path) -> None:
    np.save(tmp_path / "same.npy", np.repeat(tiny.data()[:1], count, axis=0))
    succeed("compress", "cli.tiny:model", "-o", tmp_path / "a.sd", "--calibration", tmp_path / "same.npy")


def test_sensitivity(tmp_path: Path) -> None:
    arguments = ("sensitivity", "cli.tiny:model", "--calibration", "cli.tiny:data", "--option", "int8")
    arguments += ("--option", "two-term")
    text = succeed(*arguments, "-o", tmp_path / "out")
    assert "conv" in text
    assert "report:" in text
    data = json.loads((tmp_path / "out" / "sensitivity.json").read_text(encoding="utf-8"))
    assert [layer["name"] for layer in data["layers"]] == ["stem", "depthwise", "point", "conv", "fc"]
    assert [row["option"] for row in data["layers"][0]["options"]] == ["int8", "two-term"]
    assert json.loads(succeed(*arguments, "--json"))["layers"] == data["layers"]
    wrong = invoke(*arguments[:4], "--option", "3:16")
    assert wrong.exit_code == 2
    assert "3:16" in wrong.stderr
