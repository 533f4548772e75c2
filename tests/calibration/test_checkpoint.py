"""Runs that are killed and taken up again end in the bytes of a run that was not."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calibration.killed import run
from calibration.streaming import Drawn, blocks

import sd_tvm
from sd_tvm.calibration import sequential
from sd_tvm.calibration.checkpoint import Checkpoint, LayerFit, code_digest, module_digest, remember
from sd_tvm.errors import CheckpointError
from sd_tvm.recipe import Form, Recipe
from sd_tvm.tradeoff.model import OptionRow
from sd_tvm.weights.tensor import RawWeight, SDWeight, WeightForm

SCRIPT = Path(__file__).with_name("killed.py")


def saved(model: sd_tvm.CompressedModel, folder: Path) -> bytes:
    model.save(folder / "model.sd")
    return (folder / "model.sd").read_bytes()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Files of runs without a checkpoint."""
    folder = tmp_path_factory.mktemp("unbroken")
    return {goal: saved(run(None, goal), folder) for goal in ("recipe", "size")}


def until(wanted: tuple[str, int] | None, checkpoint: Path, goal: str, write: int = -1) -> int:
    """Start the script, kill it when it has done a step's number; its exit code."""
    tests = str(Path(__file__).parent.parent)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([tests, *sys.path])}
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), str(checkpoint), str(checkpoint) + ".sd", goal, str(write)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("no pipes")
        for line in process.stdout:
            name, done, _ = line.split()
            if (name, int(done)) == wanted:
                process.send_signal(signal.SIGKILL)
                break
            try:
                process.stdin.write("\n")
                process.stdin.flush()
            except BrokenPipeError:  # it killed itself
                break
        return process.wait()


@pytest.mark.parametrize("goal", ["recipe", "size"])
def test_killed_at_a_layer_and_resumed(goal: str, unbroken: dict[str, bytes], tmp_path: Path) -> None:
    draw = random.Random(5)
    layer = draw.randrange(1, 8)
    step = ("decompose", layer) if goal == "recipe" else ("sensitivity", draw.randrange(8, 25))
    assert until(step, tmp_path / "c", goal) == -signal.SIGKILL
    stored = {p.name for p in (tmp_path / "c").iterdir()}
    assert len([n for n in stored if n.startswith("fit-")]) == (layer if goal == "recipe" else 0)
    assert any(n.startswith("measured-") for n in stored) == (goal == "size")
    times = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "c").iterdir()}
    assert saved(run(str(tmp_path / "c"), goal), tmp_path) == unbroken[goal]
    for name, time in times.items():  # nothing was done twice
        assert (tmp_path / "c" / name).stat().st_mtime_ns == time


def test_killed_in_a_write(unbroken: dict[str, bytes], tmp_path: Path) -> None:
    write = random.Random(6).randrange(3, 9)
    assert until(None, tmp_path / "c", "recipe", write) == -signal.SIGKILL
    (part,) = (tmp_path / "c").glob(".*.part")
    assert part.stat().st_size > 0
    assert saved(run(str(tmp_path / "c"), "recipe"), tmp_path) == unbroken["recipe"]
    assert not part.exists()


