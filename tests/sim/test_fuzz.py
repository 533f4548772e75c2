"""Fuzzing under AddressSanitizer and UndefinedBehaviorSanitizer: typed errors and results, nothing else.

With libFuzzer where clang++ has it, else with the driver of `accelerator/fuzz` (same mutations, no coverage).
A minute in all; `SD_FUZZ_SECONDS` is the time of each of the three runs.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from sim.corpus import configs, seeds, write_module_corpus, write_program_corpus

from sd_tvm.accelerator.simulator import run_program

ROOT = Path(__file__).parents[2]
SECONDS = int(os.environ.get("SD_FUZZ_SECONDS", "20"))
SEED = 1
LIBFUZZER = 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }\n'


def _tool(name: str) -> str:
    """A program of the environment that runs the tests, or of the system."""
    path = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    assert path is not None, f"{name} is needed to build the fuzzer"
    return path


def test_seeds_run_to_the_end() -> None:
    for config in configs():
        for program, operands in seeds():
            run_program(program, config, operands, "timed")


def _has_libfuzzer(clang: str, folder: Path) -> bool:
    source = folder / "probe.cc"
    source.write_text(LIBFUZZER)
    command = [clang, "-fsanitize=fuzzer,address,undefined", str(source), "-o", str(folder / "probe")]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the fuzzers, built with sanitizers (incremental)."""
    clang = shutil.which("clang++")
    compiler = []
    if clang is not None and _has_libfuzzer(clang, tmp_path_factory.mktemp("probe")):
        compiler = [f"-DCMAKE_CXX_COMPILER={clang}"]
    else:
        warnings.warn(
            "no clang++ with libFuzzer (Debian: clang): fuzzing without coverage feedback", stacklevel=1
        )
    folder = ROOT / "build" / ("fuzz-clang" if compiler else "fuzz")
    configure = [
        _tool("cmake"),
        "-S",
        str(ROOT),
        "-B",
        str(folder),
        "-G",
        "Ninja",
        f"-DCMAKE_MAKE_PROGRAM={_tool('ninja')}",
        "-DSD_FUZZ=ON",
        "-DCMAKE_BUILD_TYPE=None",
        "-DCMAKE_CXX_FLAGS=-O1 -g1",
        f"-DPython_EXECUTABLE={sys.executable}",
        *compiler,
    ]
    targets = ["--target", "sd_fuzz_program", "sd_fuzz_module"]
    for command in (configure, [_tool("cmake"), "--build", str(folder), *targets]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "accelerator" / "fuzz"


@pytest.mark.parametrize(
    ("name", "write", "kernels"),
    [
        ("sd_fuzz_program", write_program_corpus, "best"),
        ("sd_fuzz_program", write_program_corpus, "portable"),
        ("sd_fuzz_module", write_module_corpus, "best"),
    ],
)
def test_fuzz(
    build: Path,
    tmp_path: Path,
    name: str,
    write: Callable[[Path], None],
    kernels: str,
    record_property: Callable[[str, object], None],
) -> None:
    write(tmp_path / "seeds")
    (tmp_path / "found").mkdir()
    done = subprocess.run(
        [
            str(build / name),
            f"-max_total_time={SECONDS}",
            f"-seed={SEED}",
            "-max_len=20000",
            "-len_control=0",
            "-mutate_depth=2",
            "-timeout=60",
            "-rss_limit_mb=3000",
            f"-artifact_prefix={tmp_path}/",
            str(tmp_path / "found"),
            str(tmp_path / "seeds"),
        ],
        env={**os.environ, "SD_KERNELS": kernels},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    reached = re.search(r"^reached: (.*)$", done.stderr, re.MULTILINE)
    assert reached is not None, done.stderr[-2000:]
    counts = {k: int(v) for k, v in (pair.split("=") for pair in reached[1].split())}
    record_property("seen", f"{name}, {kernels} kernels, {SECONDS} s, seed {SEED}: {reached[1]}")
    assert counts["runs"] > 20 * SECONDS
    # Inputs must get past the checks, else nothing but the parser is tested.
    for stage in ("executed", "timed", "serial") if name == "sd_fuzz_program" else ("loaded", "finished"):
        assert counts[stage] > counts["runs"] // 200, f"{stage}: {reached[1]}"
