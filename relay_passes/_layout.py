"""How an 8-bit value lies in memory: which axes of the real tensor are batch, channels, pixels.

Every 8-bit value is (N, ceil(C/16), P, 16) in memory. A :class:`Layout` says which axes of the real tensor
make up N, C and P. Reshapes and permutations then often move nothing: splitting the channels of tokens
(B, T, heads * D) into heads, and the heads to the front, names the same bytes anew if D is a multiple of
16.
Axes of size one lie anywhere, so layouts leave them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from sd_tvm.layers import LANES

Shape = tuple[int, ...]
Axes = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """Axes of a real tensor that are batch, channels and pixels, outermost first; none of size one."""

    batch: Axes
    channels: Axes
    pixels: Axes

    def sizes(self, shape: Shape) -> tuple[int, int, int]:
        """(N, C, P)."""
        n, c, p = (prod(shape[a] for a in axes) for axes in (self.batch, self.channels, self.pixels))
        return n, c, p

    def nchw(self, shape: Shape) -> tuple[int, int, int, int]:
        """(N, C, H, W); H is one unless there are two axes of pixels."""
        n, c, p = self.sizes(shape)
        if len(self.pixels) == 2:
            return n, c, shape[self.pixels[0]], shape[self.pixels[1]]
        return n, c, 1, p

    @property
    def order(self) -> Axes:
        """The axes in the order (batch, channels, pixels)."""
        return (*self.batch, *self.channels, *self.pixels)


def make(shape: Shape, batch: Sequence[int], channels: Sequence[int], pixels: Sequence[int]) -> Layout:
    """Layout of a shape; axes of size one are dropped."""

    def wide(axes: Sequence[int]) -> Axes:
        return tuple(a for a in axes if shape[a] != 1)

    return Layout(wide(batch), wide(channels), wide(pixels))


def channels_first(shape: Shape) -> Layout:
    """(N, C), (N, C, W), (N, C, H, W): what convolutions and pools read and write."""
    return make(shape, (0,), (1,), range(2, len(shape)))


def channels_last(shape: Shape) -> Layout:
    """(..., T, C): what dense layers read and write; one axis before the channels is pixels, rank 4 two."""
    rank = len(shape)
    n_batch = max(0, rank - 2) if rank != 4 else 1
    return make(shape, range(n_batch), (rank - 1,), range(n_batch, rank - 1))


def matrices(shape: Shape) -> Layout:
    """(..., P, C): a stack of matrices, one image each."""
    rank = len(shape)
    return make(shape, range(rank - 2), (rank - 1,), (rank - 2,))


def same_memory(shape: Shape, a: Layout, b: Layout) -> bool:
    """Whether two layouts of one tensor put every element at the same byte.

    Channels may begin at another axis, if whole blocks of 16 move to or from the batch.
    """
    if a == b:
        return True
    if (*a.batch, *a.channels) != (*b.batch, *b.channels) or a.pixels != b.pixels:
        return False
    inner = a if len(a.channels) < len(b.channels) else b
    return prod(shape[x] for x in inner.channels) % LANES == 0


def permuted(layout: Layout, axes: Sequence[int]) -> Layout:
    """Layout of ``permute_dims(x, axes)``: the same bytes."""
    at = {int(old): new for new, old in enumerate(axes)}
    b, c, p = (tuple(at[a] for a in part) for part in (layout.batch, layout.channels, layout.pixels))
    return Layout(b, c, p)


def _common_factors(old: Shape, new: Shape) -> tuple[list[list[int]], list[list[int]], list[int]] | None:
    """Axes of both shapes as runs of common factors: (factors of old axes, of new axes, sizes), else None."""
    sizes: list[int] = []
    out: tuple[list[list[int]], list[list[int]]] = ([[] for _ in old], [[] for _ in new])
    left, at = [1, 1], [len(old), len(new)]
    shapes = (old, new)
    while True:
        for i in (0, 1):
            while left[i] == 1 and at[i] > 0:
                at[i] -= 1
                left[i] = shapes[i][at[i]]
        if left == [1, 1]:
            break
        small = min(left)
        if small <= 1 or max(left) % small:
            return None
        for i in (0, 1):
            out[i][at[i]].insert(0, len(sizes))
            left[i] //= small
        sizes.append(small)
    return out[0], out[1], sizes


def reshaped(layout: Layout, old: Shape, new: Shape) -> Layout | None:
    """Layout of ``reshape(x, new)`` if it names the same bytes, else None."""
    if prod(old) != prod(new):
        return None
    found = _common_factors(old, new)
    if found is None:
        return None
    of_old, of_new, sizes = found
    batch, channels, pixels = (
        [f for a in axes for f in of_old[a]] for axes in (layout.batch, layout.channels, layout.pixels)
    )
    outer = [*batch, *channels]
    wanted = {f: axis for axis, factors in enumerate(of_new) for f in factors}
    # where the channels begin: as before if possible, else further in, else further out
    starts = [len(batch), *range(len(batch) + 1, len(outer) + 1), *range(len(batch) - 1, -1, -1)]
    for start in starts:
        inner = outer[max(start, len(batch)) :]
        if start != len(batch) and prod(sizes[f] for f in inner) % LANES:
            continue
        parts = [_axes(part, wanted, of_new) for part in (outer[:start], outer[start:], pixels)]
        if all(part is not None for part in parts):
            b, c, p = (part or () for part in parts)
            return Layout(b, c, p)
    return None


def _axes(factors: list[int], axis_of: dict[int, int], of_axis: list[list[int]]) -> Axes | None:
    """Axes that a run of factors is made of, each whole and in order, else None."""
    out: list[int] = []
    at = 0
    while at < len(factors):
        axis = axis_of[factors[at]]
        run = of_axis[axis]
        if factors[at : at + len(run)] != run:
            return None
        out.append(axis)
        at += len(run)
    return tuple(out)
