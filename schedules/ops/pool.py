"""Maximum and average pooling."""

from __future__ import annotations

from typing import Any

from sd_tvm._tvm import te
from sd_tvm.layers import LANES, PoolLayer, blocks16
from sd_tvm.schedules.ops.elementwise import widen_stage
from sd_tvm.schedules.ops.tir import ACT_RANGE, Expr, dims, finish, i64, pad_stage, requantize


def build_pool(layer: PoolLayer, symbol: str) -> Any:
    """PrimFunc of a :class:`~sd_tvm.layers.PoolLayer`.

    Stages: ``xpad``, then ``out`` (maximum), or ``wide``, ``total``, ``out`` (average).
    """
    (oh, ow), (kh, kw), (sh, sw) = layer.out_hw, layer.kernel, layer.stride
    cbs = blocks16(layer.channels)
    x = te.placeholder(dims(layer.batch, cbs, *layer.in_hw, LANES), layer.in_dtype, name="x")
    ky = te.reduce_axis((i64(0), i64(kh)), name="ky")
    kx = te.reduce_axis((i64(0), i64(kw)), name="kx")
    shape = dims(layer.batch, cbs, oh, ow, LANES)
    lowest = ACT_RANGE[layer.in_dtype][0]
    used = ((oh - 1) * sh + kh, (ow - 1) * sw + kw)
    value = lowest if layer.mode == "max" else layer.in_zero_point
    xpad = pad_stage(x, layer.padding[0], layer.padding[1], used, value)

    def window(source: Any, n: Expr, cb: Expr, oy: Expr, ox: Expr, ln: Expr) -> Expr:
        return source[n, cb, oy * i64(sh) + ky, ox * i64(sw) + kx, ln]

    if layer.mode == "max":
        out = te.compute(shape, lambda *at: te.max(window(xpad, *at), axis=[ky, kx]), name="out")
        return finish([x, out], symbol, layer)
    qp = te.placeholder(dims(1, 4), "int32", name="qp")
    wide = widen_stage(xpad, layer.in_zero_point, "wide")
    total = te.compute(shape, lambda *at: te.sum(window(wide, *at), axis=[ky, kx]), name="total")
    out = te.compute(shape, lambda *at: requantize(total[at], qp, i64(0), layer.out_dtype), name="out")
    return finish([x, qp, out], symbol, layer)
