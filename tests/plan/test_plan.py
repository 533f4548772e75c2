"""Plans give the bytes and the cycles of TVM's virtual machine, and need nothing of TVM where they run."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import sd_tvm
from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.simulator import Profiler
from sd_tvm.errors import FormatError, OptionError
from sd_tvm.execute import Runner as Machine
from sd_tvm.execute import compile_module
from sd_tvm.plan.build import build_plan
from sd_tvm.plan.model import Plan, Step
from sd_tvm.plan.run import Runner

SHAPE = (1, 3, 12, 12)


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 24, 3, padding=1), nn.Conv2d(24, 24, 3, padding=1)
        self.last = nn.Linear(24, 5)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.relu(self.first(x))
        x = x + self.second(x)
        y = self.last(x.mean((2, 3)))
        return torch.softmax(y, 1), y


def _examples(n: int) -> np.ndarray:
    return np.random.default_rng(5).normal(size=(n, *SHAPE[1:])).astype(np.float32)


@pytest.fixture(scope="module", params=[True, False], ids=["calibrated", "run-time-scales"])
def module(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(3)
    calibration = _examples(4) if request.param else None
    model = sd_tvm.compress(_Net().eval(), (torch.zeros(SHAPE),), recipe="sd-8:16", calibration=calibration)
    return model.to_relax()


@pytest.fixture(scope="module", params=["sd_accel", "llvm"])
def plan(request: pytest.FixtureRequest, module: Any) -> tuple[Plan, list[np.ndarray], dict[str, Any]]:
    """(plan, outputs and totals of the virtual machine)."""
    machine = Machine(compile_module(module, request.param).executable)
    with Profiler() as profiler:
        outputs = machine(_examples(1))
    config = AcceleratorConfig.load() if request.param == "sd_accel" else None
    return build_plan(module, config), outputs, profiler.totals


def test_same_bytes_and_cycles_as_the_virtual_machine(plan: Any) -> None:
    made, wanted, totals = plan
    run = Runner(Plan.from_bytes(made.to_bytes()))
    for _ in range(2):  # nothing is left over from a run
        with Profiler() as profiler:
            outputs = run(_examples(1))
        assert profiler.totals == totals
        for a, b in zip(outputs, wanted, strict=True):
            np.testing.assert_array_equal(a, b)
    assert bool(totals["calls"]) == bool(made.config)


def test_needs_no_tvm(plan: Any, tmp_path: Path) -> None:
    made, wanted, _ = plan
    (tmp_path / "plan").write_bytes(made.to_bytes())
    np.save(tmp_path / "x.npy", _examples(1))
    program = (
        "import sys\n"
        "sys.modules['tvm'] = sys.modules['torch'] = None\n"
        "import json, pathlib, numpy as np\n"
        "from sd_tvm.plan.model import Plan\n"
        "from sd_tvm.plan.run import Runner\n"
        "run = Runner(Plan.from_bytes(pathlib.Path('plan').read_bytes()))\n"
        "print(json.dumps([y.tobytes().hex() for y in run(np.load('x.npy'))]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True
    )
    assert json.loads(done.stdout) == [y.tobytes().hex() for y in wanted]


def test_file_is_deterministic_and_reads_back(plan: Any, module: Any) -> None:
    config = AcceleratorConfig.load() if plan[0].config else None
    assert build_plan(module, config).to_bytes() == plan[0].to_bytes()
    again = Plan.from_bytes(dataclasses.replace(plan[0], notes=("a note",)).to_bytes())
    assert again.notes == ("a note",)
    assert again.nodes == plan[0].nodes
    assert {n["target"] for n in again.nodes} <= {"sd_accel", "cpu", "cpu-integer"}


def test_damaged_files_are_refused(plan: Any) -> None:
    data = plan[0].to_bytes()
    other = data.replace(b'\\"version\\": 1', b'\\"version\\": 9')
    for bad in (b"", data[:100], data[:-1], b"x" * 64, other):
        with pytest.raises(FormatError):
            Plan.from_bytes(bad)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outputs": (999,)}, "999"),
        ({"inputs": (0, 0)}, "writes value 0"),
        ({"steps": (Step("f", (0,), (0,)),)}, "writes value 0"),
    ],
)
def test_impossible_plans_are_refused(plan: Any, change: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        Plan.from_bytes(dataclasses.replace(plan[0], **change).to_bytes())


def test_other_inputs_are_refused(plan: Any) -> None:
    run = Runner(plan[0])
    with pytest.raises(OptionError, match="2 inputs"):
        run(_examples(1), _examples(1))
    with pytest.raises(OptionError, match="float64"):
        run(_examples(1).astype(np.float64))
