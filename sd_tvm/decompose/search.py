"""Search for coefficient rows: the c in alphabet^S that brings c . B nearest to a target row.

The basis is made triangular (Gram-Schmidt), then levels are chosen one coefficient after the other: the
first two try several nearest levels, the rest the nearest one (a sphere decoder of bounded width; Babai's
nearest plane is the case of one level everywhere, and S = 3 with every level twice is exact). The library
(:mod:`sd_tvm.decompose.native`) goes depth-first and leaves a branch when its error exceeds the best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm.decompose import native
from sd_tvm.weights.alphabet import get_alphabet

Array = npt.NDArray[Any]
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

    @cached_property
    def by_entry(self) -> Array:
        """float32 (entries, ranks): the table the other way round."""
        return np.ascontiguousarray(self.ranked.T)

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
    return make_levels(get_alphabet(alphabet).table)


def make_levels(levels: Array) -> Levels:
    """Ranked levels of any small set of integers."""
    values = np.unique(levels.astype(np.float32))
    top = int(np.abs(values).max()) + 1
    middle = (np.arange(-2 * top, 2 * top) + 0.5) / 2
    order = np.argsort(np.abs(middle[:, None] - values), axis=1, kind="stable")
    return Levels(values, np.ascontiguousarray(values[order].T), 2 * top)


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
    return native.search(target, basis, levels, branches, current)
