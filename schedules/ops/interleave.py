"""Phases in the channels become pixels."""

from __future__ import annotations

from typing import Any

from sd_tvm._tvm import te, tirx
from sd_tvm.layers import LANES, InterleaveLayer, blocks16
from sd_tvm.schedules.ops.tir import Expr, dims, finish, i64


def build_interleave(layer: InterleaveLayer, symbol: str) -> Any:
    """PrimFunc of an :class:`~sd_tvm.layers.InterleaveLayer`. Stages: ``xin`` (a phase apart), ``out``."""
    (fy, fx), (top, left), (h, w) = layer.factor, layer.crop, layer.in_hw
    blocks = blocks16(layer.channels)
    x = te.placeholder(dims(layer.batch, layer.phases * blocks, h, w, LANES), layer.in_dtype, name="x")
    xin = te.compute(
        dims(layer.batch, fy, fx, blocks, h, w, LANES),
        lambda n, py, px, cb, y, xx, ln: x[n, (py * i64(fx) + px) * i64(blocks) + cb, y, xx, ln],
        name="xin",
    )

    def body(n: Expr, cb: Expr, oy: Expr, ox: Expr, ln: Expr) -> Expr:
        v, u = oy + i64(top), ox + i64(left)
        phase = (tirx.floormod(v, i64(fy)), tirx.floormod(u, i64(fx)))
        return xin[n, phase[0], phase[1], cb, tirx.floordiv(v, i64(fy)), tirx.floordiv(u, i64(fx)), ln]

    out = te.compute(dims(layer.batch, blocks, *layer.out_hw, LANES), body, name="out")
    return finish([x, out], symbol, layer)
