"""Requantisation of sixteen int32 sums, exactly ``docs/numerics.md``, without 64-bit shifts by lane.

gemmlowp's multiplication needs one 64-bit product; everything after it fits 32 bits:

    p = (x * M0 + 2^30) >> 31, |p| < 2^31 because |x| < 2^31 and M0 < 2^31
    e = 0: y = p;  e > 0: y = (p' + 2^(e-1)) >> e with p' = p - (p < 0), which is ((p' >> (e-1)) + 1) >> 1

The last form cannot overflow: p' <= 2^31 - 2 for e = 1, and less for larger e.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sd_tvm._tvm import tirx
from sd_tvm.layers import LANES
from sd_tvm.numerics.qp import unpack_qp
from sd_tvm.schedules.cpu.fields import BlockReader, Fields
from sd_tvm.schedules.cpu.vec import Buffer, Expr, as_type, bind, i64, pick, splat

#: ``left``: shift left; ``shift`` and ``some``: e-1 or 0, and e > 0, of the shift right.
FIELDS = Fields({"bias": 4, "m0": 4, "left": 1, "shift": 1, "some": 1, "zero": 1, "low": 1, "high": 1})


def quantisation_block(
    words: npt.NDArray[np.int32], dtype: str, offset: npt.NDArray[np.int64] | None = None
) -> npt.NDArray[np.uint8]:
    """uint8 (MB, bytes of :data:`FIELDS`) from quantisation words (16 * MB, 4).

    Parameters
    ----------
    words
        As :func:`sd_tvm.numerics.qp.pack_qp` makes them.
    dtype
        Type of the result.
    offset
        int64 (16 * MB,) to add to the bias, modulo 2^32.
    """
    f = unpack_qp(words, dtype)
    bias = f["bias"] if offset is None else f["bias"] + offset
    right = np.maximum(-f["shift"], 0)
    narrow = {
        "left": np.maximum(f["shift"], 0),
        "shift": np.maximum(right - 1, 0),
        "some": np.minimum(right, 1),
        "zero": f["zp"],
        "low": f["lo"],
        "high": f["hi"],
    }
    wide = {"bias": bias, "m0": f["m0"]}
    return FIELDS.pack(
        {k: v.astype("<i4") for k, v in wide.items()} | {k: v.astype("u1") for k, v in narrow.items()}
    )


@dataclass(frozen=True)
class Words:
    """What sixteen lanes are scaled and clipped with, int32x16 each; of M0 the odd lanes are there twice."""

    left: Expr
    m0: Expr
    m0_odd: Expr
    shift: Expr
    some: Expr
    minus_some: Expr
    zero: Expr
    low: Expr
    high: Expr

    @classmethod
    def of(cls, m0: Expr, left: Expr, shift: Expr, some: Expr, clip: tuple[Expr, Expr, Expr]) -> Words:
        """Of int32x16 vectors: M0, shift left, shift right less one or 0, shift right > 0, limits."""
        minus, (zero, low, high) = bind(splat(0, "int32", LANES) - some), clip
        limits = (bind(low - zero), bind(high - zero))
        return cls(left, bind(m0), bind(odd(m0)), shift, some, minus, zero, *limits)

    @classmethod
    def uniform(cls, words: Buffer, row: int, dtype: str) -> Words:
        """The same in every lane: row ``row`` of quantisation words, flat int32 (rows * 4,)."""
        packed = bind(words[i64(4 * row + 2)])

        def byte(index: int, kind: str) -> Expr:
            up = tirx.shift_left(packed, tirx.const(24 - 8 * index, "int32"))
            if kind == "int8":
                return tirx.shift_right(up, tirx.const(24, "int32"))
            return tirx.bitwise_and(
                tirx.shift_right(packed, tirx.const(8 * index, "int32")), tirx.const(255, "int32")
            )

        def every(value: Expr) -> Expr:
            return bind(tirx.Broadcast(value, LANES))

        none, one = tirx.const(0, "int32"), tirx.const(1, "int32")
        shift = bind(byte(0, "int8"))
        right = bind(tirx.max(none - shift, none))
        zero, low, high = (every(byte(i, dtype)) for i in (1, 2, 3))
        return cls.of(
            every(words[i64(4 * row + 1)]),
            every(tirx.max(shift, none)),
            every(tirx.max(right - one, none)),
            every(tirx.min(right, one)),
            (zero, low, high),
        )

    def scaled(self, x: Expr) -> Expr:
        """int32x16: x * M0 * 2^(shift - 31), rounded."""
        p = bind(_high_product(bind(tirx.shift_left(x, self.left)), self))
        negative = tirx.bitwise_and(tirx.shift_right(p, splat(31, "int32", LANES)), self.minus_some)
        return tirx.shift_right(tirx.shift_right(p + negative, self.shift) + self.some, self.some)

    def clipped(self, y: Expr) -> Expr:
        """int32x16 within 8 bits, of a scaled value; the zero point comes last, where it cannot overflow."""
        return tirx.min(tirx.max(y, self.low), self.high) + self.zero


def even(x: Expr) -> Expr:
    """Even lanes of int32x16 as int64x8; in a product LLVM needs no instruction for it (vpmuldq).

    Only there where it sees both factors made so: not if one of them was bound outside of a loop.
    """
    half = splat(32, "int64", LANES // 2)
    return tirx.shift_right(tirx.shift_left(as_type(x, f"int64x{LANES // 2}"), half), half)


def odd(x: Expr) -> Expr:
    """Odd lanes of int32x16 in the place of the even ones."""
    return pick([x], [i | 1 for i in range(LANES)])


def _high_product(x: Expr, w: Words) -> Expr:
    """(x * M0 + 2^30) >> 31 of int32x16."""
    lanes = LANES // 2
    rounding = splat(1 << 30, "int64", lanes)
    low = tirx.shift_right(even(x) * even(w.m0) + rounding, splat(31, "int64", lanes))
    uneven = tirx.shift_left(even(bind(odd(x))) * even(w.m0_odd) + rounding, splat(1, "int64", lanes))
    pair = [bind(as_type(v, f"int32x{LANES}")) for v in (low, uneven)]
    return pick(pair, [i + LANES * (i % 2) for i in range(LANES)])


class Requantizer(BlockReader):
    """The words of one block of sixteen filters, read once: all its results are stored in one scope.

    Parameters
    ----------
    buffer
        Flat uint8 buffer of :func:`quantisation_block`.
    block
        Which block.
    """

    def __init__(self, buffer: Buffer, block: Expr) -> None:
        super().__init__(FIELDS, buffer, block)
        self._words: Words | None = None

    def _byte(self, name: str, dtype: str = "uint8") -> Expr:
        return bind(self.field(name, dtype).astype(f"int32x{LANES}"))

    def prepare(self, dtype: str) -> None:
        """Read the words, once: a store in between could change them, for all that the compiler knows."""
        if self._words is None:
            m0 = bind(self.field("m0", "int32"))
            left, shift, some = (self._byte(name) for name in ("left", "shift", "some"))
            zero, low, high = (self._byte(name, dtype) for name in ("zero", "low", "high"))
            self._words = Words.of(m0, left, shift, some, (zero, low, high))

    def wide(self, sums: Expr, dtype: str) -> Expr:
        """Results of int32x16 sums (bias included), int32x16 within the range of ``dtype``."""
        self.prepare(dtype)
        assert self._words is not None
        return self._words.clipped(self._words.scaled(sums))

    def narrow(self, sums: Expr, dtype: str) -> Expr:
        """Results of int32x16 sums (bias included) in ``dtype``."""
        return self.wide(sums, dtype).astype(f"{dtype}x{LANES}")
