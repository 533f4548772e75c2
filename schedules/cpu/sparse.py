"""Convolutions and dense layers with N:16 rows; kept rows are rebuilt to int16 when a module is compiled.

A filter keeps N of 16 rows of S elements; only those are multiplied. x is laid out so that the 16 values that
one element of a block of rows meets are 16 neighbouring bytes; a byte shuffle with the filters' row indices
picks each filter's own, widened to int16 on the way (an index with bit 7 set gives zero). Sums of pairs of
int16 products are exact in int32 for every code, basis and activation.

Bytes of x are widened with zeros, so they are unsigned on every instruction set.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm._tvm import ir_builder
from sd_tvm.layers import LANES, ConvLayer, blocks16
from sd_tvm.schedules.cpu.epilogue import Epilogue
from sd_tvm.schedules.cpu.guard import kernel_body
from sd_tvm.schedules.cpu.isa import Isa
from sd_tvm.schedules.cpu.laid import LaidTaps
from sd_tvm.schedules.cpu.laid_pixels import LaidPixels
from sd_tvm.schedules.cpu.operand import Operand
from sd_tvm.schedules.cpu.pixels import even_groups, result_place
from sd_tvm.schedules.cpu.vec import (
    LINE,
    Buffer,
    Expr,
    Registers,
    as_type,
    bind,
    filters,
    flat,
    i64,
    load,
    prefetch,
    repeat,
    scratch,
    store,
    t,
)
from sd_tvm.schedules.ops.tir import dims, mark_layer
from sd_tvm.weights.rows import ROWS_PER_BLOCK
from sd_tvm.weights.tensor import ROWS_KEPT, SDWeight

#: More bytes of weights than this: all of x is laid out first, and a block of filters meets all its pixels.
_MANY_WEIGHTS = 1 << 18
_PAIR = 2
#: Type of the bytes of x.
BYTES = "uint8"
_ZERO_INDEX = 0x80
#: Pairs of kept rows that a value of x is read for.
_TOGETHER = 2


def pack_sparse(layer: ConvLayer, weight: SDWeight, isa: Isa) -> npt.NDArray[np.uint8]:
    """uint8 (MB * parts, blocks, pairs, 1 + S, width): indices of two kept rows, then S weights.

    A part of sixteen filters are those of one vector; ``width`` is its bytes.

    Parameters
    ----------
    layer
        Pattern 2:16, 4:16 or 8:16.
    weight
        Its weight; every rebuilt element fits int16.
    isa
        Instruction set.
    """
    assert layer.form is not None
    geometry, keep = layer.geometry, ROWS_KEPT[layer.form.pattern]
    m, s, blocks = layer.out_channels, geometry.s, geometry.blocks
    filters = blocks16(m) * LANES
    rows = np.zeros((filters, blocks * ROWS_PER_BLOCK, s), dtype=np.int16)
    rows[:m, : geometry.rows] = geometry.to_rows(weight.integer())
    blocked = rows.reshape(filters, blocks, ROWS_PER_BLOCK, s)
    # kept rows first, in order; a row that is zero is never needed
    order = np.argsort(~blocked.any(axis=3), axis=2, kind="stable")[:, :, :keep]
    values = np.take_along_axis(blocked, order[..., None], axis=2)
    shape = (-1, isa.words, blocks, keep // _PAIR, _PAIR)
    index = order.astype("<u2").reshape(shape) | (_ZERO_INDEX << 8)
    parts = [index.transpose(0, 2, 3, 1, 4), *np.moveaxis(values, 3, 0).astype("<i2").reshape(s, *shape)]
    lanes = [parts[0], *(v.transpose(0, 2, 3, 1, 4).view("<u2") for v in parts[1:])]
    stacked = np.stack(lanes, axis=3)  # vector of filters, block of rows, pair, 1 + s, filter, row
    return np.ascontiguousarray(stacked).view(np.uint8).reshape(*stacked.shape[:4], isa.width)


def build_sparse(layer: ConvLayer, isa: Isa, pixels: int, symbol: str, epilogue: Epilogue) -> Any:
    """PrimFunc of a layer with N:16 rows. Operands: x, weights of :func:`pack_sparse`, the epilogue's.

    Parameters
    ----------
    layer
        No groups; a kernel 1x1 without padding, or rows of taps.
    isa
        Instruction set.
    pixels
        Most pixels whose sums stay in registers.
    symbol
        Name of the function.
    epilogue
        Of the layer.
    """
    return _Sparse(layer, isa, pixels, epilogue).build(symbol)


class _Sparse:
    def __init__(self, layer: ConvLayer, isa: Isa, pixels: int, epilogue: Epilogue) -> None:
        assert layer.form is not None
        self.layer, self.isa, self.epilogue = layer, isa, epilogue
        self.operand = Operand(layer, BYTES)
        self.halves = LANES // isa.words
        self.s, self.blocks = layer.geometry.s, layer.geometry.blocks
        self.pairs = ROWS_KEPT[layer.form.pattern] // _PAIR
        self.cbs, self.mbs = blocks16(layer.in_channels), blocks16(layer.out_channels)
        self.taps = layer.geometry.kind == "taps"
        self.pixels = LaidPixels(self.operand, self.blocks)
        self.flat_batch = not self.taps and self.pixels.flat_batch
        #: (images, runs of pixels in each, pixels of a run)
        self.images, self.runs, self.run = self.pixels.images, 1, self.pixels.run
        if self.taps:
            self.images, (self.runs, self.run) = layer.batch, layer.out_hw
        #: Runs that make one group: their pixels share the weights that are loaded.
        self.together = (
            max(n for n in range(1, self.runs + 1) if self.runs % n == 0 and n * self.run <= pixels)
            if self.run <= pixels
            else 1
        )
        self.groups = even_groups(self.run, pixels)
        self.laid = LaidTaps(self.operand, isa, self.blocks) if self.taps else None
        #: Bytes in the laid out x from a pixel (taps: column) to the next, and so from a block of rows, an
        #: element of them, a run of pixels.
        self.column, self.block, self.element = self.pixels.pixel, ROWS_PER_BLOCK, self.pixels.element
        self.line = self.run * self.column
        if self.laid is not None:
            self.column, self.block, self.line = LANES, self.laid.block, self.laid.row
            self.element = layer.dilation[1] * LANES
        #: Bytes of two kept rows of a vector of filters; of all that it keeps.
        self.unit = (1 + self.s) * isa.width
        self.part = self.blocks * self.pairs * self.unit
        self.whole = self.taps or self.mbs * self.halves * self.part > _MANY_WEIGHTS

    def build(self, symbol: str) -> Any:
        layer = self.layer
        x_shape = (layer.batch, self.cbs, *layer.in_hw, LANES)
        w_shape = (self.mbs * self.halves, self.blocks, self.pairs, 1 + self.s, self.isa.width)
        with ir_builder.IRBuilder() as frame, t.prim_func(s_tir=True):
            t.func_name(symbol)
            x = t.arg("x", t.Buffer(dims(*x_shape), layer.in_dtype))
            w = t.arg("w", t.Buffer(dims(*w_shape), "uint8"))
            self.epilogue.arguments()
            self.x = flat(x, prod(x_shape), layer.in_dtype)
            self.w = flat(w, prod(w_shape), "uint8")
            with kernel_body(self.isa, symbol), t.serial(i64(self.images)) as n:
                self._image(n)
        return mark_layer(frame.get(), symbol, layer)

    def _image(self, n: Expr) -> None:
        if not self.whole:
            first = 0
            for count, size in self.groups:
                with t.serial(i64(count)) as g:
                    p0 = bind(i64(first) + g * i64(size))
                    laid = scratch(size * self.column, "uint8")
                    with t.serial(i64(size)) as p:
                        self.pixels.fill(laid, p, self.x, n, p0 + p)
                    with t.serial(i64(self.mbs)) as mb:
                        self._group(laid, n, mb, i64(0), p0, size)
                first += count * size
            return
        if self.laid is not None:
            laid = self.laid.fill(self.x, n, i64(0), self.runs)
        else:
            laid = scratch(self.run * self.column, "uint8")
            with t.serial(i64(self.run)) as p:
                self.pixels.fill(laid, p, self.x, n, p)
        sw = self.layer.stride[1] if self.taps else 1
        with filters(self.mbs, self.layer.macs) as mb, t.serial(i64(self.runs // self.together)) as y:
            first = 0
            run = bind(y * i64(self.together))
            for count, size in self.groups:
                with t.serial(i64(count)) as g:
                    p0 = bind(i64(first) + g * i64(size))
                    base = bind(run * i64(self.line) + p0 * i64(sw * self.column))
                    self._group(laid, n, mb, base, run * i64(self.run) + p0, size)
                first += count * size

    def _group(self, laid: Buffer, n: Expr, mb: Expr, base: Expr, pixel: Expr, size: int) -> None:
        """Sixteen filters at ``size`` pixels of each run of the group, the first of them at ``base``."""
        layer, words32, halves = self.layer, self.isa.words, self.halves
        results = self.epilogue.of(mb)
        sw = layer.stride[1] if self.taps else 1
        columns = [
            run * self.line + p * sw * self.column for run in range(self.together) for p in range(size)
        ]
        sums = scratch(len(columns) * LANES, "uint32")
        for h in range(halves):  # one vector of filters at a time: more pixels then share a weight
            acc = Registers(len(columns), "uint32", words32)
            bias = results.bias(h * words32, words32)
            for p in range(len(columns)):
                acc[p] = bias
            part = bind((mb * i64(halves) + i64(h)) * i64(self.part))
            with t.serial(i64(self.blocks)) as b:
                at = bind(base + b * i64(self.block))
                w = bind(part + b * i64(self.pairs * self.unit))
                full, rest = divmod(self.pairs, _TOGETHER)
                with t.serial(i64(full)) as some:
                    self._pairs(acc, laid, at, w + some * i64(_TOGETHER * self.unit), columns, _TOGETHER)
                if rest:
                    self._pairs(acc, laid, at, w + i64(full * _TOGETHER * self.unit), columns, rest)
            for p in range(len(columns)):
                store(sums, i64(p * LANES + h * words32), acc[p], words32)
        for i in range(len(columns)):
            run, p = divmod(i, size)
            place = result_place(layer, self.flat_batch, n, mb, pixel + i64(run * self.run + p))
            results.store(place, bind(load(sums, i64(i * LANES), LANES)))

    def _pairs(self, acc: Registers, laid: Buffer, at: Expr, w: Expr, columns: list[int], count: int) -> None:
        """Some pairs of kept rows of a vector of filters, at a group of pixels (``columns``: their bytes).

        The next vector's weights are asked for meanwhile: there are too few in a row to be foreseen.
        """
        width = self.isa.width
        starts = [bind(w + i64(i * self.unit)) for i in range(count)]
        index = [bind(as_type(load(self.w, at, width), f"int8x{width}")) for at in starts]
        for line in range(0, count * self.unit, LINE):
            prefetch(self.w, w + i64(self.part + line))
        with t.serial(i64(self.s)) as k:
            weights = [
                bind(as_type(load(self.w, at + (k + i64(1)) * i64(width), width), f"int16x{width // 2}"))
                for at in starts
            ]
            place = bind(at + k * i64(self.element))
            for j, column in enumerate(columns):
                values = bind(as_type(load(laid, place + i64(column), LANES), f"int8x{LANES}"))
                table = repeat(values, LANES, width // LANES)
                for i in range(count):
                    x = bind(as_type(self.isa.lookup(table, index[i]), f"int16x{width // 2}"))
                    acc[j] = self.isa.add_pairs16(acc[j], x, weights[i])
