"""Convolutions with whole int16 weights, rebuilt once, when a module is compiled.

Every rebuilt weight fits int16 (:func:`~sd_tvm.schedules.ops.weight.weight_dtype` says when), so sums of
pairs of int16 products are exact in int32 for every code, basis and activation. x becomes int16 on the way
into a buffer that stays in a cache; a pair of its channels is broadcast to sixteen filters. How groups lie
says :mod:`sd_tvm.schedules.cpu.groups`.
"""

from __future__ import annotations

from dataclasses import dataclass
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
from sd_tvm.schedules.cpu.pixels import Groups, even_groups, fill_padded, pixel_source, result_place
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
    prefetch,
    scratch,
    splat,
    store,
    t,
)
from sd_tvm.schedules.ops.tir import dims, mark_layer

#: Weights of more bytes stay in a cache no better than x does: all of x is then prepared first.
_MANY_WEIGHTS = 1 << 19
_PAIR = 2


@dataclass(frozen=True)
class Shape:
    """How a layer's channels lie in pairs, and its pixels in groups.

    Attributes
    ----------
    layer
        The layer.
    pixels
        Most pixels whose sums stay in registers.
    """

    layer: ConvLayer
    pixels: int

    @property
    def pointwise(self) -> bool:
        """Whether every pixel of the result needs one of the input: no padding, kernel 1x1."""
        return self.layer.kernel == (1, 1) and not any(self.layer.padding)

    @property
    def flat_batch(self) -> bool:
        """Whether the images of the batch are one pixel each and count as pixels."""
        return self.pointwise and prod(self.layer.out_hw) == 1

    @property
    def images(self) -> int:
        """Images that are computed one after the other."""
        return 1 if self.flat_batch else self.layer.batch

    @property
    def runs(self) -> int:
        """Rows of pixels of an image: within one, groups are cut."""
        return 1 if self.pointwise else self.layer.out_hw[0]

    @property
    def run(self) -> int:
        """Pixels of a row."""
        if self.flat_batch:
            return self.layer.batch
        return prod(self.layer.out_hw) if self.pointwise else self.layer.out_hw[1]

    @property
    def groups(self) -> Groups:
        """(groups, pixels of each): as equal as can be, the larger ones first."""
        return even_groups(self.run, self.pixels)

    @property
    def channels(self) -> int:
        """Channels of a prepared pixel: an even number, whole blocks if there are groups."""
        to = _PAIR if self.layer.groups == 1 else LANES
        return -(-self.layer.in_channels // to) * to

    @property
    def pairs(self) -> int:
        """Pairs of channels that a filter meets."""
        return -(-Window(self.layer).channels // _PAIR)

    @property
    def steps(self) -> int:
        """Pairs of channels and taps that are added."""
        return prod(self.layer.kernel) * self.pairs


def pack_dense(layer: ConvLayer, weight: npt.NDArray[np.int32]) -> npt.NDArray[np.int16]:
    """int16 (MB, steps, 32): for a tap and a pair of channels, sixteen filters of two weights.

    Parameters
    ----------
    layer
        The layer.
    weight
        Exact integers (M, C / groups, KH, KW), all within int16.
    """
    weight = Window(layer).spread(weight)
    m, c, kh, kw = weight.shape
    padded = np.zeros((blocks16(m) * LANES, -(-c // _PAIR) * _PAIR, kh, kw), dtype=np.int16)
    padded[:m, :c] = weight
    pairs = padded.reshape(blocks16(m), LANES, -1, _PAIR, kh, kw)
    # block, tap, pair, filter, channel of the pair
    return np.ascontiguousarray(pairs.transpose(0, 4, 5, 2, 1, 3).reshape(blocks16(m), -1, LANES * _PAIR))


def build_dense(layer: ConvLayer, isa: Isa, pixels: int, symbol: str, epilogue: Epilogue) -> Any:
    """PrimFunc of a convolution. Operands: x, weights of :func:`pack_dense`, the epilogue's.

    Parameters
    ----------
    layer
        The layer.
    isa
        Instruction set.
    pixels
        Most pixels of a group.
    symbol
        Name of the function.
    epilogue
        Of the layer.
    """
    return _Dense(layer, isa, pixels, epilogue).build(symbol)


class _Dense:
    def __init__(self, layer: ConvLayer, isa: Isa, pixels: int, epilogue: Epilogue) -> None:
        self.layer, self.isa, self.epilogue = layer, isa, epilogue
        self.shape = Shape(layer, pixels)
        self.halves = LANES // isa.words
        shape = self.shape
        self.cbs, self.mbs = blocks16(layer.in_channels), blocks16(layer.out_channels)
        many = 4 * LANES * self.mbs * shape.steps > _MANY_WEIGHTS
        #: Whether weights are likely not to be in a cache of the core.
        self.ahead = many
        #: Whether all of an image is prepared before the first filter, not one group of pixels at a time.
        self.whole = not shape.pointwise or (many and shape.run > pixels)
        self.hw = (1, shape.run) if shape.pointwise else layer.reach

    def build(self, symbol: str) -> Any:
        layer, shape = self.layer, self.shape
        x_shape = (layer.batch, self.cbs, *layer.in_hw, LANES)
        with ir_builder.IRBuilder() as frame, t.prim_func(s_tir=True):
            t.func_name(symbol)
            x = t.arg("x", t.Buffer(dims(*x_shape), layer.in_dtype))
            w = t.arg("w", t.Buffer(dims(self.mbs, shape.steps, LANES * _PAIR), "int16"))
            self.epilogue.arguments()
            self.x = flat(x, prod(x_shape), layer.in_dtype)
            self.w = flat(w, self.mbs * shape.steps * LANES * _PAIR, "int16")
            with kernel_body(self.isa, symbol), t.serial(i64(shape.images)) as n:
                if self.whole:
                    self._whole(n)
                else:
                    self._by_group(n)
        return mark_layer(frame.get(), symbol, layer)

    def _by_group(self, n: Expr) -> None:
        first, channels = 0, self.shape.channels
        for count, size in self.shape.groups:
            with t.serial(i64(count)) as g:
                p0 = bind(i64(first) + g * i64(size))
                xw = scratch(size * channels, "int16")
                with t.serial(i64(size)) as p:
                    self._widen(
                        xw, p * i64(channels), pixel_source(self.layer, self.shape.flat_batch, n, p0 + p)
                    )
                with t.serial(i64(self.mbs)) as mb:
                    self._group(xw, n, mb, i64(0), p0, size)
            first += count * size

    def _whole(self, n: Expr) -> None:
        height, width = self.hw
        channels = self.shape.channels
        xw = scratch(height * width * channels, "int16")
        if self.shape.pointwise:
            with t.serial(i64(width)) as p:
                self._widen(xw, p * i64(channels), pixel_source(self.layer, self.shape.flat_batch, n, p))
        else:
            self._padded(xw, n)
        with filters(self.mbs, self.layer.macs) as mb, t.serial(i64(self.shape.runs)) as oy:
            first = 0
            row = oy * i64(self.layer.out_hw[1])
            sh, sw = (1, 1) if self.shape.pointwise else self.layer.stride
            for count, size in self.shape.groups:
                with t.serial(i64(count)) as g:
                    p0 = bind(i64(first) + g * i64(size))
                    base = bind((oy * i64(sh * width) + p0 * i64(sw)) * i64(channels))
                    self._group(xw, n, mb, base, row + p0, size)
                first += count * size

    def _widen(self, xw: Buffer, at: Expr, source: Expr) -> None:
        """int16 of all channels of one pixel."""
        h, w = self.layer.in_hw

        def block(cb: Expr, lanes: int) -> None:
            value = load(self.x, (source + cb * i64(h * w)) * i64(LANES), lanes).astype(f"int16x{lanes}")
            store(xw, at + cb * i64(LANES), value, lanes)

        full, rest = divmod(self.shape.channels, LANES)
        if full:
            with t.serial(i64(full)) as cb:
                block(cb, LANES)
        if rest:
            block(i64(full), rest)

    def _padded(self, xw: Buffer, n: Expr) -> None:
        """int16 of an image, the zero point around it."""
        layer, channels = self.layer, self.shape.channels

        def border(at: Expr, count: int) -> None:
            with t.serial(i64(count * channels // _PAIR)) as i:
                value = splat(layer.in_zero_point, "int16", _PAIR)
                store(xw, at * i64(channels) + i * i64(_PAIR), value, _PAIR)

        def inside(at: Expr, source: Expr) -> None:
            self._widen(xw, at * i64(channels), n * i64(self.cbs * prod(layer.in_hw)) + source)

        fill_padded(layer, self.hw, border, inside)

    def _group(self, xw: Buffer, n: Expr, mb: Expr, base: Expr, pixel: Expr, size: int) -> None:
        """Sixteen filters at ``size`` pixels, the first of them prepared at ``base``."""
        layer, shape, lanes32 = self.layer, self.shape, self.isa.words
        (kh, kw), (dh, dw) = layer.kernel, layer.dilation
        per_tap, base = shape.pairs, base + Window(layer).first(mb) * i64(LANES)
        results = self.epilogue.of(mb)
        acc = Registers(size * self.halves, "uint32", lanes32)
        for half in range(self.halves):
            bias = results.bias(half * lanes32, lanes32)
            for p in range(size):
                acc[p * self.halves + half] = bias
        with t.serial(i64(kh)) as ky, t.serial(i64(kw)) as kx:
            step = bind(mb * i64(shape.steps) + (ky * i64(kw) + kx) * i64(per_tap))
            at = bind(base + (ky * i64(dh * self.hw[1]) + kx * i64(dw)) * i64(shape.channels))
            with t.serial(i64(per_tap)) as pair:
                self._pair(acc, xw, at + pair * i64(_PAIR), step + pair, size)
        for p in range(size):
            total = bind(concat([acc[p * self.halves + h] for h in range(self.halves)], lanes32))
            place = result_place(layer, shape.flat_batch, n, mb, pixel + i64(p))
            results.store(place, total)

    def _pair(self, acc: Registers, xw: Buffer, at: Expr, step: Expr, size: int) -> None:
        """One pair of channels of one tap, added to every pixel of the group."""
        words = self.isa.words
        stride = self.shape.channels * (1 if self.shape.pointwise else self.layer.stride[1])
        if self.ahead:  # those of the next filters: too few in a row to be foreseen
            prefetch(self.w, (step + i64(self.shape.steps)) * i64(LANES * _PAIR))
        weights = [
            bind(load(self.w, step * i64(LANES * _PAIR) + i64(h * words * _PAIR), words * _PAIR))
            for h in range(self.halves)
        ]
        for p in range(size):
            two = as_type(load(xw, at + i64(p * stride), _PAIR), "int32")
            spread = bind(as_type(tirx.Broadcast(two, words), f"int16x{words * _PAIR}"))
            for h in range(self.halves):
                i = p * self.halves + h
                acc[i] = self.isa.add_pairs16(acc[i], spread, weights[h])
