"""Search for coefficient rows: the c in alphabet^S that brings c . B nearest to a target row.

The basis is made triangular (Gram-Schmidt), then levels are chosen one coefficient after the other: the
first two try several nearest levels, the rest the nearest one (a fixed-complexity sphere decoder; Babai's
nearest plane is the case of one level everywhere, and S = 3 with every level twice is exact). All rows and
filters at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm.weights.alphabet import get_alphabet

Array = npt.NDArray[Any]
_CHUNK = 1 << 15
#: Levels tried by depth; deeper ones take the nearest alone.
BRANCHES = (3, 3)
#: Every level of any alphabet, so that rows of three are searched exactly.
EXACT = (15, 15)


@dataclass(frozen=True)
class Levels:
    """Ranked nearest levels of an alphabet by table look-up.

    All levels are integers, so the order of their distances to x changes only at multiples of one half,
    and floor(2 x) says exactly which level is nearest, second, and so on.

    Attributes
    ----------
    values
        Distinct levels, ascending, float32.
    ranked
        float32 (ranks, entries): level of each rank for entry floor(2 x) + offset.
    offset
        Entry of x = 0.
    """

    values: Array
    ranked: Array
    offset: int

    def entry(self, x: Array) -> npt.NDArray[np.int32]:
        """Entry of the look-up table of each x."""
        e = np.floor(2 * x)
        np.clip(e, -self.offset, self.offset - 1, out=e)
        return np.asarray(e + self.offset, dtype=np.int32)

    def nearest(self, x: Array) -> Array:
        """Nearest level of each x, float32."""
        return np.asarray(self.ranked[0][self.entry(x)])


@lru_cache
def levels_of(alphabet: str) -> Levels:
    """Levels of an alphabet by name.

    Raises
    ------
    RecipeError
        If there is none of that name.
    """
    values = np.unique(get_alphabet(alphabet).table.astype(np.float32))
    top = int(values.max()) + 1
    middle = (np.arange(-2 * top, 2 * top) + 0.5) / 2
    order = np.argsort(np.abs(middle[:, None] - values), axis=1, kind="stable")
    return Levels(values, np.ascontiguousarray(values[order].T), 2 * top)


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


def search_codes(
    target: Array,
    basis: Array,
    levels: Levels,
    branches: Sequence[int] = BRANCHES,
    current: Array | None = None,
) -> Array:
    """Coefficients that bring c . B near to the targets in the Euclidean norm.

    Parameters
    ----------
    target
        Float (N, R, S).
    basis
        Float (N, S, S); every one serves R rows.
    levels
        The alphabet.
    branches
        Levels tried by depth.
    current
        Coefficients to keep where none better is found, (N, R, S).

    Returns
    -------
    array
        (N, R, S) of the target's dtype. A zero target gives zero coefficients.
    """
    n, r, s = target.shape
    q, low = triangular(basis)
    low = np.ascontiguousarray(low.transpose(1, 2, 0))[..., None]  # S, S, N, 1
    wide = [min(b, len(levels.values)) for b in branches[: s - 1]]
    chunk = max(1, _CHUNK // int(np.prod(wide)))
    out = np.empty_like(target)
    step_n = max(1, chunk // r)
    for a in range(0, n, step_n):
        part = slice(a, a + step_n)
        turn = q[part].transpose(0, 2, 1)
        for b in range(0, r, chunk):
            some = target[part, b : b + chunk]
            y = (some[:, 0, :, None] * turn).sum(axis=1)[:, None] if r == 1 else some @ turn
            found = _search_planes(
                np.ascontiguousarray(y.transpose(2, 0, 1)),
                low[:, :, part],
                levels,
                wide,
                None if current is None else current[part, b : b + chunk].transpose(2, 0, 1),
            )
            out[part, b : b + chunk] = found.transpose(1, 2, 0)
    return out


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
