"""Speed of the solver: a slice without data against the official algorithm, and a whole calibrated network.

    python -m benchmarks.solver slices
    python -m benchmarks.solver network --images FOLDER --count 200

CPU time of one thread, so that other work on the machine counts little. The official algorithm is timed as
its code runs it, slice by slice in NumPy; ``tests/decompose/official_reference.py`` has plain loops.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm._blas import one_blas_thread
from sd_tvm.decompose.basis8 import relative_error
from sd_tvm.decompose.fit import fit
from sd_tvm.decompose.official import decompose_official
from sd_tvm.weights.tensor import WeightForm

Array = npt.NDArray[Any]
ROWS, S = 192, 3  # the official code's largest slice


def official_slice(w: Array, theta: float = 4e-3, iterations: int = 30) -> tuple[Array, Array]:
    """(Ce, B) of one matrix by the official algorithm, one NumPy call after the other."""
    c, before = w.copy(), None
    for _ in range(iterations - 1):
        q = _powers(c)
        if before is not None and np.linalg.norm(q - before) <= 1e-10:
            break
        before = q
        b = np.linalg.lstsq(q, w, rcond=1e-10)[0]
        c = np.linalg.lstsq(b.T, w.T, rcond=1e-10)[0].T
        c[np.abs(c) < theta] = 0
    q = _powers(c)
    return q, np.linalg.lstsq(q, w, rcond=1e-10)[0]


def _powers(c: Array, largest: float = 32.0) -> Array:
    """Signed powers of two nearest in value."""
    magnitude = np.abs(c)
    low = np.exp2(np.floor(np.log2(np.where(magnitude > 0, magnitude, 1))))
    nearest = np.where(magnitude <= 1.5 * low, low, 2 * low)
    return np.where(magnitude > 0, np.sign(c) * np.minimum(nearest, largest), 0)


def cpu(function: Callable[[], Any], repeats: int) -> float:
    """Least CPU seconds of a call."""
    least = np.inf
    for _ in range(repeats):
        start = time.process_time()
        function()
        least = min(least, time.process_time() - start)
    return least


@one_blas_thread
def slices(count: int = 512, repeats: int = 5) -> dict[str, Any]:
    """Microseconds of CPU a slice, and relative errors, on Gaussian slices."""
    w = np.random.default_rng(0).normal(size=(count, ROWS * S, 1, 1)).astype(np.float32) * 0.05
    matrices = w.reshape(count, ROWS, S).astype(np.float64)
    some = matrices[:32]
    found: dict[str, Any] = {"slice": [ROWS, S], "slices": count}
    error = [np.linalg.norm(m - q @ b) / np.linalg.norm(m) for m in some for q, b in [official_slice(m)]]
    found["official, slice by slice"] = {
        "us": 1e6 * cpu(lambda: [official_slice(m) for m in some], repeats) / len(some),
        "error": float(np.mean(error)),
    }
    calls: dict[str, Callable[[], Any]] = {
        "official, all slices at once": lambda: decompose_official(w, slice_rows=0),
    }
    for alphabet in ("pow2-7", "two-term", "levels5"):
        calls[f"alternating, {alphabet}"] = lambda a=alphabet: fit(w, WeightForm(alphabet=a))  # type: ignore[misc]
    for name, call in calls.items():
        found[name] = {"us": 1e6 * cpu(call, repeats) / count, "error": relative_error(w, call())}
    base = found["official, slice by slice"]["us"]
    for name in calls:
        found[name]["times as fast"] = base / found[name]["us"]
    return found


def network(folder: Path, count: int) -> dict[str, Any]:
    """CPU and wall seconds of compressing EfficientNet-Lite0 with calibration images."""
    import sd_tvm
    from sd_tvm.data.samples import read_image
    from sd_tvm.models import efficientnet_lite0

    files = sorted(folder.glob("*.jpg"), key=lambda p: int(p.stem))
    chosen = np.random.default_rng(0).permutation(len(files))[:count]
    images = efficientnet_lite0.preprocess_all(read_image(files[i]) for i in chosen)
    wall, spent = time.time(), time.process_time()
    sd_tvm.compress("sd_tvm.models.efficientnet_lite0:model", calibration=images)
    return {"images": count, "cpu_seconds": time.process_time() - spent, "seconds": time.time() - wall}


def main(arguments: Sequence[str]) -> int:
    """Measure one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["slices", "network"])
    parser.add_argument("--images", type=Path, help="folder of CLASS.jpg, for network")
    parser.add_argument("--count", type=int, default=200, help="images, for network")
    options = parser.parse_args(arguments)
    if options.what == "network" and options.images is None:
        parser.error("network needs --images")
    found = slices() if options.what == "slices" else network(options.images, options.count)
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
