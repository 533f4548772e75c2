"""Dense layers at one pixel whose products by codes are shifts, additions and signs: no multiplication.

Every code is a sum of at most two powers of two with one sign, so code * x is x shifted once or twice, added,
and negated by its bits flipped. Lanes are filters, and every kept row is a step of its own: four bytes that
``gemv`` multiplies and adds in one instruction take dozens here. It is in the table to be measured, not used:
processors without a fast product are what it would be for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm._tvm import tirx
from sd_tvm.layers import ConvLayer
from sd_tvm.schedules.cpu.epilogue import Epilogue
from sd_tvm.schedules.cpu.gemv import Gemv, Units
from sd_tvm.schedules.cpu.isa import Isa
from sd_tvm.schedules.cpu.vec import Expr, Registers, as_type, bind, i64, plus, splat, t
from sd_tvm.weights.alphabet import N_CODES, Alphabet, two_power_terms
from sd_tvm.weights.rows import CHANNEL_ROW

_S, _SLOTS = CHANNEL_ROW, 4
#: Shift that leaves nothing of 32 bits.
_ALL = 255


def shifts(alphabet: Alphabet) -> npt.NDArray[np.uint8]:
    """uint8 (1 or 2, 16): shifts of a code's powers of two."""
    out = np.full((2, N_CODES), _ALL, dtype=np.uint8)
    for nibble, value in enumerate(alphabet.table.tolist()):
        if value:
            first, second = two_power_terms(value)
            out[:, nibble] = first, _ALL if second is None else second
    return out if (out[1] < _ALL).any() else out[:1]


class ShiftUnits(Units):
    """Units whose words of four bytes are slots of one filter, on any instruction set."""

    @property
    def apart(self) -> bool:
        """Never."""
        return False


def build_shift_add(layer: ConvLayer, isa: Isa, symbol: str, epilogue: Epilogue) -> Any:
    """PrimFunc as :func:`~sd_tvm.schedules.cpu.gemv.build_gemv`, with :func:`shifts` for its table."""
    return _ShiftAdd(layer, isa, epilogue).build(symbol)


class _ShiftAdd(Gemv):
    def __init__(self, layer: ConvLayer, isa: Isa, epilogue: Epilogue) -> None:
        super().__init__(layer, isa, ShiftUnits(layer, isa), epilogue)
        self.tables = len(shifts(self.units.form.table))

    def add_units(self, sums: Registers, at: Expr, unit: Expr, count: int) -> None:
        """As :meth:`Gemv.add_units`, a slot at a time."""
        # -x is ~x + 1: the ones are counted, and added at the end
        ones = Registers(_S, "uint32", self.isa.words)
        ones.clear()
        one = splat(1, "uint32", self.isa.words)
        with t.serial(i64(count)) as j:
            xs, nibbles = self.picked(at + j, unit + j)
            powers = [[bind(self.looked_up(i, n)) for i in range(self.tables)] for n in nibbles]
            for slot in range(_SLOTS):
                x = [bind(self._byte(v, slot)) for v in xs]
                for k in range(_S):
                    counts = [bind(self._byte(p, slot)) for p in powers[k]]
                    sign = bind(self._sign(nibbles[k], slot))
                    ones[k] = plus(ones[k], tirx.bitwise_and(sign, one))
                    for i in range(_S):
                        product = self.isa.shift_left(x[i], counts[0])
                        for more in counts[1:]:
                            product = plus(product, self.isa.shift_left(x[i], more))
                        sums[k * _S + i] = plus(sums[k * _S + i], tirx.bitwise_xor(product, sign))
        for i in range(_S * _S):
            sums[i] = plus(sums[i], ones[i // _S])

    def _words(self, value: Expr) -> Expr:
        return as_type(value, f"uint32x{self.isa.words}")

    def _byte(self, value: Expr, slot: int) -> Expr:
        """uint32: byte ``slot`` of every word."""
        down = tirx.shift_right(self._words(value), splat(8 * slot, "uint32", self.isa.words))
        return tirx.bitwise_and(down, splat(255, "uint32", self.isa.words))

    def _sign(self, nibble: Expr, slot: int) -> Expr:
        """uint32: all ones where bit 3 of byte ``slot`` is set, which is the sign of a code."""
        up = tirx.shift_left(self._words(nibble), splat(28 - 8 * slot, "uint32", self.isa.words))
        signed = as_type(up, f"int32x{self.isa.words}")
        return self._words(tirx.shift_right(signed, splat(31, "int32", self.isa.words)))
