"""Convolutions with int8 weights: four products of bytes are added at once.

x is read as it lies in memory, sixteen channels of a pixel side by side; four of them are broadcast to
sixteen filters. Sums are exact modulo 2^32. Groups are those of :mod:`sd_tvm.schedules.cpu.groups`.

x is what the instruction set multiplies, unsigned or signed (:mod:`sd_tvm.schedules.cpu.operand`).
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm._tvm import ir_builder, tirx
from sd_tvm.layers import LANES, ConvLayer, blocks16
from sd_tvm.schedules.cpu.epilogue import Epilogue
from sd_tvm.schedules.cpu.groups import Window
from sd_tvm.schedules.cpu.guard import kernel_body
from sd_tvm.schedules.cpu.isa import Isa
from sd_tvm.schedules.cpu.operand import Operand
from sd_tvm.schedules.cpu.pixels import Plane, result_place, tiles
from sd_tvm.schedules.cpu.vec import (
    Buffer,
    Expr,
    Registers,
    as_type,
    bind,
    concat,
    filters,
    flat,
    i64,
    load,
    scratch,
    splat,
    store,
    t,
)
from sd_tvm.schedules.ops.tir import dims, mark_layer

_QUAD = 4
_QUADS = LANES // _QUAD


def pack_dense8(layer: ConvLayer, weight: npt.NDArray[np.int32]) -> npt.NDArray[np.int8]:
    """int8 (MB, KH*KW, quads, 64): sixteen filters of four channels.

    Parameters
    ----------
    layer
        The layer.
    weight
        int8 values (M, C / groups, KH, KW).
    """
    weight = Window(layer).spread(weight)
    m, c, kh, kw = weight.shape
    quads = -(-c // _QUAD)
    padded = np.zeros((blocks16(m) * LANES, quads * _QUAD, kh, kw), dtype=np.int8)
    padded[:m, :c] = weight
    # block, filter, quad, channel, ky, kx -> block, ky, kx, quad, filter, channel
    ordered = padded.reshape(-1, LANES, quads, _QUAD, kh, kw).transpose(0, 4, 5, 2, 1, 3)
    return np.ascontiguousarray(ordered.reshape(-1, kh * kw, quads, LANES * _QUAD))


def build_dense8(layer: ConvLayer, isa: Isa, pixels: int, symbol: str, epilogue: Epilogue) -> Any:
    """PrimFunc of a convolution. Operands: x, weights of :func:`pack_dense8`, the epilogue's.

    Parameters
    ----------
    layer
        The layer.
    isa
        Instruction set, one that adds four products at once.
    pixels
        Most pixels whose sums stay in registers.
    symbol
        Name of the function.
    epilogue
        Of the layer.
    """
    return _Dense8(layer, isa, pixels, epilogue).build(symbol)


class _Dense8:
    def __init__(self, layer: ConvLayer, isa: Isa, pixels: int, epilogue: Epilogue) -> None:
        self.layer, self.isa, self.epilogue = layer, isa, epilogue
        self.operand = Operand(layer, isa.operand)
        self.halves = LANES // isa.words
        self.cbs, self.mbs = blocks16(layer.in_channels), blocks16(layer.out_channels)
        self.window = Window(layer)
        self.quads = -(-self.window.channels // _QUAD)
        pointwise = layer.kernel == (1, 1) and not any(layer.padding)
        #: Whether the images of the batch are one pixel each and count as pixels.
        self.flat_batch = pointwise and prod(layer.in_hw) == 1
        self.plane = Plane.of(layer)
        (rows, columns), (sh, sw) = layer.out_hw, layer.stride
        #: Blocks of 16 in x from a row of the result to the next, a column, a block of channels.
        self.down, self.right, self.channels = sh * self.plane.width, sw, self.plane.size
        if self.flat_batch:
            (rows, columns), self.right, self.channels = (1, layer.batch), self.cbs, 1
        elif pointwise and layer.stride == (1, 1):
            rows, columns = 1, rows * columns
        self.columns = columns
        self.tiles = tiles(rows, columns, pixels)

    def build(self, symbol: str) -> Any:
        layer = self.layer
        x_shape = (layer.batch, self.cbs, *layer.in_hw, LANES)
        w_shape = (self.mbs, prod(layer.kernel), self.quads, LANES * _QUAD)
        with ir_builder.IRBuilder() as frame, t.prim_func(s_tir=True):
            t.func_name(symbol)
            x = t.arg("x", t.Buffer(dims(*x_shape), layer.in_dtype))
            w = t.arg("w", t.Buffer(dims(*w_shape), "int8"))
            self.epilogue.arguments()
            self.x = flat(x, prod(x_shape), layer.in_dtype)
            self.w = flat(w, prod(w_shape), "int8")
            with kernel_body(self.isa, symbol):
                if self.flat_batch:
                    self._images(layer.batch)
                else:
                    with t.serial(i64(layer.batch)) as n:
                        self._image(n)
        return mark_layer(frame.get(), symbol, layer)

    def _images(self, count: int) -> None:
        """Images of one pixel: they are the columns."""
        source = self.x
        if self.operand.shift:
            source = scratch(count * self.cbs * LANES, "uint8")
            self._copy(source, i64(0), count * self.cbs)
        self._tiles(source, i64(0), i64(0))

    def _copy(self, to: Buffer, first: Expr, blocks: int) -> None:
        with t.serial(i64(blocks)) as i:
            store(to, i * i64(LANES), self._read(first + i), LANES)

    def _read(self, at: Expr) -> Expr:
        """Sixteen channels of a pixel."""
        return self.operand.of(load(self.x, at * i64(LANES), LANES), LANES)

    def _image(self, n: Expr) -> None:
        plane, size = self.plane, prod(self.layer.in_hw)
        image = bind(n * i64(self.cbs * size))
        if not plane.padded and not self.operand.shift:
            self._tiles(self.x, image, n)
            return
        source = scratch(self.cbs * plane.size * LANES, "uint8")
        if not plane.padded:
            self._copy(source, image, self.cbs * size)
        else:
            zero = splat(self.operand.zero_byte, "uint8", LANES)
            with t.serial(i64(self.cbs)) as cb:
                start = image + cb * i64(size)
                plane.fill(self.layer, source, cb * i64(plane.size), zero, lambda at: self._read(start + at))
        self._tiles(source, i64(0), n)

    def _tiles(self, source: Buffer, image: Expr, n: Expr) -> None:
        """All filters at all pixels of an image that starts at block ``image`` of ``source``."""
        with filters(self.mbs, self.layer.macs) as mb:
            for tile in self.tiles:
                with t.serial(i64(tile.down)) as down, t.serial(i64(tile.across)) as across:
                    row = bind(i64(tile.row) + down * i64(tile.rows))
                    column = bind(i64(tile.column) + across * i64(tile.columns))
                    at = image + row * i64(self.down) + column * i64(self.right)
                    self._tile(source, bind(at), n, mb, bind(row * i64(self.columns) + column), tile.size)

    def _tile(
        self, source: Buffer, base: Expr, n: Expr, mb: Expr, pixel: Expr, size: tuple[int, int]
    ) -> None:
        """Sixteen filters at a tile of pixels."""
        layer = self.layer
        (kh, kw), (dh, dw) = layer.kernel, layer.dilation
        offsets = [row * self.down + column * self.right for row, column in np.ndindex(*size)]
        results = self.epilogue.of(mb)
        acc = Registers(len(offsets) * self.halves, "uint32", self.isa.words)
        for h in range(self.halves):
            bias = results.bias(h * self.isa.words, self.isa.words)
            for i in range(len(offsets)):
                acc[i * self.halves + h] = bias
        tap_bytes = self.quads * LANES * _QUAD
        base = base + self.window.first(mb) * i64(self.channels)
        with t.serial(i64(kh)) as ky, t.serial(i64(kw)) as kx:
            at = bind(base + ky * i64(dh * self.plane.width) + kx * i64(dw))
            w = bind(((mb * i64(kh) + ky) * i64(kw) + kx) * i64(tap_bytes))
            full, rest = divmod(self.quads, _QUADS)
            if full:
                with t.serial(i64(full)) as cb:
                    self._quads(acc, source, bind(at + cb * i64(self.channels)), w, cb, offsets, _QUADS)
            if rest:
                self._quads(acc, source, at + i64(full * self.channels), w, i64(full), offsets, rest)
        for i, (row, column) in enumerate(np.ndindex(*size)):
            place = pixel + i64(row * self.columns + column)
            place = result_place(layer, self.flat_batch, n, mb, place)
            total = concat([acc[i * self.halves + h] for h in range(self.halves)], self.isa.words)
            results.store(place, total)

    def _quads(
        self, acc: Registers, source: Buffer, at: Expr, w: Expr, cb: Expr, offsets: list[int], count: int
    ) -> None:
        """``count`` times four channels of a block of sixteen, added to every pixel of the tile."""
        width = self.isa.width
        for q in range(count):
            first = w + (cb * i64(_QUADS) + i64(q)) * i64(LANES * _QUAD)
            weights = [bind(load(self.w, first + i64(h * width), width)) for h in range(self.halves)]
            for i, offset in enumerate(offsets):
                four = load(source, (at + i64(offset)) * i64(LANES) + i64(q * _QUAD), _QUAD)
                x = tirx.Broadcast(as_type(four, "int32"), self.isa.words)
                x = bind(as_type(x, f"{self.isa.operand}x{width}"))
                for h, weight in enumerate(weights):
                    j = i * self.halves + h
                    acc[j] = self.isa.add_quads8(acc[j], x, weight)
