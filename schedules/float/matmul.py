"""Products of matrices: sums of a few rows and columns stay in registers, each added in the order of K.

A vector is columns of the second matrix, so an element of the result is one lane, whatever the tile. Where
columns do not fill a vector the last one begins earlier, and computes some elements twice, to the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from sd_tvm._tvm import ir_builder, tirx
from sd_tvm.layers import LANES
from sd_tvm.schedules.cpu.pixels import even_groups
from sd_tvm.schedules.cpu.vec import Buffer, Expr, Registers, bind, flat, i64, load, scratch, store, t
from sd_tvm.schedules.float.lanes import DTYPE, Row, each, every, total
from sd_tvm.schedules.ops.tir import dims, mark_layer

#: Vectors of sixteen sums in registers: 12 of AVX2's 16, 24 of NEON's 32.
_SUMS = 6
#: From so many blocks of rows on, columns are copied side by side first: they may lie a page apart.
_BLOCKS = 4


@dataclass(frozen=True)
class Product:
    """Shapes of a product as ``relax.matmul`` has them: batches broadcast, vectors get an axis of one.

    Attributes
    ----------
    a, b
        Shapes of the operands.
    """

    a: tuple[int, ...]
    b: tuple[int, ...]

    @property
    def rows(self) -> int:
        """M: with one second matrix for all, the rows of all first ones."""
        m = self.a[-2] if len(self.a) > 1 else 1
        return m * prod(self.a[:-2]) if self.shared else m

    @property
    def columns(self) -> int:
        """N."""
        return self.b[-1] if len(self.b) > 1 else 1

    @property
    def depth(self) -> int:
        """K."""
        return self.a[-1]

    @property
    def shared(self) -> bool:
        """Whether there is one second matrix for all."""
        return prod(self.b[:-2]) == 1

    @property
    def batch(self) -> tuple[int, ...]:
        """Axes of the batch of products."""
        return () if self.shared else self._axes

    @property
    def batches(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Axes of the operands' batches, as many of each."""
        a, b = (tuple(s[:-2]) for s in (self.a, self.b))
        most = max(len(a), len(b))
        return (1,) * (most - len(a)) + a, (1,) * (most - len(b)) + b

    @property
    def _axes(self) -> tuple[int, ...]:
        """Axes of the result's batch."""
        return tuple(max(p, q) for p, q in zip(*self.batches, strict=True))

    @property
    def result(self) -> tuple[int, ...]:
        """Shape of the result."""
        return (*self._axes, *self.a[-2:-1], *(self.b[-1:] if len(self.b) > 1 else ()))

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return prod(self.batch) * self.rows * self.columns * self.depth

    def matrix(self, operand: int, index: Expr) -> Expr:
        """Which matrix of an operand (0 or 1) a product of the batch takes."""
        place, step, left = i64(0), 1, index
        if self.shared:
            return place
        for whole, axis in zip(self.batch[::-1], self.batches[operand][::-1], strict=True):
            if axis > 1:
                place = place + tirx.floormod(left, i64(whole)) * i64(step)
            left, step = tirx.floordiv(left, i64(whole)), step * axis
        return place


def build_matmul(a: tuple[int, ...], b: tuple[int, ...], symbol: str) -> Any:
    """PrimFunc of ``relax.matmul``. Operands: a, b, result, all float32.

    Parameters
    ----------
    a, b
        Shapes of the operands.
    symbol
        Name of the function.
    """
    return _Matmul(Product(a, b)).build(symbol)


