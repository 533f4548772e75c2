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
    q = np.zeros_like(basis)
    low = np.zeros_like(basis)
    for i in range(s):
        rest = basis[:, i].copy()
        for _ in range(2):  # twice is enough for full accuracy
            for j in range(i):
                part = (rest * q[:, j]).sum(axis=1)
                low[:, i, j] += part
                rest -= part[:, None] * q[:, j]
        norm = np.sqrt((rest * rest).sum(axis=1))
        whole = np.sqrt((basis[:, i] * basis[:, i]).sum(axis=1))
        fine = norm > 1e-5 * whole
        low[:, i, i] = np.where(fine, norm, 0)
        q[:, i] = rest * (fine / np.where(fine, norm, 1))[:, None]
    return q, low


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
    out = np.empty_like(target)
    step_n = max(1, _CHUNK // r)
    for a in range(0, n, step_n):
        part = slice(a, a + step_n)
        for b in range(0, r, _CHUNK):
            y = target[part, b : b + _CHUNK] @ q[part].transpose(0, 2, 1)
            planes = [np.ascontiguousarray(y[:, :, i]) for i in range(s)]
            now = None if current is None else current[part, b : b + _CHUNK]
            found = _Search(low[part], levels, branches).run(planes, now)
            for i in range(s):
                out[part, b : b + _CHUNK, i] = found[i]
    return out


class _Search:
    """One chunk of a search; coefficient S-1 first, since L makes it alone in its column."""

    def __init__(self, low: Array, levels: Levels, branches: Sequence[int]) -> None:
        self.s = low.shape[1]
        self.low = low
        self.levels = levels
        self.branches = [*branches[: self.s - 1]] + [1] * max(1, self.s - len(branches))
        diagonal = np.einsum("nii->ni", low)
        self.inverse = np.where(diagonal > 0, 1 / np.where(diagonal > 0, diagonal, 1), 0).astype(low.dtype)

    def run(self, y: list[Array], current: Array | None) -> list[Array]:
        """Best coefficient planes for target planes y (each (N, R)), in coordinates of Q."""
        self.best = np.full(y[0].shape, np.inf, dtype=y[0].dtype)
        self.found = [np.zeros_like(p) for p in y]
        if current is not None:
            self.found = [np.ascontiguousarray(current[:, :, i], dtype=y[0].dtype) for i in range(self.s)]
            rest = np.stack(y, axis=2) - current @ self.low
            self.best = np.asarray((rest * rest).sum(axis=2))
        self.path: list[Array] = [y[0]] * self.s
        self._descend(self.s - 1, y, None)
        return self.found

    def _descend(self, i: int, y: list[Array], cost: Array | None) -> None:
        entry = self.levels.entry(y[i] * self.inverse[:, i, None])
        for rank in range(min(self.branches[self.s - 1 - i], len(self.levels.values))):
            c = self.levels.ranked[rank][entry]
            self.path[i] = c
            rest = [y[j] - c * self.low[:, i, j, None] for j in range(i + 1)]
            total = rest[i] * rest[i]
            if cost is not None:
                total += cost
            if i:
                self._descend(i - 1, rest, total)
                continue
            better = total < self.best
            np.copyto(self.best, total, where=better)
            for k in range(self.s):
                np.copyto(self.found[k], self.path[k], where=better)
