"""An 8-bit value brought into another layout, run on the host."""

from __future__ import annotations

from typing import Any, Protocol

from sd_tvm._tvm import te, tirx
from sd_tvm.layers import LANES, ActDType, blocks16
from sd_tvm.schedules.ops.tir import Expr, const, dims, finish, i64

Shape = tuple[int, ...]


class LayoutLike(Protocol):
    """What :class:`sd_tvm.relay_passes._layout.Layout` offers."""

    @property
    def batch(self) -> Shape:
        """Axes of N."""

    @property
    def channels(self) -> Shape:
        """Axes of C."""

    @property
    def pixels(self) -> Shape:
        """Axes of P."""

    def nchw(self, shape: Shape) -> tuple[int, int, int, int]:
        """(N, C, H, W)."""


def _split(at: Expr, axes: Shape, shape: Shape) -> dict[int, Expr]:
    """Index along each of the merged ``axes``."""
    out: dict[int, Expr] = {}
    for axis in reversed(axes):
        out[axis] = tirx.floormod(at, i64(shape[axis])) if axis != axes[0] else at
        at = tirx.floordiv(at, i64(shape[axis]))
    return out


def _merge(index: dict[int, Expr], axes: Shape, shape: Shape) -> Expr:
    at: Expr = i64(0)
    for axis in axes:
        at = at * i64(shape[axis]) + index[axis]
    return at


def build_relayout(
    shape: Shape,
    source: LayoutLike,
    target: LayoutLike,
    dtype: ActDType,
    symbol: str,
    source_shape: Shape | None = None,
    *,
    pixels: int | None = None,
) -> Any:
    """Blocked 8 bit in one layout -> blocked 8 bit in another; lanes beyond the channels are zero.

    Parameters
    ----------
    shape
        Shape of the real tensor.
    source, target
        Which of its axes are batch, channels and pixels, before and after.
    dtype
        Type of both.
    symbol
        Name of the function.
    source_shape
        Shape of the operand, when it names the bytes otherwise than ``source`` does.
    pixels
        Pixels of the result, zeros after those of the tensor; it is then (N, CB, 1, pixels, 16).
    """
    n, c, h, w = target.nchw(shape)
    real = h * w
    if pixels is not None:
        h, w = 1, pixels
    given = source_shape or blocked(source.nchw(shape))
    x = te.placeholder(dims(*given), dtype, name="q")
    width = given[3]

    def body(b: Expr, cb: Expr, y: Expr, xx: Expr, ln: Expr) -> Expr:
        channel, pixel = cb * i64(LANES) + ln, y * i64(w) + xx
        parts = ((b, target.batch), (channel, target.channels), (pixel, target.pixels))
        index: dict[int, Expr] = {}
        for at, axes in parts:
            index |= _split(at, axes, shape)
        n0, c0, p0 = (_merge(index, axes, shape) for axes in (source.batch, source.channels, source.pixels))
        if given[0] != source.nchw(shape)[0]:  # the operand counts blocks of channels as batch, or vice versa
            whole = n0 * i64(blocks16(source.nchw(shape)[1])) + tirx.floordiv(c0, i64(LANES))
            n0, block = tirx.floordiv(whole, i64(given[1])), tirx.floormod(whole, i64(given[1]))
        else:
            block = tirx.floordiv(c0, i64(LANES))
        value = x[
            n0,
            block,
            tirx.floordiv(p0, i64(width)),
            tirx.floormod(p0, i64(width)),
            tirx.floormod(c0, i64(LANES)),
        ]
        conditions = []
        if c % LANES:
            conditions.append(channel < i64(c))
        if pixels is not None and pixels > real:
            conditions.append(pixel < i64(real))
        return tirx.if_then_else(tirx.all(*conditions), value, const(0, dtype)) if conditions else value

    return finish([x, te.compute(dims(n, blocks16(c), h, w, LANES), body, name="y")], symbol)


def blocked(image: tuple[int, int, int, int]) -> Shape:
    """Shape in memory of an (N, C, H, W) value."""
    n, c, h, w = image
    return n, blocks16(c), h, w, LANES
