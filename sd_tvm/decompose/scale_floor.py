"""Raising the scale of nearly dead filters, so that their bias fits an integer.

The bias of a filter is stored in units of its scale. Batch norm leaves filters whose weights are next to
nothing and whose bias is not; in units of such weights the bias would leave int32. Their scale is raised and
their weights are rounded to it, which changes the output by a vanishing part of the bias.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm.weights.tensor import RawWeight, SDWeight, Weight

#: Largest integer bias that a raised scale aims at: a quarter of int32, the rest is for the weights.
MAX_BIAS = 1 << 29


def least_scale(bias: npt.NDArray[Any], input_scale: float) -> npt.NDArray[np.float64]:
    """Smallest scale (M,) at which each bias (M,) is at most MAX_BIAS units of scale * input_scale."""
    return np.abs(bias.astype(np.float64)) / (input_scale * MAX_BIAS)


def raise_scales(weight: Weight, least: npt.NDArray[np.float64]) -> Weight:
    """Weight whose scales are at least ``least``, (M,); the others are untouched.

    int8 weights and bases of their own are rounded to the raised scale. Filters that share a codebook's
    bases cannot be: their coefficients become zero.
    """
    low = weight.scale < least
    if not low.any():
        return weight
    scale = np.where(low, least * (1 + 1e-6), weight.scale).astype(np.float32)
    ratio = np.where(low, weight.scale.astype(np.float64) / scale, 1.0)
    if isinstance(weight, RawWeight):
        values = np.rint(weight.values * ratio[:, None, None, None])
        return RawWeight(values.astype(np.int8), scale)
    return _raise_sd(weight, low, ratio, scale)


def _raise_sd(
    weight: SDWeight,
    low: npt.NDArray[np.bool_],
    ratio: npt.NDArray[np.float64],
    scale: npt.NDArray[np.float32],
) -> SDWeight:
    if weight.form.basis_kind == "codebook":
        return replace(weight, coef=np.where(low[:, None, None], np.int8(0), weight.coef), scale=scale)
    per_filter = weight.basis.shape[0] // weight.shape[0]
    factor = np.repeat(ratio, per_filter)[:, None, None]
    return replace(weight, basis=np.rint(weight.basis * factor).astype(np.int8), scale=scale)
