"""Fitting one layer's weight in the form that its plan says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm.decompose.basis8 import guard_scales
from sd_tvm.decompose.fit import fit as fit_sd
from sd_tvm.errors import RecipeError
from sd_tvm.recipe import LayerPlan, Recipe
from sd_tvm.relay_passes._weights import WeightedLayer
from sd_tvm.weights.tensor import RawWeight, Weight

INT8_MAX = 127


def quantize_int8(array: npt.NDArray[np.float32]) -> RawWeight:
    """float32 (M, Cg, KH, KW) in int8, one symmetric scale a filter."""
    top = np.abs(array).reshape(array.shape[0], -1).max(axis=1)
    scale = guard_scales(top / INT8_MAX)
    values = np.rint(array / scale.astype(np.float64)[:, None, None, None])
    return RawWeight(np.clip(values, -INT8_MAX, INT8_MAX).astype(np.int8), scale)


def fit_layer(
    layer: WeightedLayer, plan: LayerPlan, _recipe: Recipe, _moments: Mapping[str, Any] | None
) -> Weight:
    """Weight of a layer in the form that its plan says (``sd`` or ``int8``).

    Raises
    ------
    RecipeError
        If the weight is not finite.
    """
    if not np.isfinite(layer.array).all():
        raise RecipeError(
            f"the weight of {layer.info.name!r} has values that are not finite",
            expected="finite float32",
            fix="check the trained model",
        )
    if plan.kind == "int8" or plan.form is None:
        return quantize_int8(layer.array)
    return fit_sd(layer.array, plan.form, n_bases=max(plan.n_bases, 1))
