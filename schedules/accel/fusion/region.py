"""The graph of a region: layers that become one program, and the values between them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from sd_tvm.layers import PACKED_LANES, Layer, packed_width


@dataclass(frozen=True)
class Value:
    """An activation: blocked 8-bit (or 32-bit) tensor of shape (images, blocks, height, width, 16).

    Attributes
    ----------
    shape
        (images, blocks of 16 channels, height, width).
    name
        For messages.
    leaves
        Somebody outside the region reads it.
    """

    shape: tuple[int, int, int, int]
    name: str
    leaves: bool = False
    #: 4 channels a pixel, rows of whole words (:attr:`sd_tvm.layers.ConvLayer.packed_input`).
    packed: bool = False

    @property
    def words(self) -> int:
        """16-byte words of the tensor with 8-bit elements."""
        n, cb, h, _ = self.shape
        return n * cb * h * self.row_words

    @property
    def row_words(self) -> int:
        """16-byte words of a row of 16 channels, or of 4 packed ones."""
        return packed_width(self.shape[3]) // PACKED_LANES if self.packed else self.shape[3]


@dataclass(frozen=True)
class Node:
    """One layer.

    Attributes
    ----------
    layer
        The layer.
    inputs
        Values of its activation operands, in order.
    constants
        Number of its other operands (weights, quantisation words), which follow the activations.
    result
        Value that it makes.
    """

    layer: Layer
    inputs: tuple[int, ...]
    constants: int
    result: int


@dataclass(frozen=True)
class Region:
    """Layers in an order in which they can run.

    Attributes
    ----------
    nodes
        The layers.
    values
        All activations; those that no node makes come from outside.
    """

    nodes: tuple[Node, ...]
    values: tuple[Value, ...]

    @cached_property
    def maker(self) -> dict[int, int]:
        """Value -> node that makes it."""
        return {node.result: i for i, node in enumerate(self.nodes)}

    @cached_property
    def readers(self) -> dict[int, list[int]]:
        """Value -> nodes that read it, in order."""
        out: dict[int, list[int]] = {v: [] for v in range(len(self.values))}
        for i, node in enumerate(self.nodes):
            for v in dict.fromkeys(node.inputs):
                out[v].append(i)
        return out

    def last_use(self, value: int) -> int:
        """Last node that reads a value; the node that makes it if none does."""
        return max(self.readers[value], default=self.maker.get(value, -1))
