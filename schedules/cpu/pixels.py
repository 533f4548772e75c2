"""Pixels of a convolution in a kernel: how they are cut into groups, and the zero points around them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sd_tvm._tvm import tirx
from sd_tvm.layers import LANES, ConvLayer, blocks16
from sd_tvm.schedules.cpu.vec import Buffer, Expr, i64, store, t

#: (groups, pixels of each).
Groups = tuple[tuple[int, int], ...]


def even_groups(pixels: int, most: int) -> Groups:
    """A run of pixels in groups of at most ``most``: as equal as can be, the larger ones first."""
    count = -(-pixels // most)
    small = pixels // count
    large = pixels - small * count
    return tuple(g for g in ((large, small + 1), (count - large, small)) if g[0])


@dataclass(frozen=True)
class Tile:
    """Equal tiles, ``down`` times ``across`` of them, from (row, column) on.

    Attributes
    ----------
    row, column
        First pixel of the first.
    down, across
        How many.
    rows, columns
        Pixels of each.
    """

    row: int
    column: int
    down: int
    across: int
    rows: int
    columns: int

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of each."""
        return self.rows, self.columns


def tiles(rows: int, columns: int, most: int) -> tuple[Tile, ...]:
    """A plane of pixels cut: whole rows where several fit, else pieces of one row, as equal as can be."""
    found, row = [], 0
    for down, high in even_groups(rows, max(1, most // columns)):
        column = 0
        for across, wide in even_groups(columns, most):
            found.append(Tile(row, column, down, across, high, wide))
            column += across * wide
        row += down * high
    return tuple(found)


@dataclass(frozen=True)
class Plane:
    """Where windows are read from: the input itself, or a copy with zero points around it.

    Attributes
    ----------
    height, width
        In pixels.
    padded
        Whether it is a copy.
    """

    height: int
    width: int
    padded: bool

    @classmethod
    def of(cls, layer: ConvLayer) -> Plane:
        """The input where no window leaves it."""
        used = layer.reach
        inside = used[0] <= layer.in_hw[0] and used[1] <= layer.in_hw[1]
        padded = any(layer.padding[:2]) or not inside
        return cls(*(used if padded else layer.in_hw), padded)

    @property
    def size(self) -> int:
        """Pixels."""
        return self.height * self.width

    def fill(
        self, layer: ConvLayer, to: Buffer, first: Expr, zero: Expr, read: Callable[[Expr], Expr]
    ) -> None:
        """Write sixteen channels of the copy.

        Parameters
        ----------
        layer
            The layer.
        to, first
            Flat buffer, and the plane's first pixel in it, in blocks of 16.
        zero
            Sixteen zero points.
        read
            Gives the sixteen channels of a pixel of the input.
        """

        def border(at: Expr, count: int) -> None:
            with t.serial(i64(count)) as i:
                store(to, (first + at + i) * i64(LANES), zero, LANES)

        def inside(at: Expr, source: Expr) -> None:
            store(to, (first + at) * i64(LANES), read(source), LANES)

        fill_padded(layer, (self.height, self.width), border, inside)


def result_place(layer: ConvLayer, flat_batch: bool, n: Expr, mb: Expr, pixel: Expr) -> Expr:
    """Where a block of filters' result at a pixel is stored, in blocks of 16.

    ``flat_batch``: pixels count the images, of one pixel each; else they are those of image ``n``.
    """
    mbs, (oh, ow) = blocks16(layer.out_channels), layer.out_hw
    if flat_batch:
        return pixel * i64(mbs) + mb
    return (n * i64(mbs) + mb) * i64(oh * ow) + pixel


def pixel_source(layer: ConvLayer, flat_batch: bool, n: Expr, pixel: Expr) -> Expr:
    """Where the first channels of a pixel of a pointwise layer's result come from, in blocks of 16 channels.

    ``flat_batch``: pixels count the images, of one pixel each; else they are those of image ``n``.
    """
    (h, w), (sh, sw), (_, ow) = layer.in_hw, layer.stride, layer.out_hw
    image = blocks16(layer.in_channels) * h * w
    if flat_batch:
        return pixel * i64(image)
    if (sh, sw) == (1, 1):
        return n * i64(image) + pixel
    y, x = tirx.floordiv(pixel, i64(ow)), tirx.floormod(pixel, i64(ow))
    return n * i64(image) + y * i64(sh * w) + x * i64(sw)


def fill_padded(
    layer: ConvLayer,
    size: tuple[int, int],
    border: Callable[[Expr, int], None],
    inside: Callable[[Expr, Expr], None],
) -> None:
    """Statements that fill a padded plane of an image.

    Parameters
    ----------
    layer
        The layer; rows and columns of its input beyond the plane are left out.
    size
        Height and width of the plane.
    border
        Writes zero points: gets the first pixel of the plane and how many.
    inside
        Writes one pixel of the plane: gets its place and the input's pixel.
    """
    height, width = size
    (h, w), (top, left) = layer.in_hw, layer.padding[:2]
    bottom, right = min(top + h, height), min(left + w, width)
    top, left = min(top, height), min(left, width)  # wide strides may never leave the border

    def run(y: Expr, first: int, last: int) -> None:
        if last > first:
            border(y * i64(width) + i64(first), last - first)

    for first, last in ((0, top), (bottom, height)):
        if last > first:
            with t.serial(i64(last - first)) as y:
                run(y + i64(first), 0, width)
    with t.serial(i64(bottom - top)) as y:
        run(y + i64(top), 0, left)
        run(y + i64(top), right, width)
        with t.serial(i64(right - left)) as x:
            inside((y + i64(top)) * i64(width) + i64(left) + x, y * i64(w) + x)
