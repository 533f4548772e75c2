"""Grouped convolutions as dense ones: sixteen filters meet the blocks of channels that their groups lie in.

Weights of channels that a filter does not read are zero, so sums stay what they are. A group of sixteen
channels and filters, or a multiple, costs nothing more; one of four channels four times its products.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sd_tvm._tvm import tirx
from sd_tvm.layers import LANES, ConvLayer, blocks16
from sd_tvm.schedules.cpu.vec import Expr, i64


@dataclass(frozen=True)
class Window:
    """Blocks of channels that a block of filters reads.

    Attributes
    ----------
    layer
        The layer, with groups or without.
    """

    layer: ConvLayer

    @property
    def _per_group(self) -> tuple[int, int]:
        """(channels, filters) of a group."""
        return self.layer.in_channels // self.layer.groups, self.layer.out_channels // self.layer.groups

    @property
    def blocks(self) -> int:
        """How many; the same for every block of filters."""
        channels, filters = self._per_group
        most = 0
        for first in range(0, self.layer.out_channels, LANES):
            last = min(first + LANES, self.layer.out_channels) - 1
            start = first // filters * channels // LANES
            most = max(most, blocks16((last // filters + 1) * channels) - start)
        return most

    @property
    def channels(self) -> int:
        """Channels in them: without groups those of the layer."""
        return self.layer.in_channels if self.layer.groups == 1 else self.blocks * LANES

    def first(self, mb: Expr) -> Expr:
        """First of them for a block of filters (int64)."""
        if self.layer.groups == 1:
            return i64(0)
        channels, filters = self._per_group
        group = tirx.floordiv(mb * i64(LANES), i64(filters))
        start = tirx.floordiv(group * i64(channels), i64(LANES))
        return tirx.min(start, i64(blocks16(self.layer.in_channels) - self.blocks))

    def spread(self, weight: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """Integers (M, C / groups, KH, KW) as (M, :attr:`channels`, KH, KW), zeros between."""
        if self.layer.groups == 1:
            return weight
        channels, filters = self._per_group
        out = np.zeros((weight.shape[0], self.channels, *weight.shape[2:]), dtype=weight.dtype)
        most = blocks16(self.layer.in_channels) - self.blocks
        for m in range(weight.shape[0]):
            start = min(m // LANES * LANES // filters * channels // LANES, most) * LANES
            at = m // filters * channels - start
            out[m, at : at + channels] = weight[m]
        return out
