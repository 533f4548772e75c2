"""Requantisation by one float32 multiply-add, where that is proved to give the same bytes.

``docs/numerics.md`` needs a 64-bit product a sum. A result has 8 bits, though, and grows with the sum: it is
known by the 255 sums at which it changes. So is

    q(x) = rint(fma(float32(x), factor, constant)) - (x = exception)

without its last term, as each of its steps keeps the order of its operands. Both are the same function of
all sums of a filter if they agree on either side of each of those places. ``factor`` and ``constant`` are
searched near the real multiplier; where one single sum still comes out one too large, it is the exception.

Results are counted from 128 down for uint8 (q = y - 128): float32 is finest around zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm.numerics.fixedpoint import mbqm
from sd_tvm.numerics.qp import unpack_qp

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
#: What is taken from a result so that it is a signed byte.
CENTRE = {"uint8": 128, "int8": 0}
_INT32 = np.iinfo(np.int32)
#: Factors that are tried: neighbours in float32 of the real multiplier, on either side.
_NEIGHBOURS = 32
#: Where the constant is tried between its limits.
_SHARES = (0.5, 0.35, 0.65, 0.2, 0.8)
#: With fewer filters left after the first factor the search goes on; it would hardly ever succeed otherwise.
_HOPELESS = 0.5
#: Factors below 2^-20 and constants are multiples of this, so that products and sums are exact in float64.
_GRID = 2.0**-43


@dataclass(frozen=True)
class Single:
    """Constants of the filters of a layer.

    Attributes
    ----------
    factor, constant
        float32 (M,).
    exception
        int32 (M,): the sum whose result is one less; a number that is no sum of a filter that has none. None
        if no filter has any.
    """

    factor: npt.NDArray[np.float32]
    constant: npt.NDArray[np.float32]
    exception: npt.NDArray[np.int32] | None


def single(words: npt.NDArray[np.int32], dtype: str, lowest: Ints, highest: Ints) -> Single | None:
    """The form of a layer's filters; None if it is not found for each of them.

    Parameters
    ----------
    words
        Quantisation words, int32 (M, 4).
    dtype
        Type of the results, ``uint8`` or ``int8``.
    lowest, highest
        int64 (M,): range of the sums of each filter, bias included, within int32.
    """
    places = Places.of(words, dtype, lowest, highest)
    filters = len(lowest)
    factor, constant = np.zeros((2, filters), dtype=np.float32)
    exception, found = np.zeros(filters, dtype=np.int64), np.zeros(filters, dtype=bool)
    # only where it is needed somewhere: it costs every filter two instructions
    for exceptions in (False, True):
        for factors in _factors(places.multiplier):
            left = np.flatnonzero(~found)
            here = places.only(left)
            for constants in _constants(here, factors[left], exceptions):
                right, at = here.same(factors[left], constants, exceptions)
                new = left[right & ~found[left]]
                which = np.isin(left, new)
                factor[new], constant[new] = factors[new], constants[which]
                exception[new], found[new] = at[which], True
            if found.all():
                if not exceptions:
                    return Single(factor, constant, None)
                fit = exception.min() >= _INT32.min
                return Single(factor, constant, exception.astype(np.int32)) if fit else None
            if found.mean() < _HOPELESS:
                break
    return None


def _factors(multiplier: Floats) -> Iterator[Floats]:
    """float32 numbers, the nearest first."""
    nearest = multiplier.astype(np.float32).view(np.int32)
    for step in sorted(range(-_NEIGHBOURS, _NEIGHBOURS + 1), key=abs):
        near = np.maximum(nearest + step, 0).view(np.float32).astype(np.float64)
        yield np.where(multiplier < 2.0**-20, np.rint(near / _GRID) * _GRID, near)


def _constants(places: Places, factors: Floats, exceptions: bool) -> Iterator[Floats]:
    """float32 numbers between the limits that the places set."""
    low, high = places.limits(factors, exceptions)
    for share in _SHARES:
        between = low + share * (high - low)
        yield (np.rint(between / _GRID) * _GRID).astype(np.float32).astype(np.float64)


@dataclass(frozen=True)
class Places:
    """Where results change.

    Attributes
    ----------
    multiplier
        float64 (M,): the real multiplier.
    levels
        int64 (1, L): results, less the centre, above the least one.
    first
        int64 (M, L): the least sum whose result is at least that level, without clips; ``lowest`` if all
        are, ``highest`` + 1 if none is.
    wanted
        bool (M, L): levels between the filter's clips.
    lowest, highest
        int64 (M, 1): range of the sums.
    """

    multiplier: Floats
    levels: Ints
    first: Ints
    wanted: npt.NDArray[np.bool_]
    lowest: Ints
    highest: Ints

    @classmethod
    def of(cls, words: npt.NDArray[np.int32], dtype: str, lowest: Ints, highest: Ints) -> Places:
        """Of quantisation words (M, 4), and the range of each filter's sums."""
        f = {name: value[:, None] for name, value in unpack_qp(words, dtype).items()}
        zero, low, high = (f[name] - CENTRE[dtype] for name in ("zp", "lo", "hi"))
        multiplier = np.ldexp(f["m0"].astype(np.float64), (f["shift"] - 31).astype(np.int64))
        levels = np.arange(low.min() + 1, max(high.max(), low.min() + 2) + 1)[None, :]
        least, most = lowest[:, None], highest[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            about = np.nan_to_num((levels - 0.5 - zero) / multiplier, nan=0.0)
        near = np.ceil(np.clip(about, least - 4.0, most + 4.0)).astype(np.int64)
        first = most + 1
        for step in (2, 1, 0, -1, -2):  # a multiplier is at most two sums off the place
            x = np.clip(near + step, least, most)
            first = np.where(zero + mbqm(x, f["m0"], f["shift"]) >= levels, np.minimum(first, x), first)
        wanted = (levels > low) & (levels <= high)
        return cls(multiplier[:, 0], levels, first, wanted, least, most)

    def only(self, filters: Ints) -> Places:
        """The same of some filters."""
        rows = (
            getattr(self, name)[filters] for name in ("multiplier", "first", "wanted", "lowest", "highest")
        )
        multiplier, first, wanted, lowest, highest = rows
        return Places(multiplier, self.levels, first, wanted, lowest, highest)

    @property
    def reached(self) -> npt.NDArray[np.bool_]:
        """bool (M, L): whether some sum gets there."""
        return self.wanted & (self.first <= self.highest)

    @property
    def missed(self) -> npt.NDArray[np.bool_]:
        """bool (M, L): whether some sum does not."""
        return self.wanted & (self.first > self.lowest)

    def limits(self, factors: Floats, exceptions: bool) -> tuple[Floats, Floats]:
        """float64 (M,) each: constants between them are right but for float32's rounding of the result.

        With exceptions one sum too many may reach its level.
        """
        half, m = self.levels - 0.5, factors[:, None]
        low = np.where(self.reached, half - m * self.first, -np.inf).max(axis=1)
        above = np.where(self.missed, half - m * (self.first - 1), np.inf)
        high = np.partition(above, 1, axis=1)[:, 1] if exceptions else above.min(axis=1)
        low, high = np.where(np.isinf(low), high - 1, low), np.where(np.isinf(high), low + 1, high)
        nothing = np.isinf(low)  # no level is ever passed: anything well below the least does
        return np.where(nothing, self.levels[0, 0] - 2.0, low), np.where(
            nothing, self.levels[0, 0] - 1.0, high
        )

    def same(
        self, factors: Floats, constants: Floats, exceptions: bool
    ) -> tuple[npt.NDArray[np.bool_], Ints]:
        """Whether the form gives the results of all sums, bool (M,); and the exceptions, int64 (M,)."""
        m, c = factors[:, None], constants[:, None]
        ends = np.abs(np.concatenate([self.lowest * m, self.highest * m], axis=1)).max(axis=1)
        right = np.all(~self.reached | (evaluate(self.first, m, c) >= self.levels), axis=1)
        right &= ends + np.abs(constants) < -float(_INT32.min)
        high = self.missed & (evaluate(self.first - 1, m, c) >= self.levels)
        count = high.sum(axis=1)
        none = np.where(self.highest < _INT32.max, self.highest + 1, self.lowest - 1)[:, 0]
        if not exceptions:
            return right & (count == 0), none
        level = np.argmax(high, axis=1)[:, None]
        at = np.take_along_axis(self.first, level, axis=1) - 1
        k = self.levels[0][level]
        # one sum, one too large: the sum before is right, and the level below is really the one there
        before = np.take_along_axis(self.first, np.maximum(level - 1, 0), axis=1)
        alone = (evaluate(at, m, c) == k) & ((at == self.lowest) | (evaluate(at - 1, m, c) < k))
        alone &= (level == 0) | (before <= at)
        one = (count == 1) & alone[:, 0]
        return right & ((count == 0) | one), np.where(one, at[:, 0], none)


def evaluate(sums: npt.NDArray[Any], factor: npt.NDArray[Any], constant: npt.NDArray[Any]) -> Floats:
    """rint(fma(float32(x), factor, constant)), float64, of float32 numbers.

    The product has 48 bits; with the factors and constants of :func:`single` the sum is exact in float64 as
    long as the result is within 9 bits, so rounding to float32 is the only one, as in the instruction. Larger
    results have the right side of every level all the same.
    """
    product = np.asarray(sums).astype(np.float32).astype(np.float64) * np.asarray(factor, dtype=np.float64)
    return np.rint((product + np.asarray(constant, dtype=np.float64)).astype(np.float32)).astype(np.float64)
