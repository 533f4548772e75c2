"""Shapes of layers, all that an analytic model needs to know about a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["conv", "depthwise", "dense", "matmul"]


@dataclass(frozen=True)
class LayerShape:
    """One layer with multiplications; padding is always "same".

    Parameters
    ----------
    name
        Name, unique in its network.
    kind
        ``dense``: pixels are tokens; ``matmul``: both operands are activations, ``groups`` heads.
    out_channels, in_channels
        Of the whole layer, groups included.
    kernel, stride
        Square kernels.
    out_hw, in_hw
        Height and width in pixels (tokens: 1 x n).
    groups
        Channel groups.
    inner_in, inner_out
        The tensor lives inside a block that row tiling can keep on chip (MBConv, FFN, attention).
    first, last
        Input comes from, output goes to DRAM in any schedule.
    signed_input
        The input is not the output of a ReLU: symmetric, without zeros.
    raw
        Weights stay dense int8 in every format (stem; depthwise and matmul always do).
    """

    name: str
    kind: Kind
    out_channels: int
    in_channels: int
    kernel: int
    stride: int
    out_hw: tuple[int, int]
    in_hw: tuple[int, int]
    groups: int = 1
    inner_in: bool = False
    inner_out: bool = False
    first: bool = False
    last: bool = False
    signed_input: bool = False
    raw: bool = False

    @property
    def group_channels(self) -> int:
        """Input channels that one filter sees."""
        return self.in_channels // self.groups

    @property
    def taps(self) -> int:
        """Weights of one filter."""
        return self.group_channels * self.kernel * self.kernel

    @property
    def weights(self) -> int:
        """Elements of the second operand."""
        return self.out_channels * self.taps

    @property
    def pixels(self) -> int:
        """Output pixels."""
        return self.out_hw[0] * self.out_hw[1]

    @property
    def macs(self) -> int:
        """Multiply-accumulates, zeros included."""
        return self.weights * self.pixels

    @property
    def in_values(self) -> int:
        """Elements of the input."""
        return self.in_channels * self.in_hw[0] * self.in_hw[1]

    @property
    def out_values(self) -> int:
        """Elements of the output."""
        return self.out_channels * self.pixels

    @property
    def compressible(self) -> bool:
        """Whether formats and masks apply."""
        return not self.raw and self.kind in ("conv", "dense")

    @property
    def row_taps(self) -> int:
        """S: weights of a row of the decomposition (3 channels of a 1x1 kernel, else a kernel row)."""
        return 3 if self.kernel == 1 else self.kernel

    @property
    def rows(self) -> int:
        """Rows of a filter."""
        return -(-self.group_channels // 3) if self.kernel == 1 else self.group_channels * self.kernel
