"""The official algorithm as written in the paper's notes and its code: one slice, plain steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import lstsq

Matrix = np.ndarray[Any, Any]


def round_pow2(x: float) -> float:
    """Nearest power of two: the switch is at 1.5 * 2^k."""
    if x == 0:
        return 0.0
    k = int(np.floor(np.log2(x)))
    return 2.0**k if x <= 1.5 * 2.0**k else 2.0 ** (k + 1)


def quantise(c: Matrix, max_c: float, column_scale: bool) -> Matrix:
    out = np.zeros_like(c)
    for k in range(c.shape[1]):
        logs = [np.log2(abs(v)) for v in c[:, k] if v != 0]
        d = 2.0 ** np.mean([np.round(v) - v for v in logs]) if column_scale and logs else 1.0
        for r in range(c.shape[0]):
            out[r, k] = np.sign(c[r, k]) * min(round_pow2(abs(c[r, k]) * d), max_c)
    return out


def decompose(
    w: Matrix,
    theta: float = 4e-3,
    tol: float = 1e-10,
    iterations: int = 30,
    decay: float = 0.1,
    max_c: float = 32.0,
    row_threshold: bool = False,
    column_scale: bool = False,
) -> tuple[Matrix, Matrix, float]:
    """(Ce, B, theta used)."""
    c, s = w.copy(), w.shape[1]
    previous = None
    for _ in range(iterations - 1):
        q = quantise(c, max_c, column_scale)
        if previous is not None and np.linalg.norm(q - previous) <= tol:
            break
        previous = q
        b = lstsq(q, w, cond=1e-10)[0]
        c = lstsq(b.T, w.T, cond=1e-10)[0].T
        for r in range(len(c)):
            if row_threshold and sum(abs(v) for v in c[r]) < 5 * theta:
                c[r] = 0
            for k in range(s):
                if abs(c[r, k]) < theta:
                    c[r, k] = 0
        if any(not c[:, k].any() and w[:, k].any() for k in range(s)):
            return decompose(w, theta * decay, tol, iterations, decay, max_c, row_threshold, column_scale)
    q = quantise(c, max_c, column_scale)
    return q, lstsq(q, w, cond=1e-10)[0], theta
