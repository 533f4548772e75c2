"""Requantisation of sixteen int32 sums, exactly ``docs/numerics.md``, without 64-bit shifts by lane.

gemmlowp's multiplication needs one 64-bit product; everything after it fits 32 bits:

    p = (x * M0 + 2^30) >> 31, |p| < 2^31 because |x| < 2^31 and M0 < 2^31
    e = 0: y = p;  e > 0: y = (p' + 2^(e-1)) >> e with p' = p - (p < 0), which is ((p' >> (e-1)) + 1) >> 1

The last form cannot overflow: p' <= 2^31 - 2 for e = 1, and less for larger e.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sd_tvm._tvm import tirx
from sd_tvm.layers import LANES
from sd_tvm.numerics.qp import unpack_qp
from sd_tvm.schedules.cpu.vec import Buffer, Expr, as_type, bind, i64, load, splat

#: Bytes of a block of sixteen filters: bias and M0 in int32; then a byte each: left shift, e-1 or 0, e > 0,
#: zero point, lowest, highest.
BLOCK_BYTES = LANES * (4 + 4 + 6)
_WORDS, _BYTES = 2, 6


def quantisation_block(
    words: npt.NDArray[np.int32], dtype: str, offset: npt.NDArray[np.int64] | None = None
) -> npt.NDArray[np.uint8]:
    """uint8 (MB, :data:`BLOCK_BYTES`) from quantisation words (16 * MB, 4).

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
    wide = np.stack([bias.astype("<i4"), f["m0"].astype("<i4")])
    narrow = np.stack(
        [np.maximum(f["shift"], 0), np.maximum(right - 1, 0), np.minimum(right, 1), f["zp"], f["lo"], f["hi"]]
    )
    blocks = words.shape[0] // LANES
    parts = [
        np.ascontiguousarray(rows.reshape(rows.shape[0], blocks, LANES).transpose(1, 0, 2))
        .view(np.uint8)
        .reshape(blocks, -1)
        for rows in (wide, narrow.astype(np.uint8))
    ]
    return np.ascontiguousarray(np.concatenate(parts, axis=1))


class Requantizer:
    """The words of one block of sixteen filters.

    Parameters
    ----------
    buffer
        Flat uint8 buffer of :func:`quantisation_block`.
    block
        Which block.
    """

    def __init__(self, buffer: Buffer, block: Expr) -> None:
        self._buffer, self._block = buffer, block

    def _word(self, index: int, first: int = 0, lanes: int = LANES) -> Expr:
        at = self._block * i64(BLOCK_BYTES) + i64((index * LANES + first) * 4)
        return as_type(load(self._buffer, at, lanes * 4), f"int32x{lanes}")

    def _byte(self, index: int, dtype: str = "uint8") -> Expr:
        at = self._block * i64(BLOCK_BYTES) + i64((_WORDS * 4 + index) * LANES)
        return as_type(load(self._buffer, at, LANES), f"{dtype}x{LANES}").astype(f"int32x{LANES}")

    def bias(self, first: int = 0, lanes: int = LANES) -> Expr:
        """uint32 biases of ``lanes`` filters from ``first`` on."""
        return as_type(self._word(0, first, lanes), f"uint32x{lanes}")

    def apply(self, sums: Expr, dtype: str) -> Expr:
        """8-bit result of int32x16 sums (bias included)."""
        m0 = self._word(1)
        left, shift, some = (self._byte(i) for i in range(3))
        zero, low, high = (self._byte(i, dtype) for i in range(3, _BYTES))
        wide = f"int64x{LANES}"
        x = bind(tirx.shift_left(sums, left))
        product = x.astype(wide) * m0.astype(wide) + splat(1 << 30, "int64", LANES)
        p = bind(tirx.shift_right(product, splat(31, "int64", LANES)).astype(f"int32x{LANES}"))
        negative = tirx.bitwise_and(
            tirx.shift_right(p, splat(31, "int32", LANES)), splat(0, "int32", LANES) - some
        )
        y = tirx.shift_right(tirx.shift_right(p + negative, shift) + some, some)
        y = tirx.min(tirx.max(y + zero, low), high)
        return y.astype(f"{dtype}x{LANES}")

    def finish(self, sums: Expr, out: str, dtype: str) -> Expr:
        """What a layer stores of uint32x16 sums: int32 (``i32``) or 8 bit."""
        total = as_type(sums, f"int32x{LANES}")
        return total if out == "i32" else self.apply(total, dtype)


def stored(out: str, dtype: str) -> str:
    """Type of a layer's result."""
    return "int32" if out == "i32" else dtype
