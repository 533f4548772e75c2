"""Functions of one value through a table, and products of two tensors."""

from __future__ import annotations

from typing import Any

from sd_tvm._tvm import te
from sd_tvm.layers import LANES, LutLayer, MulLayer, blocks16
from sd_tvm.schedules.ops.elementwise import widen_stage
from sd_tvm.schedules.ops.tir import Expr, const, dims, finish, i64, requantize

#: Entries of a table: one for every byte.
ENTRIES = 256


def build_lut(layer: LutLayer, symbol: str) -> Any:
    """PrimFunc of a :class:`~sd_tvm.layers.LutLayer`. Stages: ``xin`` (x as it is), ``out``."""
    shape = dims(layer.batch, blocks16(layer.channels), *layer.hw, LANES)
    x = te.placeholder(shape, layer.in_dtype, name="x")
    lut = te.placeholder(dims(ENTRIES), layer.out_dtype, name="lut")
    xin = te.compute(shape, lambda *at: x[at], name="xin")

    def body(*at: Expr) -> Expr:
        return lut[xin[at].astype("int32") & const(ENTRIES - 1, "int32")]

    out = te.compute(shape, body, name="out")
    return finish([x, lut, out], symbol, layer)


def build_mul(layer: MulLayer, symbol: str) -> Any:
    """PrimFunc of a :class:`~sd_tvm.layers.MulLayer`. Stages: ``wa``, ``wb``, ``product``, ``out``."""
    shape = dims(layer.batch, blocks16(layer.channels), *layer.hw, LANES)
    b_shape = dims(layer.batch, blocks16(layer.channels), *layer.b_hw, LANES)
    a = te.placeholder(shape, layer.a_dtype, name="a")
    b = te.placeholder(b_shape, layer.b_dtype, name="b")
    qp = te.placeholder(dims(1, 4), "int32", name="qp")
    wa = widen_stage(a, layer.a_zero_point, "wa")
    wb = widen_stage(b, layer.b_zero_point, "wb")

    def product(n: Expr, cb: Expr, y: Expr, x: Expr, lane: Expr) -> Expr:
        factor = wb[n, cb, i64(0), i64(0), lane] if layer.b_per_channel else wb[n, cb, y, x, lane]
        return wa[n, cb, y, x, lane] * factor

    total = te.compute(shape, product, name="product")
    out = te.compute(shape, lambda *at: requantize(total[at], qp, i64(0), layer.out_dtype), name="out")
    return finish([a, b, qp, out], symbol, layer)
