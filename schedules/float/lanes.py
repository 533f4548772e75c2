"""Sixteen float32 lanes: rows of any length in chunks, sums of lanes in one order, the exponential.

Sums are written out, so a result does not depend on how wide the processor's vectors are. Where it has a
fused multiply-add, LLVM uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import add
from typing import Any

from sd_tvm._tvm import tirx
from sd_tvm.layers import LANES
from sd_tvm.schedules.cpu.vec import (
    PARALLEL_MACS,
    Buffer,
    Expr,
    aligned_stack,
    as_type,
    bind,
    i64,
    load,
    part,
    scratch,
    store,
    t,
)

DTYPE = "float32"
#: exp(x) = 2^n * exp(r), n the integer next to x / ln 2: 1.5 * 2^23 brings n into the low bits of a float,
#: 127 is the bias of an exponent.
_LOG2E, _MAGIC = 1.4426950408889634, 12582912.0 + 127
#: ln 2 in two parts (Cody and Waite, 1980): products of the first with n are exact.
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440054690583e-4
#: (exp(r) - 1 - r) / r^2 on |r| <= ln(2) / 2, least largest error of exp(r) relative: 3.1e-9. Weighted least
#: squares on 4,001 points in double precision, the weights raised where the error was large, 200 times.
_COEFFICIENTS = (
    0.4999999403953552,
    0.1666652113199234,
    0.04166838899254799,
    0.008368716575205326,
    0.001381459878757596,
)
#: exp of less is below the smallest normal float32: the float32 next to -126 * ln 2, above.
_LOWEST = -87.33654022216797


def every(value: float | Expr) -> Expr:
    """A float in all lanes."""
    return tirx.Broadcast(tirx.const(value, DTYPE) if isinstance(value, float) else value, LANES)


def exponential(x: Expr) -> Expr:
    """exp(x) of sixteen lanes, x <= 0 or no number: within 1.2 ulp; 0 where it is below 2^-126.

    Cody and Waite's reduction and a polynomial of degree 6.
    """
    magic = every(_MAGIC)
    shifted = bind(as_type(x * every(_LOG2E) + magic, f"uint32x{LANES}"))
    n = bind(as_type(shifted, f"{DTYPE}x{LANES}") - magic)  # as bits TVM does not cancel the two
    r = bind(x - n * every(_LN2_HIGH) - n * every(_LN2_LOW))
    value = every(_COEFFICIENTS[-1])
    for c in (*_COEFFICIENTS[-2::-1], 1.0, 1.0):
        value = value * r + every(c)
    power = tirx.shift_left(shifted, tirx.Broadcast(tirx.const(23, "uint32"), LANES))
    power = as_type(power, f"{DTYPE}x{LANES}")
    return tirx.Select(x < every(_LOWEST), every(0.0), value * power)


def total(value: Expr) -> Expr:
    """Sum of sixteen lanes."""
    return _folded(value, add)


def largest(value: Expr) -> Expr:
    """Largest of sixteen lanes."""
    return _folded(value, tirx.max)


def _folded(value: Expr, pair: Callable[[Expr, Expr], Expr]) -> Expr:
    """One of sixteen lanes: lane i with i + 8, then i + 4, i + 2, i + 1."""
    lanes = LANES
    while lanes > 2:
        lanes //= 2
        value = bind(pair(part(value, 0, lanes), part(value, lanes, lanes)))
    return bind(pair(_lane(value, 0), _lane(value, 1)))


def _lane(value: Expr, index: int) -> Expr:
    return tirx.Shuffle([value], [tirx.IntImm("int32", index)])


class Row:
    """Chunks of sixteen elements of a row; the last one may be a copy, filled up.

    Parameters
    ----------
    length
        Elements of a row.
    fill
        What fills up the last chunk.
    """

    def __init__(self, length: int, fill: float) -> None:
        self.full, self.rest = divmod(length, LANES)
        self._fill = fill
        self._tail: Any = scratch(LANES, DTYPE) if self.rest else None

    def read_tail(self, buffer: Buffer, first: Expr) -> None:
        """Copy what is left of the row that starts at ``first``: :meth:`load` sees it."""
        if self._tail is None:
            return
        store(self._tail, i64(0), every(self._fill), LANES)
        with t.serial(i64(self.rest)) as i:
            t.buffer_store(self._tail, buffer[first + i64(self.full * LANES) + i], [i])

    def write_tail(self, buffer: Buffer, first: Expr, value: Expr) -> None:
        """Store the part of the last chunk that is of the row."""
        store(self._tail, i64(0), value, LANES)
        with t.serial(i64(self.rest)) as i:
            t.buffer_store(buffer, self._tail[i], [first + i64(self.full * LANES) + i])

    def inside(self, value: Expr) -> Expr:
        """The last chunk with zeros behind the row."""
        lane = tirx.Ramp(tirx.const(0, "int32"), tirx.const(1, "int32"), LANES)
        end = tirx.Broadcast(tirx.const(self.rest, "int32"), LANES)
        return tirx.Select(lane < end, value, every(0.0))

    @contextmanager
    def rests(self, first: Expr) -> Iterator[Expr]:
        """Loop over the elements after the whole chunks: index of each in the buffer."""
        with t.serial(i64(self.rest)) as i:
            yield first + i64(self.full * LANES) + i

    @property
    def tail(self) -> Expr | None:
        """The last chunk, None if the row has whole ones only."""
        return None if self._tail is None else load(self._tail, i64(0), LANES)

    @contextmanager
    def chunks(self, first: Expr) -> Iterator[Expr]:
        """Loop over whole chunks: index of each in the buffer."""
        with t.serial(i64(self.full)) as i:
            yield bind(first + i * i64(LANES))


@contextmanager
def each(count: int, work: int) -> Iterator[Expr]:
    """Loop over independent parts, on all threads of TVM's pool if there is work (operations) enough."""
    if work < PARALLEL_MACS or count == 1:
        with aligned_stack(), t.serial(i64(count)) as i:
            yield i
    else:
        with t.parallel(i64(count)) as i, aligned_stack():
            yield i
