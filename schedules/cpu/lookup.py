"""Functions of a byte from their tables of 256, a vector of bytes at a time.

An instruction finds bytes in a table of sixteen by the lower half of each index. All sixteen parts of the
table are asked, and the upper four bits choose: fifteen selections, by bit 7 of a byte that was shifted.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from sd_tvm._tvm import ir_builder, tirx
from sd_tvm.layers import LANES, LutLayer, blocks16
from sd_tvm.schedules.cpu.guard import kernel_body
from sd_tvm.schedules.cpu.isa import Isa
from sd_tvm.schedules.cpu.vec import (
    Buffer,
    Expr,
    as_type,
    bind,
    flat,
    i64,
    load,
    repeat,
    splat,
    store,
    t,
)
from sd_tvm.schedules.ops.tir import dims, mark_layer

_ENTRIES = 256


def lookup_isa(layer: LutLayer, isas: Sequence[Isa]) -> Isa | None:
    """The first instruction set of which a vector is no longer than the tensor, if any."""
    return next((isa for isa in isas if isa.width <= prod(_shape(layer))), None)


def build_lookup(layer: LutLayer, isa: Isa, symbol: str) -> Any:
    """PrimFunc with the operands of the layer's own (:func:`sd_tvm.schedules.ops.build_primfunc`).

    Parameters
    ----------
    layer
        The function, of at least one vector of bytes.
    isa
        Instruction set.
    symbol
        Name of the function.
    """
    shape = _shape(layer)
    count, width = prod(shape), isa.width
    with ir_builder.IRBuilder() as frame, t.prim_func(s_tir=True):
        t.func_name(symbol)
        given = t.arg("x", t.Buffer(dims(*shape), layer.in_dtype))
        lut = t.arg("lut", t.Buffer(dims(_ENTRIES), layer.out_dtype))
        result = t.arg("out", t.Buffer(dims(*shape), layer.out_dtype))
        x, out = flat(given, count, layer.in_dtype), flat(result, count, layer.out_dtype)
        with kernel_body(isa, symbol):
            with t.serial(i64(count // width)) as i:
                _vector(isa, x, lut, out, bind(i * i64(width)), layer)
            if count % width:  # some bytes twice
                _vector(isa, x, lut, out, i64(count - width), layer)
    return mark_layer(frame.get(), symbol, layer)


def _shape(layer: LutLayer) -> tuple[int, ...]:
    return (layer.batch, blocks16(layer.channels), *layer.hw, LANES)


def _vector(isa: Isa, x: Buffer, lut: Buffer, out: Buffer, at: Expr, layer: LutLayer) -> None:
    width = isa.width
    bytes_, words = f"int8x{width}", f"int16x{width // 2}"
    index = bind(as_type(load(x, at, width), bytes_))
    low = bind(index & splat(LANES - 1, "int8", width))
    signs = [index]  # bit 7, then 6, 5, 4 in its place; what comes over from the next byte is below
    for bits in range(1, 4):
        moved = as_type(index, words) << splat(bits, "int16", width // 2)
        signs.append(bind(as_type(moved, bytes_)))

    def found(first: int, level: int) -> Expr:
        """Entries of the 2^(4 - level) parts of the table from ``first`` on."""
        if level == len(signs):
            part = as_type(load(lut, i64(first * LANES), LANES), f"int8x{LANES}")
            return isa.lookup(repeat(part, LANES, width // LANES), low)
        upper = signs[level] < splat(0, "int8", width)
        half = 1 << (len(signs) - 1 - level)
        return tirx.Select(upper, found(first + half, level + 1), found(first, level + 1))

    store(out, at, as_type(found(0, 0), f"{layer.out_dtype}x{width}"), width)
