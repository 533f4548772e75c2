"""Residual additions and stand-alone requantisations, sixteen lanes at a time, for any processor."""

from __future__ import annotations

from math import prod
from typing import Any

from sd_tvm._tvm import ir_builder
from sd_tvm.layers import LANES, AddLayer, RequantLayer, blocks16
from sd_tvm.schedules.cpu.epilogue import Sum
from sd_tvm.schedules.cpu.linear_sum import SUM_WORDS
from sd_tvm.schedules.cpu.requant import Words
from sd_tvm.schedules.cpu.vec import Buffer, Expr, aligned_stack, bind, flat, i64, load, splat, store, t
from sd_tvm.schedules.ops.tir import dims, mark_layer


def build_elementwise(layer: AddLayer | RequantLayer, symbol: str) -> Any:
    """PrimFunc with the operands of the layer's own (:func:`sd_tvm.schedules.ops.build_primfunc`).

    Parameters
    ----------
    layer
        Addition of two tensors, or requantisation of one.
    symbol
        Name of the function.
    """
    shape = (layer.batch, blocks16(layer.channels), *layer.hw, LANES)
    if isinstance(layer, AddLayer):
        sides = [("a", layer.a_dtype, layer.a_zero_point), ("b", layer.b_dtype, layer.b_zero_point)]
    else:
        sides = [("x", layer.in_dtype, layer.in_zero_point)]
    rows = len(sides) + 1 if len(sides) > 1 else 1
    count = prod(shape)
    with ir_builder.IRBuilder() as frame, t.prim_func(s_tir=True):
        t.func_name(symbol)
        inputs = [t.arg(name, t.Buffer(dims(*shape), dtype)) for name, dtype, _ in sides]
        qp = t.arg("qp", t.Buffer(dims(rows, 4), "int32"))
        out = t.arg("out", t.Buffer(dims(*shape), layer.out_dtype))
        xs = [flat(x, count, dtype) for x, (_, dtype, _) in zip(inputs, sides, strict=True)]
        flat_qp, result = flat(qp, 4 * rows, "int32"), flat(out, count, layer.out_dtype)
        words = [Words.uniform(flat_qp, i, layer.out_dtype) for i in range(rows)]
        with aligned_stack(), t.serial(i64(count // LANES)) as i:
            at = bind(i * i64(LANES))
            wide = [_wide(x, at, zero) for x, (_, _, zero) in zip(xs, sides, strict=True)]
            total = words[0].scaled(wide[0]) + words[1].scaled(wide[1]) if rows > 1 else wide[0]
            last = words[-1]
            value = last.clipped(last.scaled(bind(total)))
            store(result, at, value.astype(f"{layer.out_dtype}x{LANES}"), LANES)
    return mark_layer(frame.get(), symbol, layer)


def build_sum(layer: AddLayer, symbol: str) -> Any:
    """PrimFunc of an addition in its linear form. Operands: a, b, words, result.

    Parameters
    ----------
    layer
        The addition; the words are those of operand 0
        (:meth:`~sd_tvm.schedules.cpu.linear_sum.LinearSum.words`).
    symbol
        Name of the function.
    """
    shape = (layer.batch, blocks16(layer.channels), *layer.hw, LANES)
    count, types = prod(shape), (layer.a_dtype, layer.b_dtype)
    with ir_builder.IRBuilder() as frame, t.prim_func(s_tir=True):
        t.func_name(symbol)
        sides = [t.arg(n, t.Buffer(dims(*shape), dtype)) for n, dtype in zip("ab", types, strict=True)]
        words = t.arg("words", t.Buffer(dims(SUM_WORDS), "int32"))
        out = t.arg("out", t.Buffer(dims(*shape), layer.out_dtype))
        a, b = (flat(x, count, dtype) for x, dtype in zip(sides, types, strict=True))
        result = flat(out, count, layer.out_dtype)
        total = Sum(words)
        with aligned_stack(), t.serial(i64(count // LANES)) as i:
            at = bind(i * i64(LANES))
            value = total.of(*(load(x, at, LANES).astype(f"int32x{LANES}") for x in (a, b)))
            store(result, at, value.astype(f"{layer.out_dtype}x{LANES}"), LANES)
    return mark_layer(frame.get(), symbol, layer)


def _wide(x: Buffer, at: Expr, zero: int) -> Expr:
    """int32x16: values less their zero point."""
    return bind(load(x, at, LANES).astype(f"int32x{LANES}") - splat(zero, "int32", LANES))
