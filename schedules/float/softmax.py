"""Softmax over the last axis: largest score, exponentials and their sum, then their shares."""

from __future__ import annotations

from math import inf, prod
from typing import Any

from sd_tvm._tvm import ir_builder, tirx
from sd_tvm.layers import LANES
from sd_tvm.schedules.cpu.vec import Buffer, Expr, Registers, bind, flat, i64, load, scratch, store, t
from sd_tvm.schedules.float.lanes import DTYPE, Row, each, every, exponential, largest, total
from sd_tvm.schedules.ops.tir import dims, mark_layer

#: Operations of an element, about; rows that each of the three loops takes before the next one.
_WORK, _ROWS = 20, 8


def build_softmax(shape: tuple[int, ...], symbol: str) -> Any:
    """PrimFunc of softmax over the last axis. Operands: x, result, both float32 of this shape.

    A score of minus infinity gets 0. A row with a NaN or plus infinity, or with nothing but minus infinity,
    is NaN throughout, as in NumPy. Shares below 2^-126 of the largest one are 0.
    """
    count, length = prod(shape), shape[-1]
    with ir_builder.IRBuilder() as frame, t.prim_func(s_tir=True):
        t.func_name(symbol)
        args = [t.arg(name, t.Buffer(dims(*shape), DTYPE)) for name in ("x", "out")]
        x, out = (flat(arg, count, DTYPE) for arg in args)
        rows = count // length
        # the block: Relax looks into functions of one operand for a reshape, and wants one
        with t.sblock("root"), each(-(-rows // _ROWS), count * _WORK) as block:
            here = bind(block * i64(_ROWS))
            some = bind(tirx.min(i64(rows) - here, i64(_ROWS)))
            kept, row = scratch(_ROWS, DTYPE), Row(length, -inf)
            # three loops over some rows: the sums of lanes at a row's end overlap with the next row
            with t.serial(some) as i:
                _largest(x, row, bind((here + i) * i64(length)), kept, i)
            with t.serial(some) as i:
                _exponentials(x, out, row, bind((here + i) * i64(length)), kept, i)
            with t.serial(some) as i:
                first = bind((here + i) * i64(length))
                share = bind(every(kept[i]))
                with row.chunks(first) as at:
                    store(out, at, load(out, at, LANES) * share, LANES)
                with row.rests(first) as at:
                    t.buffer_store(out, out[at] * kept[i], [at])
    return mark_layer(frame.get(), symbol)


def _largest(x: Buffer, row: Row, first: Expr, kept: Buffer, i: Expr) -> None:
    """Keep the largest score of a row."""
    row.read_tail(x, first)
    high = Registers(1, DTYPE, LANES)
    high[0] = every(-inf) if row.tail is None else row.tail
    with row.chunks(first) as at:
        high[0] = tirx.max(high[0], load(x, at, LANES))
    t.buffer_store(kept, largest(high[0]), [i])


def _exponentials(x: Buffer, out: Buffer, row: Row, first: Expr, kept: Buffer, i: Expr) -> None:
    """Store a row's exponentials and keep one over their sum."""
    row.read_tail(x, first)
    most = bind(every(kept[i]))
    sums = Registers(1, DTYPE, LANES)
    sums[0] = every(0.0)
    with row.chunks(first) as at:
        value = bind(exponential(bind(load(x, at, LANES) - most)))
        store(out, at, value, LANES)
        sums[0] = sums[0] + value
    if row.tail is not None:
        last = bind(exponential(bind(row.tail - most)))
        sums[0] = sums[0] + last
        row.write_tail(out, first, last)
    t.buffer_store(kept, tirx.const(1.0, DTYPE) / total(sums[0]), [i])
