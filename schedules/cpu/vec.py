"""Vectors in TensorIR built statement by statement: loads, stores, loops, registers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

from sd_tvm._tvm import ir_builder, tirx

Expr = Any
Buffer = Any
#: Statement builders of TVM's script, without the parser.
t: Any = ir_builder.tirx
#: Bytes of a cache line.
LINE = 64
#: Fewer multiply-accumulates than this stay on the thread that calls.
PARALLEL_MACS = 1 << 23


def i64(value: int) -> Expr:
    """An int64 constant."""
    return tirx.IntImm("int64", value)


def splat(value: int, dtype: str, lanes: int) -> Expr:
    """A constant in every lane."""
    return tirx.Broadcast(tirx.const(value, dtype), lanes)


def constant(values: Sequence[int], lanes: int) -> Expr:
    """int8 constants (0 to 255 stand for their bytes), repeated to ``lanes`` lanes."""
    signed = [tirx.const(v - 256 if v > 127 else v, "int8") for v in values]
    return concat(signed * (lanes // len(signed)), 1)


def load(buffer: Buffer, index: Expr, lanes: int) -> Expr:
    """``lanes`` neighbouring elements of a flat buffer."""
    return buffer[tirx.Ramp(index, i64(1), lanes)]


def store(buffer: Buffer, index: Expr, value: Expr, lanes: int) -> None:
    """Write ``lanes`` neighbouring elements of a flat buffer."""
    t.buffer_store(buffer, value, [tirx.Ramp(index, i64(1), lanes)])


def prefetch(buffer: Buffer, index: Expr) -> None:
    """Ask for the cache line of an element, to the second cache; elements beyond the buffer do no harm.

    A request to the first cache would hold one of the few places for its misses, which loads need.
    """
    address = tirx.call_intrin("handle", "tirx.address_of", buffer[index])
    t.evaluate(tirx.call_intrin("void", "tirx.prefetch", address, 0, 2, 1))


def repeat(value: Expr, lanes: int, times: int) -> Expr:
    """A vector of ``lanes`` lanes, ``times`` times one after the other."""
    if times == 1:
        return value
    return concat([value] * times, lanes)


def concat(parts: Sequence[Expr], lanes: int) -> Expr:
    """Vectors of ``lanes`` lanes one after the other."""
    if len(parts) == 1:
        return parts[0]
    return tirx.Shuffle(list(parts), [tirx.IntImm("int32", i) for i in range(lanes * len(parts))])


def part(value: Expr, first: int, lanes: int) -> Expr:
    """Lanes ``first`` to ``first + lanes`` of a vector."""
    return tirx.Shuffle([value], [tirx.IntImm("int32", first + i) for i in range(lanes)])


def as_type(value: Expr, dtype: str) -> Expr:
    """The same bits as another type."""
    return value if str(value.ty.dtype) == dtype else tirx.reinterpret(dtype, value)


def plus(a: Expr, b: Expr) -> Expr:
    """Sums of two vectors of integers, modulo 2^bits, in the order written.

    TVM tells LLVM that its own sums and products do not overflow, and one that does then has no value at all:
    0 - x of uint32 was seen to become 0. LLVM's vector-predicated operations, here for all lanes, say nothing
    of the kind. They become plain instructions after LLVM has optimised, so that it cannot gather them first
    either, in registers that it lacks.
    """
    return _every_lane("llvm.vp.add", a, b)


def times(a: Expr, b: Expr) -> Expr:
    """Products of two vectors of integers, modulo 2^bits (see :func:`plus`)."""
    return _every_lane("llvm.vp.mul", a, b)


def _every_lane(name: str, a: Expr, b: Expr) -> Expr:
    dtype = str(a.ty.dtype)
    lanes = int(dtype.partition("x")[2])
    every = tirx.Broadcast(tirx.const(1, "bool"), lanes)
    return tirx.call_llvm_pure_intrin(dtype, name, a, b, every, tirx.const(lanes, "int32"))


def saturated(value: Expr, dtype: str) -> Expr:
    """int32 lanes in an 8-bit type, the nearest it has: what instructions that pack do."""
    info, lanes = np.iinfo(dtype), int(str(value.ty.dtype).partition("x")[2])
    low, high = (splat(int(v), "int32", lanes) for v in (info.min, info.max))
    return tirx.min(tirx.max(value, low), high).astype(f"{dtype}x{lanes}")


def bind(value: Expr) -> Expr:
    """A name for a value: it is computed once."""
    return t.Bind(value)


@contextmanager
def aligned_stack() -> Iterator[None]:
    """Make LLVM align the stack of a function to a cache line; for all of its body.

    LLVM spills vectors after it has decided on the alignment, and by itself decides on 16 bytes: every other
    vector then crosses a cache line, or not, as the caller's stack happens to lie. What is prefetched here
    (nothing of use) cannot be kept in a register; the second time keeps TVM from giving its place away.
    """
    line = t.alloc_buffer((1,), "uint32x16")
    prefetch(line, 0)
    yield
    prefetch(line, 0)


class Registers:
    """Vectors that live in registers.

    One buffer of one vector each, in scope ``global``: up to 1,023 bytes TVM then leaves on the stack, where
    LLVM finds that nothing else sees them. Buffers in any other scope come from TVM's workspace, and every
    change would be a store. All have one type, so that TVM may give one's place to another, and
    :func:`scratch` keeps the rest away from them.

    Parameters
    ----------
    count
        How many.
    dtype, lanes
        Of each.
    """

    def __init__(self, count: int, dtype: str, lanes: int) -> None:
        self.dtype = f"{dtype}x{lanes}"
        self._word = f"uint32x{np.dtype(dtype).itemsize * lanes // 4}"
        self._buffers = [t.alloc_buffer((1,), self._word) for _ in range(count)]
        self._zero = splat(0, dtype, lanes)
        self.count = count

    def __getitem__(self, index: int) -> Expr:
        """Value of a register."""
        return as_type(self._buffers[index][0], self.dtype)

    def __setitem__(self, index: int, value: Expr) -> None:
        """Set a register."""
        t.buffer_store(self._buffers[index], as_type(value, self._word), [0])

    def clear(self) -> None:
        """Zero in all of them."""
        for i in range(self.count):
            self[i] = self._zero


@contextmanager
def filters(count: int, macs: int) -> Iterator[Expr]:
    """Loop over blocks of filters: on all threads of TVM's pool if the layer has work enough for that."""
    threads = macs >= PARALLEL_MACS and count > 1
    with (
        t.parallel(i64(count)) if threads else t.serial(i64(count)) as block,
        aligned_stack() if threads else nullcontext(),  # with threads the body is its own function
    ):
        yield block


def scratch(count: int, dtype: str) -> Buffer:
    """Memory of one call, from TVM's workspace; never shared with :class:`Registers`."""
    return t.alloc_buffer((i64(count),), dtype, scope="local")


def flat(buffer: Buffer, count: int, dtype: str) -> Buffer:
    """A buffer of any rank as one axis of ``count`` elements."""
    return t.decl_buffer((i64(count),), dtype, data=buffer.data)


def pick(vectors: Sequence[Expr], lanes: Sequence[int]) -> Expr:
    """Lanes of several vectors of one size, counted through."""
    return tirx.Shuffle(list(vectors), [tirx.IntImm("int32", i) for i in lanes])
