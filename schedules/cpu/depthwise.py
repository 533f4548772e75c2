"""Depthwise convolutions (one input channel a filter) with whole int16 weights, sixteen filters at a time.

Channels lie side by side in memory, so nothing is broadcast: pixels of two rows of the window are read with
their channels in turn, widened to int16, and multiplied in pairs. A last odd row is widened to int32: the
second half of each pair meets zero.
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
from sd_tvm.schedules.cpu.pixels import Plane, even_groups
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
    pick,
    scratch,
    splat,
    t,
)
from sd_tvm.schedules.ops.tir import dims, mark_layer


def pack_depthwise(weight: npt.NDArray[np.int32]) -> npt.NDArray[np.int16]:
    """int16 (MB, pairs of rows * KW, 16, 2): weights of two rows of the kernel; a last odd row beside zeros.

    Parameters
    ----------
    weight
        Exact integers (M, 1, KH, KW), all within int16.
    """
    m, _, kh, kw = weight.shape
    pairs = -(-kh // 2)
    padded = np.zeros((blocks16(m) * LANES, 2 * pairs, kw), dtype=np.int16)
    padded[:m, :kh] = weight[:, 0]
    shaped = padded.reshape(-1, LANES, pairs, 2, kw).transpose(0, 2, 4, 1, 3)
    return np.ascontiguousarray(shaped.reshape(-1, pairs * kw, LANES, 2))


def build_depthwise(layer: ConvLayer, isa: Isa, pixels: int, symbol: str, epilogue: Epilogue) -> Any:
    """PrimFunc of a depthwise convolution. Operands: x, weights of :func:`pack_depthwise`, the epilogue's.

    Parameters
    ----------
    layer
        ``groups``, input and output channels are equal.
    isa
        Instruction set.
    pixels
        Most pixels whose sums stay in registers.
    symbol
        Name of the function.
    epilogue
        Of the layer.
    """
    return _Depthwise(layer, isa, pixels, epilogue).build(symbol)


class _Depthwise:
    def __init__(self, layer: ConvLayer, isa: Isa, pixels: int, epilogue: Epilogue) -> None:
        self.layer, self.isa, self.epilogue = layer, isa, epilogue
        self.halves = LANES // isa.words
        self.plane = Plane.of(layer)
        self.groups = even_groups(layer.out_hw[1], pixels)

    def build(self, symbol: str) -> Any:
        layer = self.layer
        mbs, taps = blocks16(layer.out_channels), -(-layer.kernel[0] // 2) * layer.kernel[1]
        x_shape = (layer.batch, mbs, *layer.in_hw, LANES)
        plane = self.plane.size
        with ir_builder.IRBuilder() as frame, t.prim_func(s_tir=True):
            t.func_name(symbol)
            x = t.arg("x", t.Buffer(dims(*x_shape), layer.in_dtype))
            w = t.arg("w", t.Buffer(dims(mbs, taps, LANES, 2), "int16"))
            self.epilogue.arguments()
            xs = flat(x, prod(x_shape), layer.in_dtype)
            self.w = flat(w, mbs * taps * LANES * 2, "int16")
            with (
                kernel_body(self.isa, symbol),
                t.serial(i64(layer.batch)) as n,
                filters(mbs, layer.macs) as mb,
            ):
                image = n * i64(mbs) + mb
                if self.plane.padded:
                    source = scratch(plane * LANES, layer.in_dtype)
                    self._pad(source, xs, image)
                    self._rows(source, i64(0), image, mb)
                else:
                    self._rows(xs, image * i64(plane), image, mb)
        return mark_layer(frame.get(), symbol, layer)

    def _pad(self, to: Buffer, x: Buffer, image: Expr) -> None:
        """One block of channels, the zero point around it."""
        layer = self.layer
        zero = splat(layer.in_zero_point, layer.in_dtype, LANES)
        first = image * i64(prod(layer.in_hw))
        self.plane.fill(layer, to, i64(0), zero, lambda at: load(x, (first + at) * i64(LANES), LANES))

    def _rows(self, source: Buffer, base: Expr, image: Expr, mb: Expr) -> None:
        with t.serial(i64(self.layer.out_hw[0])) as oy:
            first = 0
            for count, size in self.groups:
                with t.serial(i64(count)) as g:
                    self._group(source, base, image, mb, oy, bind(i64(first) + g * i64(size)), size)
                first += count * size

    def _group(
        self, source: Buffer, base: Expr, image: Expr, mb: Expr, oy: Expr, ox: Expr, size: int
    ) -> None:
        """Sixteen filters at ``size`` pixels of a row."""
        layer, words32, halves = self.layer, self.isa.words, self.halves
        (oh, ow), (sh, sw), (dh, dw), (kh, kw) = layer.out_hw, layer.stride, layer.dilation, layer.kernel
        acc = Registers(size * halves, "uint32", words32)
        results = self.epilogue.of(mb)
        for h in range(halves):
            bias = results.bias(h * words32, words32)
            for p in range(size):
                acc[p * halves + h] = bias
        readers: dict[int, list[tuple[int, int]]] = {}
        for p in range(size):
            for kx in range(kw):
                readers.setdefault(p * sw + kx * dw, []).append((p, kx))
        first = bind(base + oy * i64(sh * self.plane.width) + ox * i64(sw))
        row = dh * self.plane.width
        weights_of = bind(mb * i64(-(-kh // 2) * kw * LANES))

        def rows(pair: Expr, count: int) -> None:
            at = bind((first + pair * i64(2 * row)) * i64(LANES))
            places = [at + i64(r * row * LANES) for r in range(count)]
            tap = bind(weights_of + pair * i64(kw * LANES))
            for h in range(halves):
                weights = [bind(self._weight(tap, kx, h)) for kx in range(kw)]
                for column, uses in sorted(readers.items()):
                    value = self._values(source, [v + i64(column * LANES + h * words32) for v in places])
                    for p, kx in uses:
                        i = p * halves + h
                        acc[i] = (self.isa.add_pairs16 if count > 1 else self.isa.add_low16)(
                            acc[i], value, weights[kx]
                        )

        if kh > 1:
            with t.serial(i64(kh // 2)) as pair:
                rows(pair, 2)
        if kh % 2:
            rows(i64(kh // 2), 1)
        for p in range(size):
            total = bind(concat([acc[p * halves + h] for h in range(halves)], words32))
            place = (image * i64(oh) + oy) * i64(ow) + ox + i64(p)
            results.store(place, total)

    def _values(self, source: Buffer, places: list[Expr]) -> Expr:
        """int16 of one pixel of one or two rows: channels of both in turn, or each beside its upper half."""
        words = self.isa.words
        rows = [load(source, at, words) for at in places]
        if len(rows) == 1:
            return bind(as_type(rows[0].astype(f"int32x{words}"), f"int16x{2 * words}"))
        both = pick([bind(r) for r in rows], [i // 2 + words * (i % 2) for i in range(2 * words)])
        return bind(both.astype(f"int16x{2 * words}"))

    def _weight(self, tap: Expr, kx: int, half: int) -> Expr:
        words = self.isa.words
        return load(self.w, (tap + i64(kx * LANES + half * words)) * i64(2), 2 * words)
