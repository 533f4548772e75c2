"""Convolutions with a kernel of several columns, straight from the codes: sums first, the basis after them.

Rows of the weight are (channel, ky), their S elements kx. For one row of the result and one column of the
padded image

    T[k, column] = sum over kept rows j of code[j, k] * x[j, column]

needs no basis, and serves every window that the column is in; y[ox] is the sum over k, s of
B[k, s] * T[k, ox * stride + s * dilation]. So the basis is met once a pixel, and what is multiplied for every
row are bytes. Columns that lie beside the image hold the zero point: their T is known at compile time.

Of N:16 the filters' own rows are picked from a block of 16 by a byte shuffle, which all S codes of a row
share. VNNI and NEON add four products to int32 at once. AVX2 adds products in pairs; :func:`chain` results of
that add up in int16 for any input. Sums are exact modulo 2^32.

x is what the instruction set multiplies, unsigned or signed (:mod:`sd_tvm.schedules.cpu.operand`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm._tvm import ir_builder, tirx
from sd_tvm.layers import LANES, ConvLayer, blocks16
from sd_tvm.schedules.cpu.epilogue import Epilogue
from sd_tvm.schedules.cpu.gemv import chain
from sd_tvm.schedules.cpu.guard import kernel_body
from sd_tvm.schedules.cpu.isa import Isa
from sd_tvm.schedules.cpu.laid import LaidTaps, picked
from sd_tvm.schedules.cpu.operand import Operand
from sd_tvm.schedules.cpu.pixels import even_groups
from sd_tvm.schedules.cpu.vec import (
    Buffer,
    Expr,
    Registers,
    as_type,
    bind,
    filters,
    flat,
    i64,
    load,
    plus,
    scratch,
    splat,
    store,
    t,
    times,
)
from sd_tvm.schedules.ops.tir import dims, mark_layer
from sd_tvm.weights.rows import ROWS_PER_BLOCK
from sd_tvm.weights.tensor import ROWS_KEPT, SDWeight

#: Bytes of x that are laid out at once: they stay in the second-level cache for all filters.
_LAID_BYTES = 1 << 17
_SLOTS = 4
_ABSENT = 0x80  # index of a byte that a shuffle makes zero


def image_columns(layer: ConvLayer) -> tuple[int, int]:
    """First column of the padded image that lies in the image, and how many do; windows reach all of them."""
    width = layer.reach[1]
    first = min(layer.padding[1], width)
    return first, min(first + layer.in_hw[1], width) - first


@dataclass(frozen=True)
class TapUnits:
    """How codes lie in memory: units of four kept rows of the filters of a vector.

    A unit is a vector of row indices for each block it has rows of (none for 16:16), then S of codes.

    Attributes
    ----------
    layer, isa
        What for.
    """

    layer: ConvLayer
    isa: Isa

    @property
    def keep(self) -> int:
        """Rows kept of a block."""
        assert self.layer.form is not None
        return ROWS_KEPT[self.layer.form.pattern]

    @property
    def tables(self) -> int:
        """Blocks that the rows of a unit are picked from; 0: rows are not picked."""
        if self.keep == ROWS_PER_BLOCK:
            return 0
        return max(1, _SLOTS // self.keep)

    @property
    def step(self) -> tuple[int, int]:
        """(units, blocks) that go together."""
        blocks = max(1, self.tables)
        return blocks * self.keep // _SLOTS, blocks

    @property
    def steps(self) -> int:
        """Steps of a filter."""
        return -(-self.layer.geometry.blocks // self.step[1])

    @property
    def blocks(self) -> int:
        """Blocks of 16 rows, with one more where a step would lack it."""
        return self.steps * self.step[1]

    @property
    def filters(self) -> int:
        """Filters of a vector."""
        return self.isa.words

    @property
    def halves(self) -> int:
        """Vectors side by side in a block of 16 filters."""
        return LANES // self.filters

    @property
    def vectors(self) -> int:
        """Vectors of a unit."""
        return self.tables + self.layer.geometry.s

    @property
    def shape(self) -> tuple[int, ...]:
        """(MB, halves, steps, units, vectors, bytes)."""
        mbs = blocks16(self.layer.out_channels)
        return (mbs, self.halves, self.steps, self.step[0], self.vectors, self.isa.width)


def pack_taps(units: TapUnits, weight: SDWeight) -> npt.NDArray[np.uint8]:
    """uint8 :attr:`TapUnits.shape` of a weight's codes.

    Parameters
    ----------
    units
        Layout, of a layer with pattern N:16 whose rows are taps.
    weight
        Its weight.
    """
    m, rows, s = weight.coef.shape
    filters, keep = blocks16(m) * LANES, units.keep
    coef = np.zeros((filters, units.blocks * ROWS_PER_BLOCK, s), dtype=np.int8)
    coef[:m, :rows] = weight.coef
    blocked = coef.reshape(filters, units.blocks, ROWS_PER_BLOCK, s)
    # kept rows first, in order; a row that is zero is never needed
    order = np.argsort(~blocked.any(axis=3), axis=2, kind="stable")[:, :, :keep]
    if not units.tables:
        order = np.broadcast_to(np.arange(ROWS_PER_BLOCK), order.shape)
    codes = np.take_along_axis(blocked, order[..., None], axis=2).reshape(filters, -1, _SLOTS, s)
    index = order.reshape(filters, -1, _SLOTS, 1).astype(np.uint8)
    table = np.arange(_SLOTS)[:, None] // max(1, _SLOTS // max(1, units.tables))
    indices = [np.where(table == i, index, _ABSENT) for i in range(units.tables)]
    slots = np.concatenate([*(i.astype(np.uint8) for i in indices), codes.view(np.uint8)], axis=3)
    split = slots.reshape(-1, units.halves, units.filters, slots.shape[1], _SLOTS, units.vectors)
    return np.ascontiguousarray(split.transpose(0, 1, 3, 5, 2, 4)).reshape(units.shape)


def pack_transforms(operand: Operand, weight: SDWeight) -> npt.NDArray[np.int32]:
    """int32 (MB, S*S + S, 16): element (k, s) of the filters' bases, then T[k] of a column beside the image.

    Parameters
    ----------
    operand
        x as the kernel takes it; the layer's weight has one basis a filter.
    weight
        The weight.
    """
    m, _, s = weight.coef.shape
    out = np.zeros((blocks16(m) * LANES, s * s + s), dtype=np.int32)
    out[:m, : s * s] = weight.basis[weight.basis_of_rows()[:, 0]].reshape(m, -1)
    out[:m, s * s :] = operand.zero * weight.coef.sum(axis=1, dtype=np.int32)
    return np.ascontiguousarray(out.reshape(-1, LANES, s * s + s).transpose(0, 2, 1))


def build_taps(layer: ConvLayer, isa: Isa, columns: int, symbol: str, epilogue: Epilogue) -> Any:
    """PrimFunc of a layer. Operands: x, codes, transforms (as packed above), the epilogue's.

    Parameters
    ----------
    layer
        No groups; rows of taps, pattern N:16, one basis a filter.
    isa
        Instruction set; without products of four, :func:`chain` of the form is at least the units of a step.
    columns
        Most columns whose sums stay in registers, for three elements a row.
    symbol
        Name of the function.
    epilogue
        Of the layer.
    """
    return _Taps(layer, isa, columns, epilogue).build(symbol)


class _Taps:
    def __init__(self, layer: ConvLayer, isa: Isa, columns: int, epilogue: Epilogue) -> None:
        self.layer, self.isa, self.epilogue = layer, isa, epilogue
        self.units = TapUnits(layer, isa)
        self.s, self.mbs = layer.geometry.s, blocks16(layer.out_channels)
        self.laid = LaidTaps(Operand(layer, isa.operand), isa, self.units.blocks)
        (oh, _), self.width = layer.out_hw, layer.reach[1]
        self.first, self.inside = image_columns(layer)
        most = max(1, 3 * columns // self.s)
        #: Rows of the result that are summed at once.
        self.together = max(
            n for n in range(1, oh + 1) if n == 1 or (oh % n == 0 and n * self.inside <= most)
        )
        self.groups = even_groups(self.inside, most) if self.inside else ()
        #: (chunks, steps of rows of each) that are laid out at once.
        self.chunks = even_groups(oh // self.together, max(1, _LAID_BYTES // self.laid.row // self.together))

    def build(self, symbol: str) -> Any:
        layer, mbs, shape = self.layer, self.mbs, self.units.shape
        x_shape = (layer.batch, blocks16(layer.in_channels), *layer.in_hw, LANES)
        self.constants = self.s * self.s + self.s
        with ir_builder.IRBuilder() as frame, t.prim_func(s_tir=True):
            t.func_name(symbol)
            x = t.arg("x", t.Buffer(dims(*x_shape), layer.in_dtype))
            codes = t.arg("codes", t.Buffer(dims(*shape), "uint8"))
            transforms = t.arg("transforms", t.Buffer(dims(mbs, self.constants, LANES), "int32"))
            self.epilogue.arguments()
            self.x = flat(x, prod(x_shape), layer.in_dtype)
            self.codes = flat(codes, prod(shape), "uint8")
            self.transforms = flat(transforms, mbs * self.constants * LANES, "int32")
            with kernel_body(self.isa, symbol), t.serial(i64(layer.batch)) as n:
                self._image(n)
        return mark_layer(frame.get(), symbol, layer)

    def _image(self, n: Expr) -> None:
        first = 0
        for count, many in self.chunks:
            with t.serial(i64(count)) as chunk:
                y0 = bind((i64(first) + chunk * i64(many)) * i64(self.together))
                laid = self.laid.fill(self.x, n, y0, many * self.together)
                with filters(self.mbs, self.layer.macs) as mb:
                    sums = scratch(self.together * self.width * self.s * LANES, "uint32")
                    self._beside(sums, mb)
                    with t.serial(i64(many)) as y:
                        self._rows(laid, sums, n, mb, bind(y * i64(self.together)), y0)
            first += count * many

    def _rows(self, laid: Buffer, sums: Buffer, n: Expr, mb: Expr, row: Expr, y0: Expr) -> None:
        """Sixteen filters at the rows of the result that are summed at once."""
        first = self.first
        for count, size in self.groups:
            with t.serial(i64(count)) as g:
                column = bind(i64(first) + g * i64(size))
                self._group(laid, sums, mb, row * i64(self.laid.row), column, size)
            first += count * size
        self._transform(sums, n, mb, y0 + row)

    def _transforms(self, mb: Expr, first: int, count: int) -> list[Expr]:
        """Some vectors of a block of filters."""
        at = mb * i64(self.constants)
        values = [load(self.transforms, (at + i64(first + i)) * i64(LANES), LANES) for i in range(count)]
        return [bind(as_type(v, f"uint32x{LANES}")) for v in values]

    def _beside(self, sums: Buffer, mb: Expr) -> None:
        """Sums of the columns beside the image."""
        known = self._transforms(mb, self.s * self.s, self.s)
        last = self.first + self.inside
        for first, count in ((0, self.first), (last, self.width - last)):
            if count:
                with t.serial(i64(self.together)) as run, t.serial(i64(count)) as i:
                    at = bind((run * i64(self.width) + i64(first) + i) * i64(self.s * LANES))
                    for k, value in enumerate(known):
                        store(sums, at + i64(k * LANES), value, LANES)

    def _group(self, laid: Buffer, sums: Buffer, mb: Expr, row: Expr, column: Expr, size: int) -> None:
        """Sums of 16 filters at ``size`` columns of each row of the result; ``row`` counts bytes of x."""
        runs = range(self.together)
        at = bind(row + column * i64(LANES))
        columns = [run * self.laid.row + p * LANES for run in runs for p in range(size)]
        places = [
            (column + i64(run * self.width + p)) * i64(self.s) + i64(k)
            for run in runs
            for p in range(size)
            for k in range(self.s)
        ]
        _, halves, steps, units, vectors, width = self.units.shape
        unit_bytes = units * vectors * width
        for half in range(halves):
            codes = bind((mb * i64(halves) + i64(half)) * i64(steps * unit_bytes))
            to = [place * i64(LANES) + i64(half * self.isa.words) for place in places]
            if self.isa.dot:
                acc = Registers(len(places), "uint32", self.isa.words)
                acc.clear()
                with t.serial(i64(steps)) as b:
                    for i, x, code in self._products(laid, codes, at, b, columns):
                        acc[i] = self.isa.add_quads8(acc[i], x, code)
                for i, place in enumerate(to):
                    store(sums, place, acc[i], self.isa.words)
                continue
            for place in to:
                store(sums, place, splat(0, "uint32", self.isa.words), self.isa.words)
            assert self.layer.form is not None
            length = chain(self.layer.form) // units
            whole, rest = divmod(steps, length)
            if whole:
                with t.serial(i64(whole)) as g:
                    self._chain(laid, sums, codes, at, bind(g * i64(length)), length, columns, to)
            if rest:
                self._chain(laid, sums, codes, at, i64(whole * length), rest, columns, to)

    def _chain(
        self,
        laid: Buffer,
        sums: Buffer,
        codes: Expr,
        at: Expr,
        first: Expr,
        count: int,
        columns: list[int],
        to: list[Expr],
    ) -> None:
        """Some steps in int16, then added to the sums in memory."""
        short = Registers(len(to), "int16", self.isa.width // 2)
        short.clear()
        with t.serial(i64(count)) as b:
            for i, x, code in self._products(laid, codes, at, first + b, columns):
                short[i] = plus(short[i], self.isa.pairs8(x, code))
        ones = splat(1, "int16", self.isa.width // 2)
        for i, place in enumerate(to):
            total = load(sums, place, self.isa.words)
            store(sums, place, self.isa.add_pairs16(total, short[i], ones), self.isa.words)

    def _products(
        self, laid: Buffer, codes: Expr, at: Expr, step: Expr, columns: list[int]
    ) -> Iterator[tuple[int, Expr, Expr]]:
        """(sum, bytes of x, codes) of a step."""
        *_, units, vectors, width = self.units.shape
        tables, blocks = self.units.tables, self.units.step[1]
        x0 = bind(at + step * i64(blocks * self.laid.block))
        for unit in range(units):
            first = bind((step * i64(units) + i64(unit)) * i64(vectors * width) + codes)
            loaded = [
                bind(as_type(load(self.codes, first + i64(i * width), width), f"int8x{width}"))
                for i in range(vectors)
            ]
            for i, column in enumerate(columns):
                if tables:
                    x = picked(self.isa, laid, x0 + i64(column), self.laid.block, loaded[:tables])
                else:
                    four = as_type(load(laid, x0 + i64(column + unit * _SLOTS), _SLOTS), "int32")
                    x = as_type(tirx.Broadcast(four, width // _SLOTS), f"int8x{width}")
                x = bind(x)
                for k in range(self.s):
                    yield i * self.s + k, x, loaded[tables + k]

    def _transform(self, sums: Buffer, n: Expr, mb: Expr, row: Expr) -> None:
        """Pixels of some rows of the result from the sums of their columns."""
        layer, s = self.layer, self.s
        (oh, ow), sw, dw = layer.out_hw, layer.stride[1], layer.dilation[1]
        results = self.epilogue.of(mb)
        basis = self._transforms(mb, 0, s * s)
        with t.serial(i64(self.together)) as run, t.serial(i64(ow)) as ox:
            total = results.bias()
            at = bind((run * i64(self.width) + ox * i64(sw)) * i64(s * LANES))
            for e in range(s):
                for k in range(s):
                    value = load(sums, at + i64((e * dw * s + k) * LANES), LANES)
                    total = plus(total, times(basis[k * s + e], value))
            place = ((n * i64(self.mbs) + mb) * i64(oh) + row + run) * i64(ow) + ox
            results.store(place, bind(total))
