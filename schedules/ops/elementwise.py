"""Residual addition and stand-alone requantisation."""

from __future__ import annotations

from typing import Any

from sd_tvm._tvm import te
from sd_tvm.layers import LANES, AddLayer, RequantLayer, blocks16
from sd_tvm.schedules.ops.tir import Expr, Tensor, const, dims, finish, i64, requantize, scale_word


def widen_stage(x: Tensor, zero_point: int, name: str) -> Tensor:
    """int32 q - z of a blocked 8-bit tensor."""
    return te.compute(
        x.shape,
        lambda *at: x[at].astype("int32") - const(zero_point, "int32"),
        name=name,
    )


def build_add(layer: AddLayer, symbol: str) -> Any:
    """PrimFunc of an :class:`~sd_tvm.layers.AddLayer`.

    Stages: ``wa``, ``wb`` (widened), ``sa``, ``sb`` (scaled), ``total``, ``out``.
    """
    shape = dims(layer.batch, blocks16(layer.channels), *layer.hw, LANES)
    a = te.placeholder(shape, layer.a_dtype, name="a")
    b = te.placeholder(shape, layer.b_dtype, name="b")
    qp = te.placeholder(dims(3, 4), "int32", name="qp")

    def scaled(x: Tensor, word: int, name: str) -> Tensor:
        return te.compute(shape, lambda *at: scale_word(x[at], qp, i64(word)).astype("int32"), name=name)

    sa = scaled(widen_stage(a, layer.a_zero_point, "wa"), 0, "sa")
    sb = scaled(widen_stage(b, layer.b_zero_point, "wb"), 1, "sb")
    total = te.compute(shape, lambda *at: sa[at] + sb[at], name="total")
    out = te.compute(shape, lambda *at: requantize(total[at], qp, i64(2), layer.out_dtype), name="out")
    return finish([a, b, qp, out], symbol, layer)


def build_requant(layer: RequantLayer, symbol: str) -> Any:
    """PrimFunc of a :class:`~sd_tvm.layers.RequantLayer`. Stages: ``wx``, ``out``."""
    shape = dims(layer.batch, blocks16(layer.channels), *layer.hw, LANES)
    x = te.placeholder(shape, layer.in_dtype, name="x")
    qp = te.placeholder(dims(1, 4), "int32", name="qp")
    wx = widen_stage(x, layer.in_zero_point, "wx")

    def body(*at: Expr) -> Expr:
        return requantize(wx[at], qp, i64(0), layer.out_dtype)

    out = te.compute(shape, body, name="out")
    return finish([x, qp, out], symbol, layer)
