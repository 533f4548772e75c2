"""Whether the device works here: what every peer uses and returns, outside of it and inside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from sd_tvm.errors import UnsupportedCPUError

#: Largest difference of a result (Frobenius, relative): other kernels round elsewhere, and on AVX2
#: onnxruntime's sums of two products of bytes saturate at 16 bits.
TOLERANCE = 0.05
_STATES = {5: "masks", 6: "upper halves of zmm0-15", 7: "zmm16-31"}


def words(state: int) -> str:
    """AVX-512 state by name."""
    return ", ".join(name for bit, name in _STATES.items() if state >> bit & 1) or "none"


def check() -> dict[str, Any]:
    """Run the probe with the installed packages and with the copies; called inside the device.

    Returns
    -------
    dict
        ``calls`` (name -> AVX-512 state ``without`` and ``with`` the device, relative ``difference`` of the
        results), ``torch`` (its own word), ``failed`` (name -> why).

    Raises
    ------
    UnsupportedCPUError
        If a peer inside the device used AVX-512 state, computed something else, or a probe failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        site, *rest = os.environ["PYTHONPATH"].split(os.pathsep)
        outside = {"PYTHONPATH": os.pathsep.join(rest), "ATEN_CPU_CAPABILITY": "", "ONEDNN_MAX_CPU_ISA": ""}
        installed = _probe(Path(folder) / "without.npz", os.environ | outside)
        copies = _probe(Path(folder) / "with.npz", dict(os.environ))
    about, before = copies[0], installed[0]
    calls = {}
    for name, state in about["states"].items():
        a, b = installed[1].get(name), copies[1][name]
        if a is None:
            raise UnsupportedCPUError(
                f"{name} runs with the copies only",
                expected="a result of the installed library to compare with",
            )
        difference = float(np.linalg.norm(a - b) / np.linalg.norm(a))
        calls[name] = {
            "without": words(before["states"][name]),
            "with": words(state),
            "difference": float(f"{difference:.1e}"),
        }
        if state or difference > TOLERANCE:
            raise UnsupportedCPUError(
                f"{name} inside the device: AVX-512 state {words(state)}, results {difference:.1e} apart",
                expected=f"no such state, and results within {TOLERANCE}",
                fix="measure without --isa",
            )
    if not about["answered"]:
        raise UnsupportedCPUError(f"no cpuid was answered: the copies in {site} were not loaded")
    return {"calls": calls, "torch": about["torch"], "failed": about["failed"]}


def _probe(path: Path, environment: dict[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    command = [sys.executable, "-W", "ignore", "-m", f"{__package__}.probe", str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        tail = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise UnsupportedCPUError(f"the probe of the peers failed: {tail[0]}", fix="measure without --isa")
    with np.load(path) as found:
        arrays = {name: found[name] for name in found.files}
    about: dict[str, Any] = json.loads(str(arrays.pop("about")))
    return about, arrays
