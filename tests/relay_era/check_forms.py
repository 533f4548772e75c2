"""All the ways to build and run, what is refused or left, and what is said about it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from relaynets import LLVM, compiling_python, images, run
from tvm import relay
from tvm.runtime.vm import VirtualMachine

import sd_tvm.relay_passes.relay as sd
from sd_tvm.errors import CalibrationError, OptionError, RecipeError, VersionError
from sd_tvm.relay_passes.relay.operators import OPERATORS

SIZE = 16
CALIBRATION = images(4, SIZE)
X = images(1, SIZE, seed=9)


def _weights(seed: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {"w1": (32, 3, 3, 3), "b1": (32,), "w2": (32, 32, 3, 3), "w3": (10, 32)}
    return {name: (rng.normal(size=shape) * 0.2).astype(np.float32) for name, shape in shapes.items()}


def _net(*, constant: bool = True) -> tuple[Any, dict[str, np.ndarray]]:
    """Two convolutions, a residual sum and a dense layer; the last weight may be an input."""
    params = _weights()
    x = relay.var("x", shape=(1, 3, SIZE, SIZE))
    w1, b1, w2, w3 = (relay.var(name, shape=a.shape) for name, a in params.items())
    y = relay.nn.relu(relay.nn.bias_add(relay.nn.conv2d(x, w1, padding=(1, 1)), b1))
    y = relay.add(y, relay.nn.conv2d(y, w2, padding=(1, 1)))
    y = relay.nn.batch_flatten(relay.nn.global_avg_pool2d(y))
    mod = tvm.IRModule.from_expr(relay.Function([x, w1, b1, w2, w3], relay.nn.dense(y, w3)))
    if not constant:
        del params["w3"]
    return mod, params


@pytest.fixture(autouse=True)
def calibrated() -> Any:
    with sd.configure(calibration=CALIBRATION):
        yield


@pytest.fixture(scope="module")
def wanted() -> np.ndarray:
    mod, params = _net()
    with sd.configure(calibration=CALIBRATION):
        return run(relay.build(mod, target="sd_accel", params=params), X)[0]


def check_close_to_float(wanted: np.ndarray) -> None:
    mod, params = _net()
    real = run(relay.build(mod, LLVM, params=params), X)[0]
    assert 0 < np.linalg.norm(wanted - real) < 0.1 * np.linalg.norm(real)


@pytest.mark.parametrize("opt_level", [0, 1, 3])
def check_opt_levels(opt_level: int, wanted: np.ndarray) -> None:
    mod, params = _net()
    with tvm.transform.PassContext(opt_level=opt_level):
        library = relay.build(mod, target="sd_accel", params=params)
    np.testing.assert_array_equal(run(library, X)[0], wanted)


def check_target_object_and_current_target(wanted: np.ndarray) -> None:
    mod, params = _net()
    library = relay.build(mod, target=tvm.target.Target("sd_accel"), params=params)
    np.testing.assert_array_equal(run(library, X)[0], wanted)
    with tvm.target.Target("sd_accel"):
        np.testing.assert_array_equal(run(relay.build(mod, params=params), X)[0], wanted)


def check_other_targets_see_no_change() -> None:
    mod, params = _net()
    before = sd.last_report()
    with sd.profile() as seen:
        run(relay.build(mod, target=LLVM, params=params), X)
    assert seen.records == []
    assert sd.last_report() == before


def check_cpu_computes_the_same_integers(wanted: np.ndarray) -> None:
    mod, params = _net()
    with sd.profile() as seen:
        found = run(relay.build(mod, target="sd_cpu", params=params), X)[0]
    np.testing.assert_array_equal(found, wanted)
    assert seen.records == []
    assert "cpu-integer" in {row.target for row in sd.last_report()}


def check_configurations(wanted: np.ndarray) -> None:
    mod, params = _net()
    cycles = {}
    for name in ("smartexchange-28nm-parallel", "edge"):
        library = relay.build(mod, target=f"sd_accel/{name}", params=params)
        with sd.profile() as seen:
            np.testing.assert_array_equal(run(library, X)[0], wanted)
        cycles[name] = seen.totals["cycles"]
        assert seen.report().sums()["cycles"] == cycles[name]
    assert len(set(cycles.values())) > 1
    with sd.configure(config="edge"):
        library = relay.build(mod, target="sd_accel", params=params)
    with sd.profile() as seen:
        run(library, X)
    assert seen.totals["cycles"] == cycles["edge"]


def check_recipe() -> None:
    mod, params = _net()
    forms = {}
    for recipe in ("int8", "sd-4:16"):
        with sd.configure(recipe=recipe):
            library = relay.build(mod, target="sd_accel", params=params)
        with sd.profile() as seen:
            run(library, X)
        layers = [row["layer"] for row in seen.layers]
        forms[recipe] = [layer["form"] is not None for layer in layers if layer["kind"] == "conv"]
    assert not any(forms["int8"])
    assert any(forms["sd-4:16"])


@pytest.mark.parametrize("kind", ["graph", "vm"])
def check_executors(kind: str, wanted: np.ndarray) -> None:
    mod, params = _net()
    target = tvm.target.Target("sd_accel")  # until TVM 0.9, create_executor knows no tags
    evaluate = relay.create_executor(kind, mod=mod, device=tvm.cpu(), target=target, params=params).evaluate()
    np.testing.assert_array_equal(evaluate(X).numpy(), wanted)


def check_vm_compile(wanted: np.ndarray) -> None:
    mod, params = _net()
    executable = relay.vm.compile(mod, target="sd_accel", params=params)
    np.testing.assert_array_equal(VirtualMachine(executable, tvm.cpu()).run(X).numpy(), wanted)


def check_export_and_load_in_another_process(wanted: np.ndarray, tmp_path: Path) -> None:
    mod, params = _net()
    relay.build(mod, target="sd_accel", params=params).export_library(str(tmp_path / "net.so"))
    np.save(tmp_path / "x.npy", X)
    environment = {k: v for k, v in os.environ.items() if k != "SD_TVM_PYTHON"}
    program = (
        "import numpy as np, tvm\n"
        "from tvm.contrib import graph_executor\n"
        "import sd_tvm.relay_passes.relay as sd\n"
        "module = graph_executor.GraphModule(tvm.runtime.load_module('net.so')['default'](tvm.cpu()))\n"
        "module.set_input('x', np.load('x.npy'))\n"
        "with sd.profile() as seen:\n"
        "    module.run()\n"
        "assert seen.totals['cycles'] > 0\n"
        "np.save('y.npy', module.get_output(0).numpy())\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, env=environment)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), wanted)


def check_partitioned_module_in_any_pipeline(wanted: np.ndarray) -> None:
    mod, params = _net()
    partitioned = sd.partition_for_sd_accel(mod, params)
    np.testing.assert_array_equal(run(relay.build(partitioned, target=LLVM), X)[0], wanted)
    np.testing.assert_array_equal(run(relay.build(partitioned, target="sd_accel"), X)[0], wanted)
    steps = [
        relay.transform.FoldConstant(),
        relay.transform.ToANormalForm(),
        relay.transform.ToGraphNormalForm(),
    ]
    changed = tvm.transform.Sequential(steps)(partitioned)
    np.testing.assert_array_equal(run(relay.build(changed, target=LLVM), X)[0], wanted)


def check_without_calibration(caplog: pytest.LogCaptureFixture) -> None:
    mod, params = _net()
    with sd.configure(calibration=None), caplog.at_level(logging.WARNING):
        found = run(relay.build(mod, target="sd_accel", params=params), X)[0]
    assert "computed at run time" in caplog.text
    real = run(relay.build(mod, LLVM, params=params), X)[0]
    assert 0 < np.linalg.norm(found - real) < 0.1 * np.linalg.norm(real)


def check_operators_between_regions() -> None:
    """What TVM computes in float32 between two regions; the second is calibrated with what reaches it."""
    params = _weights()
    x = relay.var("x", shape=(1, 3, SIZE, SIZE))
    w1, w2 = (relay.const(params[name]) for name in ("w1", "w2"))
    y = relay.sin(relay.nn.conv2d(x, w1, padding=(1, 1)))
    z = relay.nn.conv2d(y, w2, padding=(1, 1))
    mod = tvm.IRModule.from_expr(relay.Function([x], relay.Tuple([relay.nn.relu(z), y])))
    found = run(relay.build(mod, target="sd_accel"), X)
    rows = sd.last_report()
    assert len({row.region for row in rows if row.region}) == 2
    assert [row.op for row in rows if row.target == "relay"] == ["sin"]
    for a, b in zip(found, run(relay.build(mod, LLVM), X), strict=True):
        assert np.linalg.norm(a - b) < 0.1 * np.linalg.norm(b)


def check_region_of_two_inputs_and_two_results() -> None:
    params = _weights()
    a, b = (relay.var(name, shape=(1, 32, 8, 8)) for name in "ab")
    y = relay.nn.conv2d(relay.add(a, b), relay.const(params["w2"]), padding=(1, 1))
    mod = tvm.IRModule.from_expr(relay.Function([a, b], relay.Tuple([relay.nn.relu(y), relay.tanh(y)])))
    rng = np.random.default_rng(2)
    examples = [tuple(rng.normal(size=(1, 32, 8, 8)).astype(np.float32) for _ in "ab") for _ in range(3)]
    with sd.configure(calibration=examples):
        found = run(relay.build(mod, target="sd_accel"), *examples[0])
    assert len({row.region for row in sd.last_report()}) == 1
    for u, v in zip(found, run(relay.build(mod, LLVM), *examples[0]), strict=True):
        assert np.linalg.norm(u - v) < 0.1 * np.linalg.norm(v)


def check_what_is_left_is_said(caplog: pytest.LogCaptureFixture) -> None:
    mod, params = _net(constant=False)
    examples = [(x, _weights()["w3"]) for x in CALIBRATION]
    with sd.configure(calibration=examples), caplog.at_level(logging.WARNING):
        library = relay.build(mod, target="sd_accel", params=params)
    (left,) = (row for row in sd.last_report() if row.op == "nn.dense")
    assert (left.target, left.reason) == ("relay", "the weight is not a constant")
    assert "the weight is not a constant" in caplog.text
    assert len(run(library, X, _weights()["w3"])) == 1


def check_whole_table_can_be_imported() -> None:
    program = "import sd_tvm.relay.table as t; print(*t.OPERATORS)"
    done = subprocess.run([compiling_python(), "-c", program], check=True, capture_output=True, text=True)
    assert set(OPERATORS) <= set(done.stdout.split())


def check_nothing_to_offload(caplog: pytest.LogCaptureFixture) -> None:
    x = relay.var("x", shape=(1, 3, 8, 8))
    mod = tvm.IRModule.from_expr(relay.Function([x], relay.nn.relu(x)))
    with caplog.at_level(logging.WARNING):
        relay.build(mod, target="sd_accel")
    assert "nothing is offloaded" in caplog.text


def check_typed_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mod, params = _net()

    def build(target: Any = "sd_accel") -> None:
        relay.build(mod, target=target, params=params)

    both = [tvm.target.Target("sd_accel"), tvm.target.Target("ext_dev")]
    with pytest.raises(OptionError, match="list of 2 targets"):
        build(both)
    with pytest.raises(OptionError, match="interpreter"):
        relay.create_executor("debug", mod=mod, device=tvm.cpu(), target=tvm.target.Target("sd_accel"))
    with sd.configure(calibration=images(2, 8)), pytest.raises(CalibrationError):
        build()
    with sd.configure(recipe="no-such"), pytest.raises(RecipeError):
        build()
    with sd.configure(recipe={"rules": "all"}), pytest.raises(RecipeError):
        build()
    with pytest.raises(OptionError, match="recipes"), sd.configure(recipes="int8"):
        pass
    with pytest.raises(OptionError, match="target"):
        sd.partition_for_sd_accel(mod, params, target=LLVM)
    # what the other interpreter finds arrives as it was raised there
    broken = {**params, "w1": np.full_like(params["w1"], np.nan)}
    with pytest.raises(Exception, match="NaN") as raised:
        relay.build(mod, target="sd_accel", params=broken)
    assert type(raised.value).__name__ == "NumericsError"
    with (
        sd.configure(recipe="sd-8:16", python=sys.executable),
        pytest.raises(VersionError, match="apache-tvm"),  # this interpreter has another TVM
    ):
        build()
    monkeypatch.delenv("SD_TVM_PYTHON")
    with sd.configure(recipe="sd-8:16"), pytest.raises(OptionError, match="SD_TVM_PYTHON"):
        build()


def check_weights_that_other_front_ends_write(wanted: np.ndarray) -> None:
    """A transposed constant is a constant."""
    params = _weights()
    mod, _ = _net()
    x = mod["main"].params[0]
    by_name = {str(p.name_hint): relay.const(params[str(p.name_hint)]) for p in mod["main"].params[1:]}
    by_name["w3"] = relay.transpose(relay.const(np.ascontiguousarray(params["w3"].T)))
    body = relay.bind(mod["main"].body, {p: by_name[str(p.name_hint)] for p in mod["main"].params[1:]})
    library = relay.build(tvm.IRModule.from_expr(relay.Function([x], body)), target="sd_accel")
    np.testing.assert_array_equal(run(library, X)[0], wanted)
