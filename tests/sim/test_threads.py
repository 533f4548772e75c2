"""Same outputs and same report bytes for any number of threads.

The simulator has no threads of its own: one call is one thread. What could go wrong is what calls share (a
module's rebuilt weights and memories, the profiler, the choice of kernels) and libraries around it that do
have threads.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm_ffi
from cli import tiny
from sim.corpus import configs, seeds
from typer.testing import CliRunner

from sd_tvm.accelerator.simulator import Profiler, create_module, load_library
from sd_tvm.accelerator.timing import time_program
from sd_tvm.cli.app import app

ROUNDS = 8


def in_threads(n: int, work: Callable[[int], Any]) -> list[Any]:
    """Results of work(0), .. work(n - 1), started at once."""
    barrier = threading.Barrier(n)
    results: list[Any] = [None] * n

    def run(i: int) -> None:
        barrier.wait()
        try:
            results[i] = work(i)
        except BaseException as error:
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def run_text(program: bytes, config: str, operands: list[np.ndarray]) -> tuple[str, bytes]:
    """Statistics and result of one program, as bytes."""
    arrays = [np.array(o) for o in operands]
    function = tvm_ffi.get_global_func("sd_accel.run")
    text = function(program, config, "timed", [tvm_ffi.from_dlpack(a) for a in arrays])
    return str(text), arrays[-1].tobytes()


def test_programs_in_two_threads() -> None:
    load_library()
    work = [(p, c, o) for c in configs()[:2] for p, o in seeds()]
    expected = [run_text(*w) for w in work]

    def all_of_them(i: int) -> list[Any]:
        # The second thread goes the other way, so that different programs run at once.
        out = []
        for _ in range(ROUNDS):
            results = [run_text(*w) for w in (work if i == 0 else work[::-1])]
            out += results if i == 0 else results[::-1]
        return out

    for result in in_threads(2, all_of_them):
        assert result == expected * ROUNDS


@pytest.mark.parametrize("shared", [True, False], ids=["one module", "two modules"])
def test_modules_and_profiler_in_two_threads(shared: bool) -> None:
    """Also one after the other in a session: the same outputs and the same records, in whatever order."""
    config = configs()[1]  # serial: time depends on the data that each thread sees
    names = [f"f{i}" for i, _ in enumerate(seeds())]
    programs = [p for p, _ in seeds()]
    modules = [create_module(config, names, ["[]"] * len(names), programs) for _ in range(1 if shared else 2)]

    def call(i: int) -> list[bytes]:
        module, out = modules[i % len(modules)], []
        for _ in range(ROUNDS):
            for name, (_, operands) in zip(names, seeds(), strict=True):
                arrays = [np.array(o) for o in operands]
                module[name](*[tvm_ffi.from_dlpack(a) for a in arrays])
                out.append(arrays[-1].tobytes())
        return out

    with Profiler() as alone:
        outputs = [call(0), call(1)]
    with Profiler() as together:
        assert in_threads(2, call) == outputs
    assert outputs[0] == outputs[1]
    counts = [Counter(json.dumps(r) for r in session.records) for session in (alone, together)]
    assert counts[0] == counts[1]
    assert sum(counts[0].values()) == 2 * ROUNDS * len(names)
    assert set(counts[0].values()) == {2 * ROUNDS}


def test_sessions_in_two_threads_exclude_each_other() -> None:
    """One session a process: whoever comes second gets the error, whole, and the first one its records."""

    def session(i: int) -> str:
        try:
            with Profiler():
                return "open"
        except Exception as error:
            return type(error).__name__

    for _ in range(20):
        seen = set(in_threads(2, session))
        assert "open" in seen
        assert seen <= {"open", "ConfigError"}


def test_timing_in_two_threads() -> None:
    programs, text = [p for p, _ in seeds()], configs()[0]
    expected = [time_program(p, text, trace=True) for p in programs]
    for result in in_threads(
        2, lambda i: [[time_program(p, text, trace=True) for p in programs] for _ in range(ROUNDS)]
    ):
        assert result == [expected] * ROUNDS


def test_reports_with_one_and_two_library_threads(tmp_path: Path) -> None:
    """Compiled and profiled by processes with 1 and 2 OpenMP, BLAS and TVM threads: the same bytes."""
    np.save(tmp_path / "x.npy", tiny.batch())
    arguments = [
        "compress",
        "cli.tiny:model",
        "-o",
        str(tmp_path / "tiny.sd"),
        "--calibration",
        "cli.tiny:data",
    ]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    seen = []
    for threads in ("1", "2"):
        folder = tmp_path / threads
        variables = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TVM_NUM_THREADS")
        command = [
            sys.executable,
            "-c",
            "from sd_tvm.cli import main; main()",
            "profile",
            tmp_path / "tiny.sd",
        ]
        done = subprocess.run(
            [*command, "-i", tmp_path / "x.npy", "-o", folder],
            env={**os.environ, **dict.fromkeys(variables, threads)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        seen.append({p.name: p.read_bytes() for p in sorted(folder.iterdir())})
    assert {"report.json", "report.csv", "report.html"} <= set(seen[0])
    assert seen[0] == seen[1]
