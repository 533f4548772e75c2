"""Compile jobs: what one interpreter asks of another, and how errors come back."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from relay_import.relayfiles import array, cases

import sd_tvm
import sd_tvm.relay
from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.simulator import Profiler
from sd_tvm.errors import FormatError, OptionError, UnsupportedModelError
from sd_tvm.execute import Runner as Machine
from sd_tvm.execute import compile_module
from sd_tvm.plan.job import INTERPRETER, JOB, MODEL, Job, read_job, run_job, write_job
from sd_tvm.plan.run import Runner
from sd_tvm.plan.serve import serve
from sd_tvm.recipe import Recipe

CASE = cases("0.16")["net-nhwc"]
X = array(CASE["inputs"]["x"])
CALIBRATION = [(X,), (-X,)]


def _job(n: int = 2) -> Job:
    config = AcceleratorConfig.load().to_described_text()
    return Job(config, Recipe.named("sd-8:16").to_dict(), calibration=n)


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """This interpreter, which finds the package that is tested."""
    script = tmp_path / "python"
    root = Path(sd_tvm.__file__).parent.parent
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{root}" exec "{sys.executable}" "$@"\n')
    script.chmod(0o755)
    return script


def test_another_interpreter_compiles(python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    write_job(folder, _job(), CASE["json"], CALIBRATION)
    assert len(read_job(folder)[2]) == 2
    monkeypatch.setenv(INTERPRETER, str(python))
    monkeypatch.setenv("PYTHONPATH", "/nowhere")  # of this process; the other one does not see it
    result = run_job(folder)
    assert not [w for w in result.warnings if "run time" in w]

    model = sd_tvm.load(folder / MODEL)
    machine = Machine(compile_module(model.to_relax(), config=AcceleratorConfig.load()).executable)
    with Profiler() as wanted:
        expected = machine(X)
    with Profiler() as seen:
        found = Runner(result.plan)(X)
    np.testing.assert_array_equal(found[0], expected[0])
    assert seen.totals == wanted.totals


def test_errors_come_back_as_they_are(python: Path, tmp_path: Path) -> None:
    write_job(tmp_path, _job(0), '{"nodes": "none"}')
    with pytest.raises(UnsupportedModelError) as direct:
        sd_tvm.relay.load('{"nodes": "none"}')
    with pytest.raises(UnsupportedModelError) as raised:
        run_job(tmp_path, python)
    assert str(raised.value) == str(direct.value)


def test_warnings_come_back(tmp_path: Path) -> None:
    write_job(tmp_path, _job(0), CASE["json"])
    serve(tmp_path)
    assert "run time" in " ".join(json.loads((tmp_path / "result.json").read_text())["warnings"])


def test_no_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(INTERPRETER, raising=False)
    write_job(tmp_path, _job(0), CASE["json"])
    with pytest.raises(OptionError, match=INTERPRETER):
        run_job(tmp_path)
    with pytest.raises(OptionError, match="does not run"):
        run_job(tmp_path, tmp_path / "no-python")
    with pytest.raises(OptionError, match="cannot compile"):
        run_job(tmp_path, "false")


def test_damaged_jobs(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no compile job"):
        read_job(tmp_path)
    write_job(tmp_path, _job(1), CASE["json"], CALIBRATION[:1])
    facts = json.loads((tmp_path / JOB).read_text())
    (tmp_path / JOB).write_text(json.dumps({**facts, "version": 99}))
    with pytest.raises(FormatError, match="version 99"):
        read_job(tmp_path)
    (tmp_path / JOB).write_text(json.dumps({**facts, "surprise": 1}))
    with pytest.raises(FormatError, match="no compile job"):
        read_job(tmp_path)
