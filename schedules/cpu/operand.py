"""Bytes of x as an instruction set multiplies them: unsigned (x86) or signed (NEON).

Bytes of the other type get 128 added, or taken away: their bit 7 is flipped. The difference, 128 * sum(w),
goes into the bias, modulo 2^32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sd_tvm._tvm import tirx
from sd_tvm.layers import LANES, ConvLayer, blocks16
from sd_tvm.schedules.cpu.vec import Expr, as_type, splat
from sd_tvm.weights.tensor import Weight

_SHIFTS = {("int8", "uint8"): 128, ("uint8", "int8"): -128}


@dataclass(frozen=True)
class Operand:
    """x of a layer in products of bytes; in memory its bytes are uint8 whichever their type.

    Attributes
    ----------
    layer
        The layer.
    dtype
        What the instruction takes: ``uint8`` or ``int8``.
    """

    layer: ConvLayer
    dtype: str

    @property
    def shift(self) -> int:
        """What is added to every x."""
        return _SHIFTS.get((self.layer.in_dtype, self.dtype), 0)

    @property
    def zero(self) -> int:
        """The zero point with it."""
        return self.layer.in_zero_point + self.shift

    @property
    def zero_byte(self) -> int:
        """Its byte, 0 to 255."""
        return self.zero & 0xFF

    def of(self, value: Expr, lanes: int) -> Expr:
        """uint8 of ``lanes`` values of x."""
        value = as_type(value, "uint8" if lanes == 1 else f"uint8x{lanes}")
        if not self.shift:
            return value
        flip = tirx.const(128, "uint8") if lanes == 1 else splat(128, "uint8", lanes)
        return tirx.bitwise_xor(value, flip)

    def bias(self, weight: Weight) -> npt.NDArray[np.int64]:
        """int64 (16 * MB,): what the shift of x asks of the layer's biases."""
        m = self.layer.out_channels
        out = np.zeros(blocks16(m) * LANES, dtype=np.int64)
        if self.shift:
            out[:m] = -self.shift * weight.integer().astype(np.int64).reshape(m, -1).sum(axis=1)
        return out
