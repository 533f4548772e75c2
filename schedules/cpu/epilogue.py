"""What kernels do with their sums: bias, requantisation, a residual addition, and the store.

A kernel has the sums of sixteen filters at a pixel; where they end, and what the last operands of the kernel
are, is the same for all of them and is here.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

from sd_tvm._tvm import tirx
from sd_tvm.layers import LANES, AddLayer, ConvLayer, blocks16
from sd_tvm.schedules.cpu.linear_sum import SUM_WORDS
from sd_tvm.schedules.cpu.scaling import ANY, Scaling
from sd_tvm.schedules.cpu.vec import (
    Buffer,
    Expr,
    as_type,
    bind,
    flat,
    i64,
    load,
    plus,
    store,
    t,
    times,
)
from sd_tvm.schedules.ops.tir import dims


@dataclass(frozen=True)
class Residual:
    """An addition that a kernel makes of its result, before it stores it.

    Attributes
    ----------
    layer
        The addition; it has the form of :func:`~sd_tvm.schedules.cpu.linear_sum.linear_sum`.
    own
        Which of its operands the kernel computes; the other is read.
    """

    layer: AddLayer
    own: Literal[0, 1]

    @property
    def other_dtype(self) -> str:
        """Type of the operand that is read."""
        return (self.layer.a_dtype, self.layer.b_dtype)[1 - self.own]


class Epilogue:
    """The last operands of a kernel: words; with a residual the other tensor and its words; the result.

    Parameters
    ----------
    layer
        The convolution.
    residual
        What is added; its result is then the kernel's.
    scaling
        How the convolution's words are stored and used.
    """

    def __init__(self, layer: ConvLayer, residual: Residual | None = None, scaling: Scaling = ANY) -> None:
        self.layer, self.residual, self.scaling = layer, residual, scaling

    def arguments(self) -> None:
        """Declare them, in a kernel's head."""
        layer, residual = self.layer, self.residual
        mbs = blocks16(layer.out_channels)
        shape = (layer.batch, mbs, *layer.out_hw, LANES)
        self.dtype = stored(layer) if residual is None else residual.layer.out_dtype
        qp = t.arg("qp", t.Buffer(dims(mbs, self.scaling.block_bytes), "uint8"))
        if residual is not None:
            other = t.arg("other", t.Buffer(dims(*shape), residual.other_dtype))
            self.sum = t.arg("sum", t.Buffer(dims(SUM_WORDS), "int32"))
        out = t.arg("out", t.Buffer(dims(*shape), self.dtype))
        self.qp = flat(qp, mbs * self.scaling.block_bytes, "uint8")
        self.out = flat(out, prod(shape), self.dtype)
        if residual is not None:
            self.other = flat(other, prod(shape), residual.other_dtype)

    def of(self, block: Expr) -> Results:
        """Of one block of sixteen filters."""
        return Results(self, block)


class Results:
    """Biases and results of sixteen filters, whose words are read once: all are stored in one scope.

    Parameters
    ----------
    epilogue
        Of the kernel.
    block
        Which sixteen.
    """

    def __init__(self, epilogue: Epilogue, block: Expr) -> None:
        self._epilogue, self._words = epilogue, epilogue.scaling.reader(epilogue.qp, block)
        self._sum: Sum | None = None

    def bias(self, first: int = 0, lanes: int = LANES) -> Expr:
        """uint32 biases of ``lanes`` filters from ``first`` on."""
        return self._words.bias(first, lanes)

    def store(self, place: Expr, sums: Expr) -> None:
        """Write the results of uint32x16 sums, bias included, to block ``place`` of the result."""
        epilogue, at = self._epilogue, bind(place * i64(LANES))
        self._prepare()
        value, layer = as_type(sums, f"int32x{LANES}"), epilogue.layer
        if epilogue.residual is not None:
            assert self._sum is not None
            other = load(epilogue.other, at, LANES).astype(f"int32x{LANES}")
            value = self._sum.of(self._words.wide(value, layer.out_dtype), other)
            value = value.astype(f"{epilogue.dtype}x{LANES}")
        elif layer.out != "i32":
            value = self._words.narrow(value, layer.out_dtype)
        store(epilogue.out, at, value, LANES)

    def _prepare(self) -> None:
        if self._epilogue.layer.out != "i32":
            self._words.prepare(self._epilogue.layer.out_dtype)
        if self._epilogue.residual is not None and self._sum is None:
            self._sum = Sum(self._epilogue.sum)


class Sum:
    """Words of an addition in every lane.

    Parameters
    ----------
    words
        Buffer of :meth:`~sd_tvm.schedules.cpu.linear_sum.LinearSum.words`.
    """

    def __init__(self, words: Buffer) -> None:
        every = [bind(tirx.Broadcast(words[i64(i)], LANES)) for i in range(SUM_WORDS)]
        self._own, self._other, self._offset = (bind(as_type(v, f"uint32x{LANES}")) for v in every[:3])
        self._shift, self._low, self._high = every[3:]

    def of(self, own: Expr, other: Expr) -> Expr:
        """int32x16 within 8 bits, of two int32x16 of bytes."""
        a, b = (as_type(v, f"uint32x{LANES}") for v in (own, other))
        total = plus(plus(times(a, self._own), self._offset), times(b, self._other))
        value = tirx.shift_right(as_type(total, f"int32x{LANES}"), self._shift)
        return tirx.min(tirx.max(value, self._low), self._high)


def stored(layer: ConvLayer) -> str:
    """Type of a convolution's result."""
    return "int32" if layer.out == "i32" else layer.out_dtype
