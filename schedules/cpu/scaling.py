"""How results are requantised, by what is known of a layer's multipliers when it is compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sd_tvm.layers import ConvLayer
from sd_tvm.numerics.bounds import accumulator_range
from sd_tvm.numerics.qp import unpack_qp
from sd_tvm.numerics.single import single
from sd_tvm.schedules.cpu import below_half, requant
from sd_tvm.schedules.cpu.single import SingleReader, fields_of, single_block
from sd_tvm.schedules.cpu.vec import Buffer, Expr
from sd_tvm.schedules.cpu.weights import weight_of

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
ANY = Scaling(requant.FIELDS.block_bytes, requant.quantisation_block, requant.Requantizer)
BELOW_HALF = Scaling(below_half.FIELDS.block_bytes, below_half.below_half_block, below_half.BelowHalf)


def scaling_of(
    layer: ConvLayer, words: npt.NDArray[np.int32], weight: Sequence[npt.NDArray[Any]] = ()
) -> Scaling:
    """The cheapest one that does for a layer.

    Parameters
    ----------
    layer
        The layer.
    words
        Its quantisation words, int32 (rows, 4).
    weight
        The operands of its weight. Empty: computed at run time, and nothing is known of the sums.
    """
    if layer.out == "i32":
        return ANY  # sums are not scaled: ANY's bias costs fewer bytes to read
    if weight and (found := _single(layer, words, weight)) is not None:
        return found
    return BELOW_HALF if below_half.all_below_half(words) else ANY


def _single(
    layer: ConvLayer, words: npt.NDArray[np.int32], weight: Sequence[npt.NDArray[Any]]
) -> Scaling | None:
    """By a float32 multiply-add, if that is the same for all sums that the layer's weight can give."""
    own = words[: layer.out_channels]
    fields = unpack_qp(own, layer.out_dtype)
    if (fields["lo"] < fields["zp"]).any():
        return None  # there is hardly ever one where roundings of both signs are kept: the weight is not read
    sums = accumulator_range(weight_of(layer, weight).integer(), fields["bias"], layer.in_dtype)
    found = single(own, layer.out_dtype, *sums)
    if found is None:
        return None
    layout = fields_of(found)
    return Scaling(layout.block_bytes, partial(single_block, found), partial(SingleReader, layout))
