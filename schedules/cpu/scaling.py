"""How results are requantised, by what is known of a layer's multipliers when it is compiled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sd_tvm.layers import ConvLayer
from sd_tvm.schedules.cpu import below_half, requant
from sd_tvm.schedules.cpu.vec import Buffer, Expr

Block = Callable[[npt.NDArray[np.int32], str, npt.NDArray[np.int64] | None], npt.NDArray[np.uint8]]


class Reader(Protocol):
    """Of the words of one block of sixteen filters."""

    def bias(self, first: int = ..., lanes: int = ...) -> Expr:
        """uint32 biases of ``lanes`` filters from ``first`` on."""

    def prepare(self, dtype: str) -> None:
        """Read the words; before a loop that uses them."""

    def wide(self, sums: Expr, dtype: str) -> Expr:
        """int32x16 within the range of ``dtype``, of int32x16 sums."""

    def narrow(self, sums: Expr, dtype: str) -> Expr:
        """The same in ``dtype``."""


@dataclass(frozen=True)
class Scaling:
    """One way: how the words of sixteen filters lie in memory, and the code that reads them.

    Attributes
    ----------
    block_bytes
        Bytes of sixteen filters.
    block
        uint8 (MB, block_bytes) of quantisation words, type of the result, and what is added to the bias.
    reader
        Of a flat buffer of these, and a block's number.
    """

    block_bytes: int
    block: Block
    reader: Callable[[Buffer, Expr], Reader]


#: Any multiplier.
ANY = Scaling(requant.BLOCK_BYTES, requant.quantisation_block, requant.Requantizer)
BELOW_HALF = Scaling(below_half.BLOCK_BYTES, below_half.below_half_block, below_half.BelowHalf)


def scaling_of(layer: ConvLayer, words: npt.NDArray[np.int32]) -> Scaling:
    """The cheapest one that does for a layer's quantisation words, int32 (rows, 4)."""
    if layer.out == "i32" or not below_half.all_below_half(words):
        return ANY  # sums are not scaled: ANY's bias costs fewer bytes to read
    return BELOW_HALF
