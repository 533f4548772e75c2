"""Layer normalisation over the last axes: mean, variance around it, then the result."""

from __future__ import annotations

from math import prod
from typing import Any

from sd_tvm._tvm import ir_builder, tirx
from sd_tvm.layers import LANES
from sd_tvm.schedules.cpu.vec import Registers, bind, flat, i64, load, store, t
from sd_tvm.schedules.float.lanes import DTYPE, Row, each, every, total
from sd_tvm.schedules.ops.tir import dims, mark_layer

#: Operations of an element, about.
_WORK = 8


def build_layer_norm(shape: tuple[int, ...], axes: int, epsilon: float, symbol: str) -> Any:
    """PrimFunc of layer normalisation. Operands: x, gamma, beta, result, all float32.

    Parameters
    ----------
    shape
        Of x and the result.
    axes
        How many of the last axes are normalised over; gamma and beta have their shape.
    epsilon
        Added to the variance.
    symbol
        Name of the function.
    """
    count, inner = prod(shape), shape[len(shape) - axes :]
    length = prod(inner)
    with ir_builder.IRBuilder() as frame, t.prim_func(s_tir=True):
        t.func_name(symbol)
        shapes = {"x": shape, "gamma": inner, "beta": inner, "out": shape}
        args = [t.arg(name, t.Buffer(dims(*of), DTYPE)) for name, of in shapes.items()]
        x, gamma, beta, out = (
            flat(arg, prod(of), DTYPE) for arg, of in zip(args, shapes.values(), strict=True)
        )
        with each(count // length, count * _WORK) as index:
            first = bind(index * i64(length))
            row, scale, offset = Row(length, 0.0), Row(length, 0.0), Row(length, 0.0)
            for part, buffer, at in ((row, x, first), (scale, gamma, i64(0)), (offset, beta, i64(0))):
                part.read_tail(buffer, at)
            sums = Registers(1, DTYPE, LANES)
            sums[0] = every(0.0) if row.tail is None else row.tail
            with row.chunks(first) as at:
                sums[0] = sums[0] + load(x, at, LANES)
            mean = bind(every(bind(total(sums[0]) / tirx.const(float(length), DTYPE))))
            sums[0] = every(0.0)
            if row.tail is not None:
                last = bind(row.tail - mean)
                sums[0] = row.inside(last * last)
            with row.chunks(first) as at:
                d = bind(load(x, at, LANES) - mean)
                sums[0] = sums[0] + d * d
            variance = bind(total(sums[0]) / tirx.const(float(length), DTYPE))
            root = tirx.sqrt(variance + tirx.const(epsilon, DTYPE))
            share = bind(every(bind(tirx.const(1.0, DTYPE) / root)))
            with row.chunks(first) as at:
                place = bind(at - first)
                value = (load(x, at, LANES) - mean) * share
                store(out, at, value * load(gamma, place, LANES) + load(beta, place, LANES), LANES)
            if row.tail is not None:
                row.write_tail(out, first, last * share * scale.tail + offset.tail)
    return mark_layer(frame.get(), symbol)
