"""``make demo`` as a whole: what it promises, and that its library runs without torch and the compiler."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sd_tvm import load
from sd_tvm.data.samples import imagenet_samples
from sd_tvm.demo import DemoResult, _simulate, run_demo
from sd_tvm.errors import SimulatorError
from sd_tvm.execute import Runner, load_executable
from sd_tvm.models.efficientnet_lite0 import preprocess
from sd_tvm.report import read_json

FRESH = """
import sys
sys.modules["torch"] = None  # importing it raises, as if it were not installed
from importlib.metadata import entry_points
import numpy as np
import tvm
from tvm.runtime.vm import VirtualMachine
if not entry_points(group="tvm.backends", name="sd_accel"):  # not installed: the source tree
    from sd_tvm import backend
    backend.register()
machine = VirtualMachine(tvm.runtime.load_module(sys.argv[1]), tvm.cpu())
np.save(sys.argv[3], machine["main"](tvm.runtime.tensor(np.load(sys.argv[2]))).numpy())
"""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    steps: list[tuple[str, int, int]] = []
    result = run_demo(tmp_path_factory.mktemp("demo"), progress=lambda *s: steps.append(s))
    finished = {step for step, done, total in steps if done == total}
    assert finished == {step for step, _, _ in steps}
    return result


def test_accuracy_and_size(demo: DemoResult) -> None:
    value = {m.name: m.value for m in demo.report.metrics}
    assert value["top-1, float32"] == 18
    assert int(value["top-1, SD form on the accelerator"]) >= 16
    assert value["file"] == demo.model.stat().st_size == load(demo.model).nbytes
    assert float(value["compression"]) > 6


def test_whole_network_on_the_accelerator(demo: DemoResult) -> None:
    report = demo.report
    assert report.rejected == ()
    assert report.timed
    assert {row.kind for row in report.layers} == {
        "conv",
        "depthwise",
        "pointwise",
        "add",
        "avg pool",
        "dense",
    }
    # 385 million, and the rows that two strips both compute (docs/fusion.md).
    assert 385e6 < report.sums()["macs_dense"] < 400e6
    report.check()
    assert report.totals == {k: report.sums()[k] for k in report.totals}
    assert report.totals.keys() >= {"cycles", "energy_total_fj", "energy_fj.mac", "macs", "dram_read"}


def test_every_layer_runs_in_the_form_of_the_file(demo: DemoResult) -> None:
    kinds = {row["node"]: row["kind"] for row in load(demo.model).report}
    run = {row.name: "int8" if row.form == "int8" else "sd" for row in demo.report.layers if row.weights}
    assert run == kinds


def test_time_that_changes_a_result_is_a_typed_error(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([np.zeros((1, 3)), np.ones((1, 3))])
    monkeypatch.setattr("sd_tvm.execute.Runner", lambda _: lambda _image: [next(answers)])
    with pytest.raises(SimulatorError, match="other logits"):
        _simulate(None, [np.zeros(1, np.float32)], None, lambda *_: None)


def test_files(demo: DemoResult) -> None:
    assert read_json(demo.json) == demo.report
    assert demo.report.title in demo.html.read_text(encoding="utf-8")


@pytest.mark.parametrize("runtime_only", [False, True])
def test_library_in_a_fresh_process(demo: DemoResult, tmp_path: Path, runtime_only: bool) -> None:
    image = preprocess(imagenet_samples()[3].image)
    wanted = Runner(load_executable(demo.library))(image)[0]
    np.save(tmp_path / "x.npy", image)
    environment = dict(os.environ, **({"TVM_USE_RUNTIME_LIB": "1"} if runtime_only else {}))
    command = [sys.executable, "-c", FRESH, demo.library, tmp_path / "x.npy", tmp_path / "y.npy"]
    subprocess.run([str(c) for c in command], check=True, env=environment, timeout=300)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), wanted)
