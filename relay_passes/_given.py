"""Compressed weights that a model brings along, from retraining, in the place of its float ones."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm.calibration.interpreter import Interpreter
from sd_tvm.calibration.sequential import bias_constant, biases_of
from sd_tvm.decompose.basis8 import guard_scales
from sd_tvm.decompose.scale_floor import least_scale, raise_scales
from sd_tvm.errors import NumericsError, RecipeError
from sd_tvm.relay_passes._rewrite import IRModule
from sd_tvm.relay_passes._weights import WeightedLayer, weighted_layers
from sd_tvm.relay_passes.calibrate import activation_qparams
from sd_tvm.weights.tensor import RawWeight, SDWeight, Weight

#: How far a float32 weight may be from its multiple of the given one, relative to its norm: rounding only.
TOLERANCE = 1e-5
F64 = npt.NDArray[np.float64]


def place(
    layers: Sequence[WeightedLayer],
    weights: Mapping[str, Weight],
    least: Mapping[str, F64] | None = None,
) -> tuple[dict[str, Weight], dict[str, str], list[str]]:
    """Given weights with the scales that the graph's layers have.

    Folded batch norm multiplies each filter by a factor; it goes into the filter's scale, and a negative
    factor changes the sign of the filter's codes (every alphabet is symmetric). Bases stay.

    Parameters
    ----------
    layers
        Layers of the simplified graph, with float32 weights.
    weights
        Layer name -> weight as the model had it before anything was folded. A layer that runs several times
        (``conv``, ``conv_1``) takes one weight.
    least
        Layer name -> smallest scales (M,) at which its bias fits an integer; see
        :mod:`sd_tvm.decompose.scale_floor`.

    Returns
    -------
    tuple
        Weights by the graph's layer names; notes by the same names on layers whose codes could not all be
        kept; and the given names that no compressible layer of the graph has.

    Raises
    ------
    RecipeError
        If no name is a layer of the graph.
    NumericsError
        If a layer's float weight is not a multiple, filter by filter, of what the given one rebuilds.
    """
    found: dict[str, Weight] = {}
    notes: dict[str, str] = {}
    used = set()
    for layer in layers:
        name = layer.info.name
        key = name if name in weights else re.sub(r"_\d+$", "", name)
        if key not in weights:
            continue
        used.add(key)
        weight = _rescaled(name, layer.array, weights[key])
        raised = raise_scales(weight, (least or {}).get(name, np.zeros(len(weight.scale))))
        changed = int((raised.integer() != weight.integer()).any(axis=(1, 2, 3)).sum())
        if changed:
            notes[name] = f"{changed} filters next to zero were rounded, so that their bias fits an integer"
        found[name] = raised
    if not used:
        raise RecipeError(
            f"weights of {sorted(weights)[:5]}, which are no layers of the imported network",
            expected=f"names among {[layer.info.name for layer in layers][:8]}",
            fix="give the weights of this very model",
        )
    return found, notes, sorted(set(weights) - used)


def least_scales(mod: IRModule) -> dict[str, F64]:
    """Layer name -> smallest scales (M,) at which its bias fits an integer; calibrated layers with a bias."""
    steps = Interpreter(mod).steps
    layers = {layer.var: layer for layer in weighted_layers(mod) if layer.function == "main"}
    qparams, values = activation_qparams(mod), {step.name: step.value for step in steps}
    found = {}
    for var, add in biases_of(steps, layers):
        scale = qparams.get(str(values[var].args[0].name))
        if scale is not None:
            bias = bias_constant(values[add].args[1]).reshape(-1)
            found[layers[var].info.name] = least_scale(bias, scale.scale)
    return found


def _rescaled(name: str, array: npt.NDArray[Any], weight: Weight) -> Weight:
    """The weight whose filters are multiplied as those of the graph's float array are."""
    if array.shape != weight.shape:
        raise NumericsError(
            f"{name!r}: the given weight has shape {weight.shape}, the network's {array.shape}",
            expected="the weight of this layer",
            fix="give the weights of this very model",
        )
    want = array.reshape(len(array), -1).astype(np.float64)
    have = weight.integer().reshape(len(array), -1) * weight.scale.astype(np.float64)[:, None]
    square = (have * have).sum(axis=1)
    factor = np.where(square > 0, (want * have).sum(axis=1) / np.where(square > 0, square, 1.0), 1.0)
    off = np.sqrt(((want - factor[:, None] * have) ** 2).sum(axis=1))
    if (off > TOLERANCE * np.sqrt((want * want).sum(axis=1)) + 1e-30).any():
        raise NumericsError(
            f"{name!r}: the network's weight is no multiple of the given one, filter by filter",
            expected="the same weight, but for one factor a filter",
            fix="compress the model while it holds the rebuilt weights, as Handle.export does",
        )
    sign = np.where(factor < 0, -1, 1).astype(np.int8)
    sign[factor == 0] = 0  # batch norm multiplies the filter by zero
    wanted = np.abs(factor) * weight.scale.astype(np.float64)
    scale = wanted.astype(np.float32)
    turned = _turned(weight, sign, scale)
    # scales of nothing, and vanishing ones, are raised like everywhere
    return raise_scales(replace(turned, scale=np.maximum(scale, np.finfo(np.float32).tiny)), _floor(scale))


def _floor(scale: npt.NDArray[np.float32]) -> F64:
    guarded = guard_scales(scale).astype(np.float64)
    return np.asarray(np.where(guarded > scale, guarded, 0.0))


def _turned(weight: Weight, sign: npt.NDArray[np.int8], scale: npt.NDArray[np.float32]) -> Weight:
    if isinstance(weight, RawWeight):
        return RawWeight(weight.values * sign[:, None, None, None], scale)
    coef: SDWeight = replace(weight, coef=weight.coef * sign[:, None, None], scale=scale)
    return coef
