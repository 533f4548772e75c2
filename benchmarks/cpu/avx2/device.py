"""Builds the device and starts this program again inside it."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

from sd_tvm.errors import OptionError, UnsupportedCPUError

from . import bits
from .patch import copy_package

#: Packages of the peers.
PACKAGES = ("onnxruntime", "openvino", "torch")
_ACTIVE = "SD_BENCH_AVX2"
_SOURCE = Path(__file__).with_name("mask.c")
#: libc's string functions choose by these; numpy is no peer, but must not touch the state that is looked at.
_GLIBC = ("AVX512F", "AVX512CD", "AVX512BW", "AVX512DQ", "AVX512VL")
_NUMPY = (
    "AVX512F",
    "AVX512CD",
    "AVX512_SKX",
    "AVX512_CLX",
    "AVX512_CNL",
    "AVX512_ICL",
    "AVX512_SPR",
    "X86_V4",
)


def active() -> bool:
    """Whether this process runs inside the device."""
    return _ACTIVE in os.environ


def prepare(cache: Path) -> dict[str, str]:
    """Make the copies and the preloaded library, if they are not there.

    Returns
    -------
    dict
        The environment of a process inside the device.

    Raises
    ------
    UnsupportedCPUError
        On another system than x86-64 Linux.
    OptionError
        If there is no C compiler or disassembler.
    """
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        raise UnsupportedCPUError("cpuid can be answered on x86-64 Linux only", fix="leave out --isa")
    library = _library(cache)
    site = cache / "site"
    stamps = cache / "stamps"
    stamps.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        stamp = stamps / package
        want = _version(package)
        if stamp.exists() and stamp.read_text().split(" ")[0] == want:
            continue
        shutil.rmtree(site / package, ignore_errors=True)
        print(f"{package}: replacing cpuid in a copy, minutes", file=sys.stderr, flush=True)
        count = copy_package(package, site, cache / "sites")
        stamp.write_text(f"{want} {count}")
    return os.environ | {
        _ACTIVE: str(library),
        "LD_PRELOAD": str(library),
        "PYTHONPATH": os.pathsep.join(p for p in (str(site), os.environ.get("PYTHONPATH", "")) if p),
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=" + ",".join(f"-{name}" for name in _GLIBC),
        "NPY_DISABLE_CPU_FEATURES": " ".join(_NUMPY),
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    }


def replaced(cache: Path) -> dict[str, int]:
    """``cpuid`` instructions replaced in each package."""
    found = {p: (cache / "stamps" / p).read_text().split(" ")[1] for p in PACKAGES}
    return {p: int(n) for p, n in found.items() if n != "None"}


def zmm_states(*, forget: bool = False) -> int:
    """AVX-512 state used in any thread since the last ``forget``: bits 5 to 7 of XSTATE_BV.

    Raises
    ------
    UnsupportedCPUError
        If a thread did not answer.
    """
    found: int = _loaded().sd_zmm_states(int(forget))
    if found < 0:
        raise UnsupportedCPUError("a thread did not say what state it used", fix="run it again")
    return found


def answered() -> int:
    """How many times ``cpuid`` was answered in this process."""
    function = _loaded().sd_answered
    function.restype = ctypes.c_long
    count: int = function()
    return count


def _loaded() -> ctypes.CDLL:
    return ctypes.CDLL(os.environ[_ACTIVE])


def _version(package: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def _library(cache: Path) -> Path:
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise OptionError("no C compiler", expected="cc, or CC=...", fix="install gcc")
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "masked.h").write_text(bits.header())
    library = (cache / "libsd_mask.so").resolve()
    command = [compiler, "-O2", "-Wall", "-shared", "-fPIC", f"-I{cache}", str(_SOURCE), "-o", str(library)]
    subprocess.run(command, check=True)
    return library