def test_a_finished_checkpoint_fits_nothing(
    unbroken: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise RuntimeError("fitted again")

    for goal in ("recipe", "size"):
        folder = tmp_path / goal
        assert saved(run(str(folder), goal), tmp_path) == unbroken[goal]
        with monkeypatch.context() as patch:
            patch.setattr(sequential, "fit_calibrated", never)
            patch.setattr("sd_tvm.tradeoff.measure.fit_calibrated", never)
            assert saved(run(str(folder), goal), tmp_path) == unbroken[goal]


def test_other_inputs_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    mod, data = blocks(), list(Drawn(3))
    how: dict[str, Any] = {"calibration": data, "recipe": Recipe.named("int8"), "checkpoint": folder}
    sd_tvm.compress(mod, **how)
    del how["recipe"]
    for change, match in (
        (
            {"recipe": Recipe.named("int8"), "calibration": data[:2]},
            r"of another run: the calibration data \"",
        ),
        ({"recipe": Recipe.named("int8"), "calibration": None}, "the calibration data .*, now null"),
        ({}, "of another run: the recipe"),
        ({"budget": {"size": 2.0}}, "the budget null, now .*the recipe .*now null"),
    ):
        with pytest.raises(CheckpointError, match=match):
            sd_tvm.compress(mod, **(how | change))
    with pytest.raises(CheckpointError, match="of another run: the model"):
        sd_tvm.compress(blocks(seed=1), recipe=Recipe.named("int8"), **how)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("all of it")
    with pytest.raises(CheckpointError, match="holds files but no checkpoint"):
        sd_tvm.compress(blocks(), recipe="int8", checkpoint=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot use the folder"):
        sd_tvm.compress(blocks(), recipe="int8", checkpoint=tmp_path / "file")


def test_without_calibration(tmp_path: Path) -> None:
    wanted = saved(sd_tvm.compress(blocks(), recipe="codebook64"), tmp_path)
    for _ in range(2):
        model = sd_tvm.compress(blocks(), recipe="codebook64", checkpoint=tmp_path / "c")
        assert saved(model, tmp_path) == wanted
    assert list((tmp_path / "c").glob("data-free-*.fit"))


@pytest.mark.parametrize("file", ["inputs.json", "ranges.json", "fit-*-0003.fit"])
def test_damage_is_named(file: str, tmp_path: Path) -> None:
    folder = tmp_path / "c"
    how: dict[str, Any] = {"calibration": Drawn(2), "recipe": "int8", "checkpoint": folder}
    sd_tvm.compress(blocks(), **how)
    (path,) = folder.glob(file)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match=rf"{path.name}' is damaged.*delete that file"):
        sd_tvm.compress(blocks(), **how)


def test_fits_come_back_as_they_were(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scale = rng.random(4).astype(np.float32)
    form = WeightForm(basis_kind="codebook")
    coef = rng.integers(-3, 3, (4, 16, 3), dtype=np.int8)
    basis = rng.integers(-127, 127, (2, 3, 3), dtype=np.int8)
    ids = np.array([0, 1, 1, 0], np.uint8)
    fits = {
        "a/b c": LayerFit(
            SDWeight((4, 16, 1, 3), form, coef, basis, scale, ids), 0.1 + 0.2, scale[None, :, None]
        ),
        "raw": LayerFit(RawWeight(rng.integers(-9, 9, (4, 2, 3, 3), dtype=np.int8), scale), 1e-300),
    }
    stage = Checkpoint(tmp_path, {"x": 1}).stage("fit", Recipe.default(), fits)
    assert stage.load("raw") is None
    for name, fit in fits.items():
        stage.save(name, fit)
        found = stage.load(name)
        assert found is not None
        assert found.error == fit.error
        np.testing.assert_array_equal(found.weight.dequantize(), fit.weight.dequantize())
        assert type(found.weight) is type(fit.weight)
        if fit.bias is None:
            assert found.bias is None
        else:
            np.testing.assert_array_equal(found.bias, fit.bias)
            assert found.bias is not None
            assert found.bias.shape == fit.bias.shape
    sd = stage.load("a/b c")
    assert sd is not None
    assert isinstance(sd.weight, SDWeight)
    assert sd.weight.form == form
    np.testing.assert_array_equal(sd.weight.ids, ids)


def test_remembered_numbers_are_exact(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, {})
    rows = [0.1, 1e-310, 1 / 3, 5e300]
    value = Form(pattern="8:16")
    assert remember(checkpoint, "form.json", Form, lambda: value) == value
    assert remember(checkpoint, "form.json", Form, lambda: Form()) == value
    row = OptionRow("o", "sd", "", "", "", rows[0], rows[1], 3, rows[2], rows[3], 4, warnings=("a", "b"))
    for _ in range(2):
        assert remember(checkpoint, "row.json", OptionRow, lambda: row) == row
    (tmp_path / "row.json").write_text("{}")
    with pytest.raises(CheckpointError, match="damaged"):
        remember(checkpoint, "row.json", OptionRow, lambda: row)


def test_digests() -> None:
    assert code_digest() == code_digest()
    assert module_digest(blocks()) == module_digest(blocks())
    assert module_digest(blocks()) != module_digest(blocks(seed=1))
