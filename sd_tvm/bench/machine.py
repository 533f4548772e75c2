"""What machine this is, and which versions are installed."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path
from typing import Any

#: Features of processors that decide speed here, as Linux names them.
_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp")
#: Packages of contestants.
PACKAGES = ("torch", "onnxruntime", "openvino", "apache-tvm", "numpy")


def machine() -> dict[str, Any]:
    """Processor, logical CPUs, features, load of the last minute."""
    names, flags = set(), set()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "CPU part"):
            names.add(value.strip())
        if key.strip() in ("flags", "Features"):
            flags |= set(value.split())
    return {
        "cpu": ", ".join(sorted(names)) or "unknown",
        "logical cpus": os.cpu_count(),
        "features": [f for f in _FEATURES if f in flags],
        "load at start": os.getloadavg()[0],
    }


def versions() -> dict[str, str]:
    """Versions of :data:`PACKAGES`."""
    out = {}
    for package in PACKAGES:
        try:
            out[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            out[package] = "not installed"
    return out
