"""Pixels of a convolution in a kernel: how they are cut into groups, and the zero points around them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sd_tvm._tvm import tirx
from sd_tvm.layers import ConvLayer, blocks16
from sd_tvm.schedules.cpu.vec import Expr, i64, t

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


@dataclass(frozen=True)
class Tiles:
    """A plane of pixels cut into tiles of at most so many.

    Attributes
    ----------
    rows
        Of the plane.
    tiles
        In order.
    """

    rows: int
    tiles: tuple[Tile, ...]

    @classmethod
    def of(cls, rows: int, columns: int, most: int) -> Tiles:
        """Whole rows where several fit; else pieces of one row, as equal as can be."""
        found, row = [], 0
        for down, high in even_groups(rows, max(1, most // columns)):
            column = 0
            for across, wide in even_groups(columns, most):
                found.append(Tile(row, column, down, across, high, wide))
                column += across * wide
            row += down * high
        return cls(rows, tuple(found))

    def __iter__(self) -> Iterator[Tile]:
        """The tiles."""
        return iter(self.tiles)


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
