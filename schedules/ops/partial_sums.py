"""Partial sums of a convolution whose input channels were cut, added and requantised."""

from __future__ import annotations

from typing import Any

from sd_tvm._tvm import te
from sd_tvm.layers import LANES, SumLayer, blocks16
from sd_tvm.schedules.ops.tir import Expr, dims, finish, i64, requantize


def build_sum(layer: SumLayer, symbol: str) -> Any:
    """PrimFunc of a :class:`~sd_tvm.layers.SumLayer`. Stages: ``parts``, ``total``, ``out``."""
    blocks, (h, w) = blocks16(layer.channels), layer.hw
    sums = te.placeholder(dims(layer.batch, layer.parts * blocks, h, w, LANES), "int32", name="sums")
    qp = te.placeholder(dims(blocks * LANES, 4), "int32", name="qp")
    parts = te.compute(
        dims(layer.batch, layer.parts, blocks, h, w, LANES),
        lambda n, j, cb, y, x, ln: sums[n, j * i64(blocks) + cb, y, x, ln],
        name="parts",
    )
    part = te.reduce_axis((i64(0), i64(layer.parts)), name="part")
    one = te.reduce_axis((i64(0), i64(1)), name="one")
    shape = dims(layer.batch, blocks, h, w, LANES)
    total = te.compute(
        shape,
        lambda n, cb, y, x, ln: te.sum(parts[n, part + one, cb, y, x, ln], axis=[part, one]),
        name="total",
    )

    def body(*at: Expr) -> Expr:
        return requantize(total[at], qp, at[1] * i64(LANES) + at[4], layer.out_dtype)

    out = te.compute(shape, lambda n, cb, y, x, ln: body(n, cb, y, x, ln), name="out")
    return finish([sums, qp, out], symbol, layer)
