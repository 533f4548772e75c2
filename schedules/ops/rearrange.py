"""Layers that move values: concatenation of channels, enlargement."""

from __future__ import annotations

from typing import Any

from sd_tvm._tvm import te, tirx
from sd_tvm.layers import LANES, ConcatLayer, ResizeLayer, blocks16
from sd_tvm.schedules.ops.elementwise import widen_stage
from sd_tvm.schedules.ops.tir import Expr, Tensor, dims, finish, i64, requantize


def build_concat(layer: ConcatLayer, symbol: str) -> Any:
    """PrimFunc of a :class:`~sd_tvm.layers.ConcatLayer`.

    Stages: ``w0``, ``w1``, ... (widened), ``r0``, ``r1``, ... (rescaled), ``out`` (side by side).
    """
    places = [dims(layer.batch, blocks16(c), *layer.hw, LANES) for c in layer.parts]
    qp = te.placeholder(dims(len(layer.parts), 4), "int32", name="qp")
    xs = [
        te.placeholder(shape, dtype, name=f"x{i}")
        for i, (shape, dtype) in enumerate(zip(places, layer.in_dtypes, strict=True))
    ]

    def rescaled(i: int) -> Tensor:
        wide = widen_stage(xs[i], layer.in_zero_points[i], f"w{i}")
        return te.compute(
            places[i], lambda *at: requantize(wide[at], qp, i64(i), layer.out_dtype), name=f"r{i}"
        )

    parts = [rescaled(i) for i in range(len(xs))]
    starts = [sum(layer.parts[:i]) for i in range(len(xs))]

    def pick(i: int, n: Expr, channel: Expr, y: Expr, x: Expr) -> Expr:
        at = channel - i64(starts[i])
        value = parts[i][n, at // i64(LANES), y, x, at % i64(LANES)]
        if i == len(parts) - 1:
            return value
        return tirx.if_then_else(channel < i64(starts[i + 1]), value, pick(i + 1, n, channel, y, x))

    def aligned(i: int, n: Expr, cb: Expr, y: Expr, x: Expr, lane: Expr) -> Expr:
        value = parts[i][n, cb - i64(starts[i] // LANES), y, x, lane]
        if i == len(parts) - 1:
            return value
        rest = aligned(i + 1, n, cb, y, x, lane)
        return tirx.if_then_else(cb < i64(starts[i + 1] // LANES), value, rest)

    def body(n: Expr, cb: Expr, y: Expr, x: Expr, lane: Expr) -> Expr:
        if layer.is_aligned:
            return aligned(0, n, cb, y, x, lane)
        # lanes beyond the channels repeat the last one: they hold nothing, but must be inside the last part
        channel = tirx.min(cb * i64(LANES) + lane, i64(layer.channels - 1))
        return pick(0, n, channel, y, x)

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
