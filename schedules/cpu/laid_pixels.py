"""x of a pointwise layer laid out for rows of three channels: element t of all rows side by side.

For every pixel and t = 0, 1, 2, every third channel from t on, in blocks of 16. Channels that a row has
beyond those of x are zero: codes there need not be.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from sd_tvm.layers import LANES, ConvLayer
from sd_tvm.schedules.cpu.operand import Operand
from sd_tvm.schedules.cpu.pixels import pixel_source, result_place
from sd_tvm.schedules.cpu.vec import Buffer, Expr, bind, i64, load, pick, splat, store, t
from sd_tvm.weights.rows import ROWS_PER_BLOCK


@dataclass(frozen=True)
class LaidPixels:
    """Layout of some pixels.

    Attributes
    ----------
    operand
        What is laid out; the layer has a kernel 1x1, no padding, no groups.
    blocks
        Blocks of 16 rows, at least those of the weight; those beyond them mean nothing.
    """

    operand: Operand
    blocks: int

    @property
    def layer(self) -> ConvLayer:
        """The layer."""
        return self.operand.layer

    @property
    def element(self) -> int:
        """Bytes from an element of the rows to the next."""
        return self.blocks * ROWS_PER_BLOCK

    @property
    def pixel(self) -> int:
        """Bytes from a pixel to the next."""
        return self.element * self.layer.geometry.s

    @property
    def flat_batch(self) -> bool:
        """Whether the images of the batch are one pixel each and count as pixels."""
        return prod(self.layer.out_hw) == 1

    @property
    def images(self) -> int:
        """Images that are computed one after the other."""
        return 1 if self.flat_batch else self.layer.batch

    @property
    def run(self) -> int:
        """Pixels of an image."""
        return self.layer.batch if self.flat_batch else prod(self.layer.out_hw)

    def place(self, n: Expr, mb: Expr, pixel: Expr) -> Expr:
        """Where a pixel's result of a block of filters is stored, in blocks of 16."""
        return result_place(self.layer, self.flat_batch, n, mb, pixel)

    def fill(self, laid: Buffer, place: Expr, x: Buffer, n: Expr, pixel: Expr) -> None:
        """Write one pixel of the result's plane of image ``n`` as number ``place``."""
        layer, s, to = self.layer, self.layer.geometry.s, place * i64(self.pixel)
        plane = prod(layer.in_hw)
        source = bind(pixel_source(layer, self.flat_batch, n, pixel))
        whole, rest = divmod(layer.in_channels, s * LANES)

        def block(b: Expr, channels: int) -> None:
            vectors = []
            for i in range(-(-channels // LANES)):
                at = source + (b * i64(s) + i64(i)) * i64(plane)
                vectors.append(bind(self.operand.of(load(x, at * i64(LANES), LANES), LANES)))
            vectors.append(splat(0, "uint8", LANES))
            absent = LANES * (len(vectors) - 1)
            for k in range(s):
                lanes = [s * i + k for i in range(LANES)]
                value = pick(vectors, [c if c < channels else absent for c in lanes])
                store(laid, to + i64(k * self.element) + b * i64(ROWS_PER_BLOCK), value, LANES)

        if whole:
            with t.serial(i64(whole)) as b:
                block(b, s * LANES)
        if rest:
            block(i64(whole), rest)