class _Matmul:
    def __init__(self, product: Product) -> None:
        self.product = product
        self.lanes = min(LANES, 1 << (product.columns.bit_length() - 1))

    def build(self, symbol: str) -> Any:
        product = self.product
        shapes = {"a": product.a, "b": product.b, "out": product.result}
        with ir_builder.IRBuilder() as frame, t.prim_func(s_tir=True):
            t.func_name(symbol)
            args = [t.arg(name, t.Buffer(dims(*shape), DTYPE)) for name, shape in shapes.items()]
            self.a, self.b, self.out = (
                flat(arg, prod(shape), DTYPE) for arg, shape in zip(args, shapes.values(), strict=True)
            )
            if product.columns == 1:
                self._dots()
            else:
                self._tiles()
        return mark_layer(frame.get(), symbol)

    def _dots(self) -> None:
        """One column: rows are lanes of sums of their own."""
        product, depth = self.product, i64(self.product.depth)
        with each(prod(product.batch) * product.rows, product.macs) as index:
            n = bind(tirx.floordiv(index, i64(product.rows)))
            left = bind(product.matrix(0, n) * i64(product.rows) + tirx.floormod(index, i64(product.rows)))
            first, second = bind(left * depth), bind(product.matrix(1, n) * depth)
            row, column = Row(product.depth, 0.0), Row(product.depth, 0.0)
            row.read_tail(self.a, first)
            column.read_tail(self.b, second)
            sums = Registers(1, DTYPE, LANES)
            sums[0] = every(0.0) if row.tail is None else row.tail * column.tail
            with row.chunks(first) as at:
                sums[0] = sums[0] + load(self.a, at, LANES) * load(self.b, at - first + second, LANES)
            t.buffer_store(self.out, total(sums[0]), [index])

    def _tiles(self) -> None:
        product, lanes = self.product, self.lanes
        groups = even_groups(product.rows, _SUMS)
        most = max(1, _SUMS // max(size for _, size in groups))
        whole, rest = divmod(product.columns, most * lanes)
        if whole:
            self._stripes(0, whole, [i * lanes for i in range(most)])
        if rest:
            first = whole * most * lanes
            columns = [i * lanes for i in range(rest // lanes)]
            if rest % lanes:
                columns.append(product.columns - lanes - first)
            self._stripes(first, 1, columns)

    def _stripes(self, first: int, count: int, columns: list[int]) -> None:
        """``count`` times these columns from ``first`` on, of all rows of all products."""
        product, lanes, width = self.product, self.lanes, len(columns) * self.lanes
        depth, groups = product.depth, even_groups(product.rows, _SUMS)
        copied = sum(g for g, _ in groups) >= _BLOCKS
        macs = prod(product.batch) * product.rows * count * width * depth
        with each(prod(product.batch) * count, macs) as index:
            n = bind(tirx.floordiv(index, i64(count)))
            column = bind(i64(first) + tirx.floormod(index, i64(count)) * i64(width))
            b, stride = self.b, product.columns
            at = bind(product.matrix(1, n) * i64(depth * product.columns) + column)
            if copied:
                b = scratch(depth * width, DTYPE)
                with t.serial(i64(depth)) as k:
                    for i, c in enumerate(columns):
                        value = load(self.b, at + k * i64(stride) + i64(c), lanes)
                        store(b, k * i64(width) + i64(i * lanes), value, lanes)
                at, stride = i64(0), width
            places = [i * lanes for i in range(len(columns))] if copied else columns
            top = 0
            for blocks, size in groups:
                with t.serial(i64(blocks)) as block:
                    row = bind(i64(top) + block * i64(size))
                    left = bind((product.matrix(0, n) * i64(product.rows) + row) * i64(depth))
                    sums = self._sums(left, b, at, stride, places, size)
                    to = bind((n * i64(product.rows) + row) * i64(product.columns) + column)
                    for r in range(size):
                        for i, c in enumerate(columns):
                            place = to + i64(r * product.columns + c)
                            store(self.out, place, sums[r * len(columns) + i], lanes)
                top += blocks * size

    def _sums(self, left: Expr, b: Buffer, at: Expr, stride: int, columns: list[int], size: int) -> Registers:
        """Sums of ``size`` rows from ``left`` of a, and of columns at ``at`` of b."""
        sums = Registers(size * len(columns), DTYPE, self.lanes)
        sums.clear()
        with t.serial(i64(self.product.depth)) as k:
            row = bind(at + k * i64(stride))
            vectors = [bind(load(b, row + i64(c), self.lanes)) for c in columns]
            for r in range(size):
                x = bind(tirx.Broadcast(self.a[left + i64(r * self.product.depth) + k], self.lanes))
                for i, vector in enumerate(vectors):
                    j = r * len(columns) + i
                    sums[j] = sums[j] + x * vector
        return sums
