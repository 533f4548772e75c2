"""Pointwise layers of many pixels, straight from the codes of N:16: sums first, the basis after them.

As in :mod:`sd_tvm.schedules.cpu.gemv`, T[k, t] = sum over kept rows of code[k] * x[t] needs no basis, and a
pixel's result is the sum over k, t of B[k, t] * T[k, t]. What is multiplied for every row are bytes, four
products at once; a filter's own rows are picked from a block of 16 by a byte shuffle, which all codes of a
row share. Codes are looked up in the alphabet when a module is compiled. Sums are exact modulo 2^32.

x is what the instruction set multiplies, unsigned or signed (:mod:`sd_tvm.schedules.cpu.operand`).
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm._tvm import ir_builder
from sd_tvm.layers import LANES, ConvLayer, blocks16
from sd_tvm.schedules.cpu.epilogue import Epilogue, Results
from sd_tvm.schedules.cpu.guard import kernel_body
from sd_tvm.schedules.cpu.isa import Isa
from sd_tvm.schedules.cpu.laid import picked
from sd_tvm.schedules.cpu.laid_pixels import LaidPixels
from sd_tvm.schedules.cpu.operand import Operand
from sd_tvm.schedules.cpu.pixels import even_groups
from sd_tvm.schedules.cpu.taps import TapUnits
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
    plus,
    scratch,
    t,
    times,
)
from sd_tvm.schedules.ops.tir import dims, mark_layer
from sd_tvm.weights.rows import ROWS_PER_BLOCK
from sd_tvm.weights.tensor import SDWeight

#: Bytes of pixels that are laid out at once: they stay in the second-level cache for all filters.
_LAID_BYTES = 1 << 18


def pack_bases(weight: SDWeight) -> npt.NDArray[np.int8]:
    """int8 (MB, S*S, 16): element (k, t) of the filters' bases, one basis a filter."""
    m, _, s = weight.coef.shape
    out = np.zeros((blocks16(m) * LANES, s * s), dtype=np.int8)
    out[:m] = weight.basis[weight.basis_of_rows()[:, 0]].reshape(m, -1)
    return np.ascontiguousarray(out.reshape(-1, LANES, s * s).transpose(0, 2, 1))


def build_gemm(layer: ConvLayer, isa: Isa, pixels: int, symbol: str, epilogue: Epilogue) -> Any:
    """PrimFunc of a layer. Operands: x, codes (as ``pack_taps`` makes them), bases, the epilogue's.

    Parameters
    ----------
    layer
        Kernel 1x1 without padding or groups; pattern N:16 below 16:16, one basis a filter.
    isa
        Instruction set, one that adds four products at once.
    pixels
        Most pixels whose sums stay in registers.
    symbol
        Name of the function.
    epilogue
        Of the layer.
    """
    return _Gemm(layer, isa, pixels, epilogue).build(symbol)


