"""What a plan takes and gives: facts about a layer, and the decision."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from sd_tvm.errors import RecipeError
from sd_tvm.weights.rows import RowGeometry
from sd_tvm.weights.tensor import WeightForm

Kind = Literal["sd", "int8", "skip"]
Op = Literal["conv2d", "conv1d", "depthwise", "dense"]


@dataclass(frozen=True)
class LayerInfo:
    """What a plan has to know of a layer.

    Attributes
    ----------
    name, op
        Name, and ``conv2d`` | ``conv1d`` | ``depthwise`` | ``dense``.
    shape
        Weight shape: (M, C), (M, Cg, K) or (M, Cg, KH, KW).
    groups
        Convolution groups.
    """

    name: str
    op: Op
    shape: tuple[int, ...]
    groups: int = 1

    @property
    def n_weights(self) -> int:
        """Weights of the layer, bias not included."""
        return math.prod(self.shape)

    @property
    def geometry(self) -> RowGeometry:
        """Row view of the weight as (M, Cg, KH, KW)."""
        if len(self.shape) == 2:
            return RowGeometry((self.shape[0], self.shape[1], 1, 1))
        if len(self.shape) == 3:
            return RowGeometry((self.shape[0], self.shape[1], 1, self.shape[2]))
        if len(self.shape) == 4:
            return RowGeometry((self.shape[0], self.shape[1], self.shape[2], self.shape[3]))
        raise RecipeError(
            f"layer {self.name!r} has a weight of shape {self.shape}",
            expected="2, 3 or 4 dimensions",
            fix="exclude the layer from the plan",
        )


@dataclass(frozen=True)
class LayerPlan:
    """What becomes of a layer, and why.

    Attributes
    ----------
    kind, form, n_bases
        The decision; form and number of bases for ``sd`` only (None, 0).
    rule
        Index of the rule that won, None when none matched.
    reason
        One sentence for reports.
    sd_bytes, int8_bytes
        Bytes of the layer in a file, scales included, in the rule's SD form (None without one) and in int8.
    """

    kind: Kind
    form: WeightForm | None
    n_bases: int
    rule: int | None
    reason: str
    sd_bytes: int | None
    int8_bytes: int
