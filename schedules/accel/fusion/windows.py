"""Rows of the inputs that rows of a result need, for each kind of layer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from sd_tvm.layers import (
    AddLayer,
    ConcatLayer,
    ConvLayer,
    Layer,
    LutLayer,
    MulLayer,
    PoolLayer,
    RequantLayer,
    ResizeLayer,
)


@dataclass(frozen=True)
class Window:
    """How a layer walks over its inputs.

    Attributes
    ----------
    extent
        Rows and columns of input under one result, dilation included.
    stride
        Rows and columns between results.
    padding
        top, left, bottom, right.
    pad_value
        Byte of the padding, as an integer of the input's type.
    whole
        The layer is made at once, from all of its inputs.
    """

    extent: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    pad_value: int = 0
    whole: bool = False

    @property
    def pads(self) -> bool:
        """Whether there is padding."""
        return any(self.padding)

    def rows(self, first: int, last: int) -> tuple[int, int]:
        """Input rows [a, b) under result rows [first, last); rows outside the image are padding."""
        a = first * self.stride[0] - self.padding[0]
        return a, (last - 1) * self.stride[0] - self.padding[0] + self.extent[0]

    def columns(self, n: int) -> tuple[int, int]:
        """Input columns [a, b) under the first n result columns."""
        left = self.padding[1]
        return -left, (n - 1) * self.stride[1] - left + self.extent[1]


def window_of(layer: Layer) -> Window | None:
    """Window of a layer; None where its inputs and result have to stay whole, in DRAM."""
    if isinstance(layer, ConvLayer):
        (kh, kw), (dh, dw) = layer.kernel, layer.dilation
        extent = ((kh - 1) * dh + 1, (kw - 1) * dw + 1)
        return Window(extent, layer.stride, layer.padding, layer.in_zero_point)
    if isinstance(layer, PoolLayer):
        smallest = 0 if layer.in_dtype == "uint8" else -128
        value = smallest if layer.mode == "max" else layer.in_zero_point
        return Window(layer.kernel, layer.stride, layer.padding, value)
    if isinstance(layer, AddLayer | RequantLayer | LutLayer | ConcatLayer):
        return Window()
    if isinstance(layer, MulLayer):
        return Window(whole=layer.b_per_channel)
    return Window(whole=True) if isinstance(layer, ResizeLayer) else None


def stays(layer: Layer) -> bool:
    """Whether a layer's result can stay on chip: 8-bit values in the blocked layout."""
    return window_of(layer) is not None and getattr(layer, "out", "q8") == "q8"


def result_hw(layer: Any) -> tuple[int, int]:
    """Height and width of a layer's result."""
    hw: tuple[int, int] = layer.out_hw if hasattr(layer, "out_hw") else layer.hw
    return hw


def part_of(layer: Any, images: int, in_hw: tuple[int, int], padding: tuple[int, int, int, int]) -> Layer:
    """A layer on a window of its input."""
    if isinstance(layer, (ConvLayer, PoolLayer)):
        return replace(layer, batch=images, in_hw=in_hw, padding=padding)
    part: Layer = replace(layer, batch=images, hw=in_hw)
    return part
