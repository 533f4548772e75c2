"""The code search in NumPy, all rows at once: an independent way to what the library does row by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sd_tvm.decompose.fit import refit_basis
from sd_tvm.decompose.search import Levels

Array = np.ndarray[Any, Any]


def triangular(basis: Array) -> tuple[Array, Array]:
    """Orthonormal rows Q and lower triangular L with basis = L Q, for a batch (N, S, S).

    A row that depends on the earlier ones has a zero diagonal in L.
    """
    s = basis.shape[1]
    planes = np.ascontiguousarray(basis.transpose(1, 2, 0))  # row, element, batch
    q, low = np.zeros_like(planes), np.zeros_like(planes)
    times = 2 if planes.dtype == np.float32 else 1  # a second time makes up for short floats
    for i in range(s):
        rest = planes[i].copy()
        whole = (rest * rest).sum(axis=0)
        for j in [*range(i)] * times:
            part = (rest * q[j]).sum(axis=0)
            low[i, j] += part
            rest -= part * q[j]
        square = (rest * rest).sum(axis=0)
        fine = square > 1e-10 * whole
        norm = np.sqrt(np.where(fine, square, 1))
        low[i, i] = np.where(fine, norm, 0)
        q[i] = rest * (fine / norm)
    return q.transpose(2, 0, 1), low.transpose(2, 0, 1)


def search(
    target: Array, basis: Array, levels: Levels, branches: Sequence[int], current: Array | None
) -> Array:
    """Coefficients (N, R, S), like :func:`sd_tvm.decompose.search.search_codes`."""
    q, low = triangular(basis)
    low = np.ascontiguousarray(low.transpose(1, 2, 0))[..., None]
    wide = [min(b, len(levels.values)) for b in branches[: target.shape[2] - 1]]
    y = target @ q.transpose(0, 2, 1)
    now = None if current is None else current.transpose(2, 0, 1)
    found = _search_planes(np.ascontiguousarray(y.transpose(2, 0, 1)), low, levels, wide, now)
    return found.transpose(1, 2, 0)


def _search_planes(
    y: Array, low: Array, levels: Levels, branches: Sequence[int], current: Array | None
) -> Array:
    """Best coefficients (S, N, R) for targets y (S, N, R), given c . L with L (S, S, N, 1).

    Coefficient S-1 goes first, since L leaves it alone in its column. ``paths`` live on a leading axis.
    """
    s = y.shape[0]
    rest = y[:, None]  # S, paths, N, R
    cost = np.zeros((1, 1, 1), dtype=y.dtype)
    chosen: list[tuple[Array, int]] = []  # coefficients (paths, N, R) and paths that came of each
    for depth, i in enumerate(range(s - 1, -1, -1)):
        diagonal = low[i, i]
        inverse = np.where(diagonal > 0, 1 / np.where(diagonal > 0, diagonal, 1), 0).astype(y.dtype)
        entry = levels.entry(rest[i] * inverse)
        ranks = branches[depth] if depth < len(branches) else 1
        c = levels.ranked[:ranks, entry].astype(y.dtype, copy=False)  # ranks, paths, N, R
        error = rest[i] - c * diagonal
        cost = (error * error + cost).reshape(-1, *y.shape[1:])
        if i:
            rest = np.stack([(rest[j] - c * low[i, j]).reshape(cost.shape) for j in range(i)])
        chosen.append((c.reshape(cost.shape), ranks))
    best = cost.argmin(axis=0)[None]
    least = np.take_along_axis(cost, best, axis=0)[0]
    out = np.empty_like(y)
    for i, (c, ranks) in enumerate(reversed(chosen)):
        out[i] = np.take_along_axis(c, best, axis=0)[0]
        best = best % (c.shape[0] // ranks)
    if current is not None:
        now = current.astype(y.dtype)
        error = y.copy()
        for i in range(s):
            error[: i + 1] -= now[i] * low[i, : i + 1]
        keep = (error * error).sum(axis=0) <= least
        np.copyto(out, now, where=keep)
    return out


def fit_slices(
    rows: Array, levels: Levels, branches: Sequence[int], factors: Array, rounds: int
) -> tuple[Array, Array]:
    """Coefficients and bases, like :func:`sd_tvm.decompose.native.fit_slices`."""
    basis = first_basis(rows, levels, factors)
    coef = search(rows, basis, levels, branches, None)
    for _ in range(rounds):
        basis = refit_basis(coef, rows, basis)
        coef = search(rows, basis, levels, branches, coef)
    return coef, basis


def first_basis(rows: Array, levels: Levels, factors: Array) -> Array:
    """step * identity for every filter, the step of least error among a few."""
    n, _, s = rows.shape
    top = np.abs(rows).max(axis=(1, 2)) / levels.values.max()
    best = np.full(n, np.inf)
    step = np.ones(n, dtype=rows.dtype)
    for factor in factors:
        trial = np.where(top > 0, top * factor, 1.0).astype(rows.dtype)[:, None, None]
        error = ((levels.nearest(rows / trial) * trial - rows) ** 2).sum(axis=(1, 2))
        step = np.where(error < best, trial[:, 0, 0], step)
        best = np.minimum(best, error)
    return np.asarray(step[:, None, None] * np.eye(s, dtype=rows.dtype))
