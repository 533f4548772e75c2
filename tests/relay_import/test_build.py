"""``sd_tvm.relay.build``: Relay's signature and executor, on the accelerator and on plain TVM."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from relay_import.relayfiles import array, cases

import sd_tvm
import sd_tvm.relay
from sd_tvm.errors import OptionError, UnsupportedModelError
from sd_tvm.relay import GraphModule

CASE = cases("0.16")["net-nhwc"]
X = array(CASE["inputs"]["x"])
Y = array(CASE["outputs"][0])


@pytest.fixture(scope="module")
def plain() -> Any:
    return sd_tvm.relay.build(CASE["json"], target="llvm -mcpu=x86-64")


def test_llvm_gives_relays_result(plain: Any) -> None:
    module = GraphModule(plain["default"]())
    module.set_input("x", X)
    module.run()
    np.testing.assert_allclose(module.get_output(0).numpy(), Y, rtol=1e-5, atol=1e-5)
    assert (module.get_num_inputs(), module.get_num_outputs()) == (1, 1)
    assert plain.get_params() == {}


def test_library_is_an_executor_itself(plain: Any) -> None:
    plain.run(x=X)
    first = plain.get_output(0).numpy()
    plain.set_input(0, -X)
    plain.run()
    assert not np.array_equal(plain.get_output(0).numpy(), first)


def test_inputs_have_relays_names() -> None:
    """Names that no identifier may have are common: PyTorch calls the first input ``input.1``."""
    document = json.loads(cases("0.16")["nn.relu"]["json"])
    (name,) = (n for n in document["nodes"] if n.get("repr_str") == "x")
    name["repr_str"] = "input.1"
    module = sd_tvm.relay.build(json.dumps(document), target="llvm").module
    x = array(cases("0.16")["nn.relu"]["inputs"]["x"])
    for key in ("input.1", "input_1"):
        module.set_input(key, x)
        module.run()
        np.testing.assert_array_equal(module.get_output(0).numpy(), np.maximum(x, 0))
    assert module.get_input("input.1") is x


def test_accelerator_offloads_and_survives_export(tmp_path: Path) -> None:
    library = sd_tvm.relay.build(CASE["json"], target="sd_accel", calibration=[X, X / 2, -X])
    module = library["default"]()
    module.run(x=X)
    result = module.get_output(0).numpy()
    assert np.abs(result - Y).max() < 0.1 * np.abs(Y).max()  # 8-bit activations, 4-bit weights
    layers = {n.source_name: n.target for n in library.nodes if n.op in ("relax.nn.conv2d", "relax.matmul")}
    assert layers == {"conv2d_0": "sd_accel", "dense_0": "sd_accel"}
    library.export_library(tmp_path / "net.so")
    loaded = sd_tvm.relay.load_module(tmp_path / "net.so")
    assert loaded.input_names == ("x",)
    loaded.run(x=X)
    np.testing.assert_array_equal(loaded.get_output(0).numpy(), result)


def test_quantised_network_keeps_relays_integers() -> None:
    case = cases("0.16")["qnn.conv2d"]
    library = sd_tvm.relay.build(case["json"], target="sd_accel")
    library.run(**{name: array(value) for name, value in case["inputs"].items()})
    np.testing.assert_array_equal(library.get_output(0).numpy(), array(case["outputs"][0]))
    (convolution,) = (n for n in library.nodes if n.op == "relax.nn.conv2d")
    assert (convolution.target, convolution.reason) == ("cpu", "data type int32, not float32")


def test_a_relax_module_is_taken(plain: Any) -> None:
    library = sd_tvm.relay.build(sd_tvm.relay.load(CASE["json"]), target="llvm", mod_name="net")
    library["net"]().run(x=X)
    library.run(x=X)
    np.testing.assert_allclose(library.get_output(0).numpy(), Y, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"executor": "aot"}, "executor"),
        ({"workspace_memory_pools": object()}, "workspace_memory_pools"),
        ({"target": "llvm", "recipe": "default"}, "a recipe or calibration"),
        ({"target": "llvm fast"}, "'llvm fast'"),
        ({"target": "sd_accel/none-such"}, "none-such"),
    ],
)
def test_options_without_meaning_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(sd_tvm.SDError, match=message):
        sd_tvm.relay.build(CASE["json"], **options)


def test_a_live_object_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="no saved Relay module"):
        sd_tvm.relay.build(object(), target="llvm")


def test_executor_refuses_what_does_not_fit(plain: Any) -> None:
    module = GraphModule(plain)
    for misuse in (
        lambda: module.run(),
        lambda: module.get_output(0),
        lambda: module.set_input("w", X),
        lambda: module.run(x=X[:, :2]),
        lambda: plain["other"],
    ):
        with pytest.raises(OptionError):
            misuse()
    module.run(x=X)
    with pytest.raises(OptionError):
        module.get_output(1)


def test_command_line_compresses_a_file(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from sd_tvm.cli.app import app

    (tmp_path / "net.relay.json").write_text(CASE["json"])
    np.save(tmp_path / "x.npy", np.concatenate([X, -X]))
    out = tmp_path / "net.sd"
    result = CliRunner().invoke(
        app,
        [
            "compress",
            str(tmp_path / "net.relay.json"),
            "-o",
            str(out),
            "--calibration",
            str(tmp_path / "x.npy"),
        ],
    )
    assert result.exit_code == 0, result.output
    model = sd_tvm.load(out)
    assert set(model.weights) == {"conv2d_0", "dense_0"}
    assert model.is_calibrated


def test_import_of_the_package_loads_no_tvm() -> None:
    code = "import sys, sd_tvm, sd_tvm.relay; sys.exit('tvm' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
