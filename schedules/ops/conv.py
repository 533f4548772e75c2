"""Convolution and dense layers: pad, rebuild, accumulate, add the bias, requantise."""

from __future__ import annotations

from typing import Any

from sd_tvm._tvm import te, tirx
from sd_tvm.layers import LANES, PACKED_LANES, ConvLayer, blocks16, packed_width
from sd_tvm.schedules.ops.tir import Expr, dims, finish, i64, pad_stage, requantize
from sd_tvm.schedules.ops.weight import weight_operands, weight_stage


def build_conv(layer: ConvLayer, symbol: str) -> Any:
    """PrimFunc of a :class:`~sd_tvm.layers.ConvLayer`.

    Stages: ``xpad`` (zero point around x), the rebuild stages and ``w``, ``psum`` (int32 sums),
    ``acc`` (plus bias'), ``out`` (requantised; absent for int32 results).
    """
    h, w = layer.in_hw
    oh, ow = layer.out_hw
    m, cg, kh, kw = layer.weight_shape
    mbs, mg = blocks16(m), m // layer.groups
    (sh, sw), (dh, dw) = layer.stride, layer.dilation

    shape = (layer.batch, blocks16(layer.in_channels), h, w, LANES)
    if layer.packed_input:
        shape = (layer.batch, 1, h, packed_width(w), PACKED_LANES)
    x = te.placeholder(dims(*shape), layer.in_dtype, name="x")
    operands = weight_operands(layer)
    qp = te.placeholder(dims(mbs * LANES, 4), "int32", name="qp")
    xpad = pad_stage(x, layer.padding[0], layer.padding[1], layer.reach, layer.in_zero_point, width=w)
    weight = weight_stage(layer, operands)

    c = te.reduce_axis((i64(0), i64(cg)), name="c")
    ky = te.reduce_axis((i64(0), i64(kh)), name="ky")
    kx = te.reduce_axis((i64(0), i64(kw)), name="kx")

    def channel(mb: Expr, ln: Expr) -> tuple[Expr, Expr]:
        """Block and lane of input channel c of filter 16*mb + ln."""
        if layer.groups == 1:
            return tirx.floordiv(c, i64(LANES)), tirx.floormod(c, i64(LANES))
        if cg == 1 and mg == 1:
            return mb, ln
        group = tirx.min(tirx.floordiv(mb * i64(LANES) + ln, i64(mg)), i64(layer.groups - 1))
        at = group * i64(cg) + c
        return tirx.floordiv(at, i64(LANES)), tirx.floormod(at, i64(LANES))

    def product(n: Expr, mb: Expr, oy: Expr, ox: Expr, ln: Expr) -> Expr:
        cb, lane = channel(mb, ln)
        a = xpad[n, cb, oy * i64(sh) + ky * i64(dh), ox * i64(sw) + kx * i64(dw), lane]
        return te.sum(a.astype("int32") * weight[mb, c, ky, kx, ln].astype("int32"), axis=[c, ky, kx])

    result = dims(layer.batch, mbs, oh, ow, LANES)
    psum = te.compute(result, product, name="psum")
    acc = te.compute(
        result,
        lambda n, mb, oy, ox, ln: psum[n, mb, oy, ox, ln] + qp[mb * i64(LANES) + ln, i64(0)],
        name="acc",
    )
    if layer.out == "i32":
        return finish([x, *operands, qp, acc], symbol, layer)
    out = te.compute(
        result,
        lambda n, mb, oy, ox, ln: requantize(
            acc[n, mb, oy, ox, ln], qp, mb * i64(LANES) + ln, layer.out_dtype
        ),
        name="out",
    )
    return finish([x, *operands, qp, out], symbol, layer)