class _Gemm:
    def __init__(self, layer: ConvLayer, isa: Isa, pixels: int, epilogue: Epilogue) -> None:
        self.layer, self.isa, self.epilogue, self.pixels = layer, isa, epilogue, pixels
        self.units = TapUnits(layer, isa)
        self.s, self.mbs = layer.geometry.s, blocks16(layer.out_channels)
        self.laid = LaidPixels(Operand(layer, isa.operand), self.units.blocks)

    def build(self, symbol: str) -> Any:
        layer, mbs, s, shape = self.layer, self.mbs, self.s, self.units.shape
        x_shape = (layer.batch, blocks16(layer.in_channels), *layer.in_hw, LANES)
        with ir_builder.IRBuilder() as frame, t.prim_func(s_tir=True):
            t.func_name(symbol)
            x = t.arg("x", t.Buffer(dims(*x_shape), layer.in_dtype))
            codes = t.arg("codes", t.Buffer(dims(*shape), "uint8"))
            bases = t.arg("bases", t.Buffer(dims(mbs, s * s, LANES), "int8"))
            self.epilogue.arguments()
            self.x = flat(x, prod(x_shape), layer.in_dtype)
            self.codes = flat(codes, prod(shape), "uint8")
            self.bases = flat(bases, mbs * s * s * LANES, "int8")
            with kernel_body(self.isa, symbol), t.serial(i64(self.laid.images)) as n:
                self._image(n)
        return mark_layer(frame.get(), symbol, layer)

    def _image(self, n: Expr) -> None:
        first = 0
        for count, many in even_groups(self.laid.run, max(1, _LAID_BYTES // self.laid.pixel)):
            laid = scratch(many * self.laid.pixel, "uint8")
            with t.serial(i64(count)) as part:
                p0 = bind(i64(first) + part * i64(many))
                with t.serial(i64(many)) as p:
                    self.laid.fill(laid, p, self.x, n, p0 + p)
                with filters(self.mbs, self.layer.macs) as mb:
                    self._filters(laid, n, mb, p0, many)
            first += count * many

    def _filters(self, laid: Buffer, n: Expr, mb: Expr, p0: Expr, many: int) -> None:
        """Sixteen filters at all pixels that are laid out."""
        first = 0
        for count, size in even_groups(many, self.pixels):
            with t.serial(i64(count)) as g:
                p = bind(i64(first) + g * i64(size))
                self._group(laid, n, mb, p, p0, size)
            first += count * size

    def _group(self, laid: Buffer, n: Expr, mb: Expr, p: Expr, p0: Expr, size: int) -> None:
        squares = self.s * self.s
        acc = Registers(size * squares, "uint32", self.isa.words)
        at = bind(p * i64(self.laid.pixel))
        results = self.epilogue.of(mb)
        parts: list[list[Expr]] = []
        for half in range(self.units.halves):
            acc.clear()
            codes = bind((mb * i64(self.units.halves) + i64(half)) * i64(prod(self.units.shape[2:])))
            with t.serial(i64(self.units.steps)) as step:
                self._step(acc, laid, codes, at, step, size)
            parts.append(self._sums(acc, results, mb, half, size))
        for j in range(size):
            total = concat([sums[j] for sums in parts], self.isa.words)
            results.store(self.laid.place(n, mb, p0 + p + i64(j)), bind(total))

    def _sums(self, acc: Registers, results: Results, mb: Expr, half: int, size: int) -> list[Expr]:
        """What the filters of a vector sum up to at each pixel, bias included."""
        squares, lanes = self.s * self.s, self.isa.words
        totals = [results.bias(half * lanes, lanes)] * size
        for i in range(squares):
            at = (mb * i64(squares) + i64(i)) * i64(LANES) + i64(half * lanes)
            value = load(self.bases, at, lanes).astype(f"int32x{lanes}")
            basis = bind(as_type(value, f"uint32x{lanes}"))
            totals = [plus(total, times(basis, acc[j * squares + i])) for j, total in enumerate(totals)]
        return [bind(total) for total in totals]

    def _step(self, acc: Registers, laid: Buffer, codes: Expr, at: Expr, step: Expr, size: int) -> None:
        """The units of a step, added to every pixel of the group."""
        *_, units, vectors, width = self.units.shape
        tables, s = self.units.tables, self.s
        x0 = bind(at + step * i64(self.units.step[1] * ROWS_PER_BLOCK))
        for unit in range(units):
            first = bind(codes + (step * i64(units) + i64(unit)) * i64(vectors * width))
            loaded = [
                bind(as_type(load(self.codes, first + i64(i * width), width), f"int8x{width}"))
                for i in range(vectors)
            ]
            for p in range(size):
                for e in range(s):
                    place = x0 + i64(p * self.laid.pixel + e * self.laid.element)
                    x = bind(picked(self.isa, laid, place, ROWS_PER_BLOCK, loaded[:tables]))
                    for k in range(s):
                        i = (p * s + k) * s + e
                        acc[i] = self.isa.add_quads8(acc[i], x, loaded[tables + k])
