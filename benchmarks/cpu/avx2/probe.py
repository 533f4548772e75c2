"""One small call of every peer: results, and the AVX-512 state that it used. ``python -m ... FILE.npz``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from sd_tvm.bench.contestant import Maker, gather

from .. import peers
from ..shapes import Conv, Dense
from . import device

Array = np.ndarray[Any, Any]


def contestants() -> dict[str, Maker]:
    """Every library and number format, on a dense layer and on a convolution.

    Not TVM, which asks no processor: it compiles for what it is told.
    """
    rng = np.random.default_rng
    made = {f"dense, {n}": m for n, m in peers.dense(Dense(512, 512), None, rng(0)).items()}
    made |= {f"dense of 16, {n}": m for n, m in peers.dense(Dense(512, 512, 16), None, rng(1)).items()}
    return made | {f"conv, {n}": m for n, m in peers.conv(Conv(64, 64, 28, 3), None, rng(2)).items()}


def main(path: str) -> int:
    """Run them, write what came out."""
    results: dict[str, Array] = {}
    states: dict[str, int] = {}
    failed: dict[str, str] = {}
    for name, maker in contestants().items():
        found, missing = gather({name: maker})
        failed |= missing
        for contestant in found:
            results[name], states[name] = _once(contestant.call)
    about = {"states": states, "failed": failed, "answered": device.answered(), "torch": _torch()}
    np.savez(path, about=json.dumps(about), **results)
    return 0


def _once(call: Callable[[], object]) -> tuple[Array, int]:
    call()
    device.zmm_states(forget=True)
    out = call()
    state = device.zmm_states()
    first = out[0] if isinstance(out, list) or not hasattr(out, "numpy") else out
    return np.array(first, dtype=np.float64), state


def _torch() -> str:
    try:
        import torch
    except ImportError:
        return ""
    return str(torch.backends.cpu.get_cpu_capability())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
