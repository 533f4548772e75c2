"""Layers that move values: concatenation of channels, enlargement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sd_tvm._tvm import ir_builder, te, tirx
from sd_tvm.layers import LANES, ConcatLayer, ResizeLayer, blocks16
from sd_tvm.schedules.ops.elementwise import widen_stage
from sd_tvm.schedules.ops.tir import Expr, const, dims, finish, i64, mark_layer, requantize


def build_concat(layer: ConcatLayer, symbol: str) -> Any:
    """PrimFunc of a :class:`~sd_tvm.layers.ConcatLayer`.

    Stages: ``w0``, ``w1``, ... (widened), ``r0``, ``r1``, ... (rescaled), then ``out0``, ``out1``, ...: each
    writes its own blocks of the result. Where lanes move between blocks, one stage ``out`` picks every value.
    """
    return _aligned(layer, symbol) if layer.is_aligned else _picked(layer, symbol)


def _aligned(layer: ConcatLayer, symbol: str) -> Any:
    builder, t = ir_builder.IRBuilder, ir_builder.tirx
    shapes = [dims(layer.batch, blocks16(c), *layer.hw, LANES) for c in layer.parts]
    result = dims(layer.batch, blocks16(layer.channels), *layer.hw, LANES)

    def stage(name: str, shape: Any, target: Any, first: int, value: Callable[..., Expr]) -> None:
        with t.grid(*shape) as loops, t.sblock(name):
            n, cb, *rest = t.axis.remap("SSSSS", list(loops))
            t.buffer_store(target, value(n, cb, *rest), [n, cb + i64(first), *rest])

    with builder() as frame, t.prim_func(s_tir=True):
        t.func_name(symbol)
        xs = [
            t.arg(f"x{i}", t.Buffer(shape, dtype))
            for i, (shape, dtype) in enumerate(zip(shapes, layer.in_dtypes, strict=True))
        ]
        qp = t.arg("qp", t.Buffer(dims(len(xs), 4), "int32"))
        out = t.arg("out", t.Buffer(result, layer.out_dtype))
        with t.sblock("root"):
            for i, (x, shape) in enumerate(zip(xs, shapes, strict=True)):
                wide = builder.name(f"w{i}", t.sblock_alloc_buffer(shape, "int32"))
                scaled = builder.name(f"r{i}", t.sblock_alloc_buffer(shape, layer.out_dtype))
                zero = const(layer.in_zero_points[i], "int32")
                stage(f"w{i}", shape, wide, 0, lambda *at, x=x, z=zero: x[at].astype("int32") - z)
                stage(f"r{i}", shape, scaled, 0, _requantized(wide, qp, i, layer.out_dtype))
                first = sum(layer.parts[:i]) // LANES
                stage(f"out{i}", shape, out, first, lambda *at, r=scaled: r[at])
    return mark_layer(frame.get(), symbol, layer)


def _requantized(wide: Any, qp: Any, row: int, dtype: str) -> Callable[..., Expr]:
    return lambda *at: requantize(wide[at], qp, i64(row), dtype)


def _picked(layer: ConcatLayer, symbol: str) -> Any:
    shapes = [dims(layer.batch, blocks16(c), *layer.hw, LANES) for c in layer.parts]
    qp = te.placeholder(dims(len(shapes), 4), "int32", name="qp")
    xs = [
        te.placeholder(shape, dtype, name=f"x{i}")
        for i, (shape, dtype) in enumerate(zip(shapes, layer.in_dtypes, strict=True))
    ]
    parts = []
    for i, x in enumerate(xs):
        wide = widen_stage(x, layer.in_zero_points[i], f"w{i}")
        parts.append(te.compute(x.shape, _requantized(wide, qp, i, layer.out_dtype), name=f"r{i}"))
    starts = [sum(layer.parts[:i]) for i in range(len(xs))]

    def pick(i: int, n: Expr, channel: Expr, y: Expr, x: Expr) -> Expr:
        at = channel - i64(starts[i])
        value = parts[i][n, at // i64(LANES), y, x, at % i64(LANES)]
        if i == len(parts) - 1:
            return value
        return tirx.if_then_else(channel < i64(starts[i + 1]), value, pick(i + 1, n, channel, y, x))

    def body(n: Expr, cb: Expr, y: Expr, x: Expr, lane: Expr) -> Expr:
        # lanes beyond the channels mean nothing, but what they read must be inside the last part
        return pick(0, n, tirx.min(cb * i64(LANES) + lane, i64(layer.channels - 1)), y, x)

    shape = dims(layer.batch, blocks16(layer.channels), *layer.hw, LANES)
    out = te.compute(shape, body, name="out")
    return finish([*xs, qp, out], symbol, layer)


def build_resize(layer: ResizeLayer, symbol: str) -> Any:
    """PrimFunc of a :class:`~sd_tvm.layers.ResizeLayer`. Stages: ``xin`` (x as it is), ``out``."""
    cbs, (fy, fx) = blocks16(layer.channels), layer.factor
    x = te.placeholder(dims(layer.batch, cbs, *layer.in_hw, LANES), layer.in_dtype, name="x")
    xin = te.compute(x.shape, lambda *at: x[at], name="xin")
    out = te.compute(
        dims(layer.batch, cbs, *layer.out_hw, LANES),
        lambda n, cb, oy, ox, lane: xin[n, cb, oy // i64(fy), ox // i64(fx), lane],
        name="out",
    )
    return finish([x, out], symbol, layer)
