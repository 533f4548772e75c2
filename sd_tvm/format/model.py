"""What a ``.sd`` file holds, as Python values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm.numerics.qparams import QParams
from sd_tvm.recipe import Recipe
from sd_tvm.weights.tensor import Weight

#: Version of the schema that this package writes; it reads this one and every earlier one.
SCHEMA_VERSION = 2


@dataclass(frozen=True)
class StoredModel:
    """A compressed model.

    Attributes
    ----------
    graph
        Neutral graph as JSON data.
    tensors
        float32 constants that stay as they are (biases, ...), by name.
    weights
        Quantised weights by layer name.
    activations
        Calibrated quantisation by value name; empty when the model was not calibrated.
    recipe
        Recipe the model was made with, None if unknown.
    report
        Rows of the partition report: flat JSON objects.
    versions
        Versions of what made the file (``{"sd-tvm": "0.1.0", ...}``).
    """

    graph: Mapping[str, Any]
    tensors: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    weights: dict[str, Weight] = field(default_factory=dict)
    activations: dict[str, QParams] = field(default_factory=dict)
    recipe: Recipe | None = None
    report: list[dict[str, Any]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
