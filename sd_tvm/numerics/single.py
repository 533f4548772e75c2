"""Requantisation by one float32 multiply-add, where that is proved to give the same bytes.

``docs/numerics.md`` needs a 64-bit product a sum. A result has 8 bits, though, and grows with the sum: it is
known by the 255 sums at which it changes. So is

    q(x) = rint(fma(float32(x), factor, constant)) - (x = exception)

without its last term, as each of its steps keeps the order of its operands. Both are the same function of
all sums of a filter if they agree on either side of each of those places. ``factor`` and ``constant`` are
searched near the real multiplier; where one single sum still comes out one too large, it is the exception.

Results are counted from 128 down for uint8 (q = y - 128): float32 is finest around zero. All of it holds for
rounding to nearest, the processor's default.
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
#: The search goes on if the first factor does for this share of the filters; it hardly ever ends well else.
_HOPELESS = 0.5
#: Filters that are looked at first, and then at a time.
_FEW, _SOME = 64, 1024
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
    filters, found, first = len(lowest), [], 0
    while first < filters:
        some = slice(first, first + (_SOME if first else _FEW))
        found.append(_search(Places.of(words[some], dtype, lowest[some], highest[some])))
        if found[-1] is None:
            return None
        first = some.stop
    factor, constant, exception = (np.concatenate(v) for v in zip(*(f for f in found if f), strict=True))
    none = _no_sum(lowest, highest)
    if (exception == none).all():
        return Single(factor, constant, None)
    if exception.min() < _INT32.min:
        return None
    return Single(factor, constant, exception.astype(np.int32))


def _search(places: Places) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], Ints] | None:
    """Factors, constants and exceptions (:func:`_no_sum` for none) of some filters; None if one has none."""
    filters = len(places.multiplier)
    factor, constant = np.zeros((2, filters), dtype=np.float32)
    exception, found = np.zeros(filters, dtype=np.int64), np.zeros(filters, dtype=bool)
    # only where nothing else does: an exception costs all filters of the layer two instructions a sum
    for exceptions in (False, True):
        for factors in _factors(places.multiplier):
            left = np.flatnonzero(~found)
            here = places.only(left)
            for constants in _constants(here, factors[left], exceptions):
                right, at = here.same(factors[left], constants, exceptions)
                new = right & ~found[left]
                factor[left[new]], constant[left[new]] = factors[left][new], constants[new]
                exception[left[new]], found[left[new]] = at[new], True
            if found.all():
                return factor, constant, exception
            if found.mean() < _HOPELESS:
                break
    return None


def _no_sum(lowest: Ints, highest: Ints) -> Ints:
    """A number beside the range; it is below int32 if all of int32 is in the range."""
    return np.where(highest < _INT32.max, highest + 1, lowest - 1)


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
        for step in range(2, -3, -1):  # mbqm's roundings move it by one, float64's by no more
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
        nothing, least = np.isinf(low), self.levels[0, 0]  # no level is ever passed: less than the least does
        return np.where(nothing, least - 2.0, low), np.where(nothing, least - 1.0, high)

    def same(
        self, factors: Floats, constants: Floats, exceptions: bool
    ) -> tuple[npt.NDArray[np.bool_], Ints]:
        """Whether the form gives the results of all sums, bool (M,); and the exceptions, int64 (M,).

        Parameters
        ----------
        factors, constants
            float64 (M,), of float32 numbers for which :func:`evaluate` is exact.
        exceptions
            Whether one sum may come out one too large.
        """
        m, c = factors[:, None], constants[:, None]
        right = np.all(~self.reached | (evaluate(self.first, m, c) >= self.levels), axis=1)
        # conversion to int32 has no larger results; float32(x) and the result may each be rounded up by 128
        ends = np.abs(np.concatenate([self.lowest * m, self.highest * m], axis=1)).max(axis=1)
        right &= ends + np.abs(constants) <= 2.0**31 - 256
        high = self.missed & (evaluate(self.first - 1, m, c) >= self.levels)
        count, none = high.sum(axis=1), _no_sum(self.lowest, self.highest)[:, 0]
        if not exceptions:
            return right & (count == 0), none
        level = np.argmax(high, axis=1)[:, None]
        at = np.take_along_axis(self.first, level, axis=1) - 1
        k = self.levels[0][level]
        # one sum, one too large: it is not two too large, and the sum before it is right
        alone = (evaluate(at, m, c) == k) & ((at == self.lowest) | (evaluate(at - 1, m, c) < k))
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
