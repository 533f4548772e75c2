"""Additions as one linear form of the two bytes, where it gives the same result for all pairs of bytes.

``docs/numerics.md`` scales each side and then the sum, with three roundings. An operand has 256 values, so
all results are known when the constants are; :func:`linear_sum` looks for integers with

    result = clip((a * A + b * B + C) >> shift, low, high)

for each of the 65,536 pairs, in int32. The form of the real multipliers is nearly always one; for A and B
beside them the C that work are an interval.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sd_tvm.layers import LANES, AddLayer
from sd_tvm.numerics import golden
from sd_tvm.numerics.qp import unpack_qp

_VALUES = 256
_INT32 = np.iinfo(np.int32)
#: So far beside the rounded multipliers A and B are looked for; nearest first.
_SPAN = 2
#: Shares of themselves that they are made larger by.
_BEYOND = (0.0, 2.0**-20, 2.0**-17, 2.0**-14)
#: Bounds that no sum reaches.
_FAR = np.int64(1) << 40


@dataclass(frozen=True)
class LinearSum:
    """The integers of an addition.

    Attributes
    ----------
    factors
        A and B.
    offset
        C.
    shift
        Bits that are dropped at last.
    limits
        Lowest and highest result.
    """

    factors: tuple[int, int]
    offset: int
    shift: int
    limits: tuple[int, int]

    def words(self, own: int) -> npt.NDArray[np.int32]:
        """int32 (:data:`SUM_WORDS`,): factor of operand ``own`` (0 or 1), of the other, the rest in order."""
        mine, other = self.factors[own], self.factors[1 - own]
        return np.array([mine, other, self.offset, self.shift, *self.limits], dtype=np.int32)


#: Words of :meth:`LinearSum.words`.
SUM_WORDS = 6


def linear_sum(layer: AddLayer, words: npt.NDArray[np.int32]) -> LinearSum | None:
    """The form of an addition that was found and checked on all pairs; None if none was found.

    Parameters
    ----------
    layer
        The addition.
    words
        Its quantisation words, int32 (3, 4).
    """
    a, b = (_values(dtype) for dtype in (layer.a_dtype, layer.b_dtype))
    results = _results(layer, words, a, b)
    fields = unpack_qp(words, layer.out_dtype)
    real = fields["m0"] * np.exp2(fields["shift"] - 31.0)
    zero, low, high = (int(fields[f][2]) for f in ("zp", "lo", "hi"))
    multipliers = real[:2] * real[2]
    corners = np.add.outer(
        multipliers[0] * (a[[0, -1]] - layer.a_zero_point), multipliers[1] * (b[[0, -1]] - layer.b_zero_point)
    )
    # one more on either side is room for A and B beside the multipliers
    shift = min(30, int(np.floor(31 - np.log2(np.abs(corners + zero).max() + 1))))
    if shift < 1:
        return None
    lower = np.where(results > low, results << shift, -_FAR)
    upper = np.where(results < high, ((results + 1) << shift) - 1, _FAR)
    for factors in _candidates(multipliers * 2.0**shift):
        sums = factors[0] * a[:, None] + factors[1] * b
        first, last = int((lower - sums).max()), int((upper - sums).min())
        if first > last:
            continue
        # where all results are clipped either way, one end is far away
        offset = min(max((first + last) // 2, _INT32.min), _INT32.max)
        total = sums + offset
        reached = [*factors, total.min(), total.max()]
        if first <= offset <= last and _INT32.min <= min(reached) and max(reached) <= _INT32.max:
            return LinearSum((int(factors[0]), int(factors[1])), offset, shift, (low, high))
    return None


def _candidates(real: npt.NDArray[np.float64]) -> Iterator[npt.NDArray[np.int64]]:
    """A and B, the likeliest first: beside the real ones, then beyond, which takes halves away from zero."""
    near = sorted(np.ndindex(2 * _SPAN + 1, 2 * _SPAN + 1), key=lambda p: sum(abs(i - _SPAN) for i in p))
    for beyond in _BEYOND:
        for steps in near:
            yield np.rint(real * (1 + beyond)).astype(np.int64) + np.array(steps) - _SPAN


def _values(dtype: str) -> npt.NDArray[np.int64]:
    """All values of a type of 8 bits."""
    info = np.iinfo(dtype)
    return np.arange(info.min, info.max + 1, dtype=np.int64)


def _results(
    layer: AddLayer, words: npt.NDArray[np.int32], a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Result of the addition for every value of a (rows) and b."""
    shape = (1, 1, _VALUES, _VALUES // LANES, LANES)
    pairs = np.meshgrid(a.astype(layer.a_dtype), b.astype(layer.b_dtype), indexing="ij")
    every = replace(layer, batch=1, channels=LANES, hw=shape[2:4])
    out = golden.run_layer(every, [*(p.reshape(shape) for p in pairs), words])
    return out.reshape(_VALUES, _VALUES).astype(np.int64)
