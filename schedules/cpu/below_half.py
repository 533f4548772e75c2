"""Requantisation where every multiplier is below one half, as nearly all are: two thirds of the instructions.

``docs/numerics.md`` with a right shift e >= 1 (shift = -e) is one 64-bit shift. Its two roundings add their
halves at once, because floor(floor(a / 2^31 + b) / 2^e) = floor((a + b 2^31) / 2^(31 + e)):

    y = (x * M0 + 2^30 + (2^(e-1) - (p < 0)) * 2^31) >> (31 + e),   p = (x * M0 + 2^30) >> 31

x < 0 may stand for p < 0: where the two differ p is 0, and then y is 0 with and without the 1. 2^62 more
makes the sum positive, so that the shift need not be arithmetic (AVX2 has none of 64 bits); the result is
then 2^(31-e) too large and still within int32, because |y| <= 2^30.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sd_tvm._tvm import tirx
from sd_tvm.layers import LANES
from sd_tvm.numerics.qp import unpack_qp
from sd_tvm.schedules.cpu.fields import BlockReader, Fields
from sd_tvm.schedules.cpu.requant import even, odd
from sd_tvm.schedules.cpu.vec import Buffer, Expr, as_type, bind, pick, plus, saturated, splat

_HALF = LANES // 2
#: ``m0_odd``: of odd lanes, in both of a pair; ``more``: what is too large, less the zero point; ``add`` and
#: ``shift``: 64 bits a lane, even lanes first, and odd ones shifted by 32 less, to where they belong.
FIELDS = Fields({"bias": 4, "m0": 4, "m0_odd": 4, "more": 4, "add": 8, "shift": 8, "low": 1, "high": 1})


def all_below_half(words: npt.NDArray[np.int32]) -> bool:
    """Whether the multipliers of all quantisation words, int32 (rows, 4), are below one half."""
    f = unpack_qp(words, "uint8")
    return bool(np.all((f["shift"] < 0) | (f["m0"] == 0)))


def below_half_block(
    words: npt.NDArray[np.int32], dtype: str, offset: npt.NDArray[np.int64] | None = None
) -> npt.NDArray[np.uint8]:
    """uint8 (MB, bytes of :data:`FIELDS`) from words that :func:`all_below_half` is true of.

    Parameters
    ----------
    words, dtype, offset
        As for :func:`~sd_tvm.schedules.cpu.requant.quantisation_block`.
    """
    f = unpack_qp(words, dtype)
    bias = f["bias"] if offset is None else f["bias"] + offset
    e = np.where(f["m0"] == 0, 1, -f["shift"])  # 0 times anything: any shift will do

    def pairs(values: npt.NDArray[np.int64], less: int = 0) -> npt.NDArray[np.int64]:
        each = values.reshape(-1, _HALF, 2)
        return np.concatenate([each[:, :, 0], each[:, :, 1] - less], axis=1).astype("<i8")

    m0_odd = np.repeat(f["m0"].reshape(-1, 2)[:, 1], 2)
    add = (1 << 62) + (1 << 30) + (np.int64(1) << (30 + e))
    return FIELDS.pack(
        {
            "bias": bias.astype("<i4"),
            "m0": f["m0"].astype("<i4"),
            "m0_odd": m0_odd.astype("<i4"),
            "more": ((np.int64(1) << (31 - e)) - f["zp"]).astype("<i4"),
            "add": pairs(add),
            "shift": pairs(31 + e, 32),
            "low": f["lo"].astype("u1"),
            "high": f["hi"].astype("u1"),
        }
    )


class BelowHalf(BlockReader):
    """As :class:`~sd_tvm.schedules.cpu.requant.Requantizer`, of a buffer of :func:`below_half_block`."""

    def __init__(self, buffer: Buffer, block: Expr) -> None:
        super().__init__(FIELDS, buffer, block)
        self._words: dict[str, list[Expr]] = {}

    def prepare(self, dtype: str) -> None:
        """Read the words, once: a store in between could change them, for all that the compiler knows."""
        if self._words:
            return
        for name in ("m0", "m0_odd", "more"):
            self._words[name] = [bind(self.field(name, "int32"))]
        for name, kind in (("add", "int64"), ("shift", "uint64")):
            self._words[name] = [bind(self.field(name, kind, _HALF, first)) for first in (0, _HALF)]
        for name in ("low", "high"):
            self._words[name] = [bind(self.field(name, dtype))]

    def _scaled(self, sums: Expr) -> Expr:
        """int32x16 with the zero point, not clipped."""
        x, words = bind(sums), self._words
        pairs = as_type(x, f"int64x{_HALF}")  # an odd lane's sign is that of its pair
        even_sign = bind(tirx.shift_left(pairs, splat(32, "int64", _HALF)))
        halves = [
            self._half(even(x) * even(words["m0"][0]), even_sign, 0),
            self._half(even(bind(odd(x))) * even(words["m0_odd"][0]), pairs, 1),
        ]
        return pick(halves, [i + LANES * (i % 2) for i in range(LANES)]) - words["more"][0]

    def _half(self, product: Expr, sign: Expr, which: int) -> Expr:
        """Even or odd lanes of int32x16 from int64x8 products."""
        add, shift = (self._words[name][which] for name in ("add", "shift"))
        less = add - splat(1 << 31, "int64", _HALF)
        total = plus(product, tirx.Select(sign < splat(0, "int64", _HALF), less, add))
        return bind(as_type(tirx.shift_right(as_type(total, f"uint64x{_HALF}"), shift), f"int32x{LANES}"))

    def wide(self, sums: Expr, dtype: str) -> Expr:
        """Results of int32x16 sums (bias included), int32x16 within the range of ``dtype``."""
        self.prepare(dtype)
        low, high = (self._words[name][0].astype(f"int32x{LANES}") for name in ("low", "high"))
        return tirx.min(tirx.max(self._scaled(sums), low), high)

    def narrow(self, sums: Expr, dtype: str) -> Expr:
        """Results of int32x16 sums (bias included) in ``dtype``: packed with saturation, then clipped."""
        self.prepare(dtype)
        packed = saturated(self._scaled(sums), dtype)
        return tirx.min(tirx.max(packed, self._words["low"][0]), self._words["high"][0])
