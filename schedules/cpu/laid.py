"""x of a convolution laid out for weights whose rows are taps: (channel, ky) side by side, column by column.

For every row of the result and block of 16 rows of the weight, the 16 bytes that each column of the padded
image has for these rows; neighbouring columns are neighbours in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from sd_tvm._tvm import tirx
from sd_tvm.layers import LANES, ConvLayer, blocks16
from sd_tvm.schedules.cpu.isa import Isa
from sd_tvm.schedules.cpu.operand import Operand
from sd_tvm.schedules.cpu.vec import (
    Buffer,
    Expr,
    as_type,
    bind,
    constant,
    i64,
    load,
    repeat,
    scratch,
    splat,
    store,
    t,
)

_ABSENT = 0x80  # index of a byte that a shuffle makes zero


@dataclass(frozen=True)
class LaidTaps:
    """Layout of rows of the result of one image.

    Attributes
    ----------
    operand
        What is laid out; rows of the layer's weight are taps.
    isa
        Instruction set.
    blocks
        Blocks of 16 rows, at least those of the weight; bytes beyond the weight's rows mean nothing.
    """

    operand: Operand
    isa: Isa
    blocks: int

    @property
    def layer(self) -> ConvLayer:
        """The layer."""
        return self.operand.layer

    @property
    def _wide(self) -> int:
        """Columns that are laid out at once."""
        return self.isa.width // LANES

    @property
    def columns(self) -> int:
        """Columns in memory: those of the padded image, up to a whole number of vectors."""
        return -(-self.layer.reach[1] // self._wide) * self._wide

    @property
    def block(self) -> int:
        """Bytes from a block of rows to the next."""
        return self.columns * LANES

    @property
    def row(self) -> int:
        """Bytes from a row of the result to the next."""
        return self.blocks * self.block

    def fill(self, x: Buffer, n: Expr, first: Expr, rows: int) -> Buffer:
        """Memory that holds ``rows`` rows of the result from ``first`` on, of image ``n`` of the flat x."""
        layer, isa = self.layer, self.isa
        (kh, _), (sh, _), (dh, _) = layer.kernel, layer.stride, layer.dilation
        cbs, blocks = blocks16(layer.in_channels), layer.geometry.blocks
        height = (rows - 1) * sh + (kh - 1) * dh + 1
        laid, plane = scratch(rows * self.row, "uint8"), scratch(height * self.block, "uint8")
        indices = [[bind(constant(i, isa.width)) for i in block] for block in _picked(kh)]
        with t.serial(i64(cbs)) as cb:
            image = (n * i64(cbs) + cb) * i64(prod(layer.in_hw))
            with t.serial(i64(height)) as y:
                self._line(plane, bind(y * i64(self.columns)), x, image, bind(first * i64(sh) + y))
            with t.serial(i64(rows)) as oy, t.serial(i64(self.columns // self._wide)) as some:
                at = bind(some * i64(isa.width))
                vectors = [
                    bind(load(plane, (oy * i64(sh) + i64(ky * dh)) * i64(self.block) + at, isa.width))
                    for ky in range(kh)
                ]
                to = bind(oy * i64(self.row) + cb * i64(kh * self.block) + at)
                for b, index in enumerate(indices):
                    value = as_type(_pick(isa, vectors, index), f"uint8x{isa.width}")
                    if (cbs - 1) * kh + b < blocks:
                        store(laid, to + i64(b * self.block), value, isa.width)
                        continue
                    # beyond the rows of the last block of channels
                    with t.If(cb < i64(cbs - 1)), t.Then():
                        store(laid, to + i64(b * self.block), value, isa.width)
        return laid

    def _line(self, plane: Buffer, to: Expr, x: Buffer, image: Expr, y: Expr) -> None:
        """Row ``y`` of the padded image of one block of channels."""
        (h, w), (top, left) = self.layer.in_hw, self.layer.padding[:2]
        right, left = min(left + w, self.columns), min(left, self.columns)
        zero = splat(self.operand.zero_byte, "uint8", LANES)

        def border(first: int, last: int) -> None:
            if last > first:
                with t.serial(i64(last - first)) as i:
                    store(plane, (to + i64(first) + i) * i64(LANES), zero, LANES)

        def inside() -> None:
            border(0, left)
            border(right, self.columns)
            source = bind(image + (y - i64(top)) * i64(w))
            with t.serial(i64(right - left)) as i:
                value = self.operand.of(load(x, (source + i) * i64(LANES), LANES), LANES)
                store(plane, (to + i64(left) + i) * i64(LANES), value, LANES)

        if top == 0 and self.layer.reach[0] <= h:
            inside()
            return
        with t.If(tirx.all(y >= i64(top), y < i64(top + h))):
            with t.Then():
                inside()
            with t.Else():
                border(0, self.columns)


def picked(isa: Isa, laid: Buffer, at: Expr, block: int, indices: list[Expr]) -> Expr:
    """Bytes picked from blocks of 16 of x, by a vector of indices for each; absent ones come from another.

    Parameters
    ----------
    isa
        Instruction set.
    laid, at
        Flat buffer, and where the first block begins.
    block
        Bytes from a block to the next.
    indices
        int8 vectors, as :class:`sd_tvm.schedules.cpu.taps.TapUnits` lays them.
    """
    out = None
    for i, index in enumerate(indices):
        table = as_type(load(laid, at + i64(i * block), LANES), f"int8x{LANES}")
        value = isa.lookup(repeat(table, LANES, isa.width // LANES), index)
        out = value if out is None else tirx.bitwise_or(out, value)
    return out


def _picked(kh: int) -> list[list[list[int]]]:
    """For each block of the rows of 16 channels and each ky: the channel of every row of this ky."""
    rows = [divmod(r, kh) for r in range(LANES * kh)]
    return [
        [[c if k == ky else _ABSENT for c, k in rows[first : first + LANES]] for ky in range(kh)]
        for first in range(0, LANES * kh, LANES)
    ]


def _pick(isa: Isa, vectors: list[Expr], indices: list[Expr]) -> Expr:
    """Bytes of several vectors, each where its index is not :data:`_ABSENT`."""
    out = None
    for vector, index in zip(vectors, indices, strict=True):
        value = isa.lookup(as_type(vector, f"int8x{isa.width}"), index)
        out = value if out is None else tirx.bitwise_or(out, value)
    return out
