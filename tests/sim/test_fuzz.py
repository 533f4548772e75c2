"""Mutated programs under AddressSanitizer and UndefinedBehaviorSanitizer: typed errors, nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sim.corpus import fuzz_input, seeds
from sim.kit import CONFIG

from sd_tvm.accelerator.simulator import run_program

ROOT = Path(__file__).parents[2]
SECONDS = int(os.environ.get("SD_FUZZ_SECONDS", "5"))


def _tool(name: str) -> str:
    """A program of the environment that runs the tests, or of the system."""
    path = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    assert path is not None, f"{name} is needed to build the fuzzer"
    return path


def test_seeds_run_to_the_end() -> None:
    for program, operands in seeds():
        run_program(program, CONFIG, operands)


@pytest.fixture(scope="module")
def fuzzer() -> Path:
    """The driver, built with sanitizers into build/fuzz (incremental)."""
    build = ROOT / "build" / "fuzz"
    configure = [
        _tool("cmake"),
        "-S",
        str(ROOT),
        "-B",
        str(build),
        "-G",
        "Ninja",
        f"-DCMAKE_MAKE_PROGRAM={_tool('ninja')}",
        "-DSD_FUZZ=ON",
        "-DCMAKE_BUILD_TYPE=None",
        "-DCMAKE_CXX_FLAGS=-O1 -g1",
        f"-DPython_EXECUTABLE={sys.executable}",
    ]
    for command in (configure, [_tool("cmake"), "--build", str(build), "--target", "sd_fuzz_program"]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return build / "accelerator" / "fuzz" / "sd_fuzz_program"


@pytest.mark.parametrize("kernels", ["portable", "best"])
def test_mutated_programs(fuzzer: Path, tmp_path: Path, kernels: str) -> None:
    files = []
    for i, (program, operands) in enumerate(seeds()):
        path = tmp_path / f"seed{i}"
        path.write_bytes(fuzz_input(program, operands))
        files.append(str(path))
    done = subprocess.run(
        [str(fuzzer), str(SECONDS), "1", *files],
        env={**os.environ, "SD_KERNELS": kernels},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    runs = int(done.stdout.split()[0])
    assert runs > 50 * SECONDS, f"only {runs} runs"
