"""Integer modules of a network: real int8 weights, and random codes in SD form.

A fit changes which codes a weight has, never how many: energy and time of a parallel array count stored
rows and not their values. So the codes are random, in the pattern that is asked for, at a scale that keeps
the layer's float32 spread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm.decompose.basis8 import column_limit
from sd_tvm.recipe import Recipe
from sd_tvm.weights.rows import RowGeometry
from sd_tvm.weights.tensor import ROWS_KEPT, SDWeight, Weight, WeightForm

#: Bases of a codebook.
CODEBOOK = 64


def random_sd(
    rng: np.random.Generator, like: npt.NDArray[np.float32], form: WeightForm, weight_bits: int | None
) -> SDWeight:
    """SD form with random codes and bases, and the standard deviation of ``like`` (M, Cg, KH, KW)."""
    m, cg, kh, kw = like.shape
    geometry = RowGeometry((m, cg, kh, kw))
    r, s = geometry.rows, geometry.s
    coef = rng.choice(form.table.table, size=(m, r, s)).astype(np.int8)
    kept = ROWS_KEPT[form.pattern]
    for block in range(0, r, 16):
        width = min(16, r - block)
        order = rng.random((m, width)).argsort(axis=1).argsort(axis=1)
        coef[:, block : block + width][order >= kept] = 0
    codebook = form.basis_kind == "codebook"
    n_bases = min(CODEBOOK, m) if codebook else m * form.n_slices(geometry)
    limit = column_limit(form, s, weight_bits)
    largest = 30 if limit is None else limit // s
    basis = rng.integers(-largest, largest + 1, (n_bases, s, s)).astype(np.int8)
    ids = rng.integers(0, n_bases, m).astype(np.uint8) if codebook else None
    weight = SDWeight(geometry.shape, form, coef, basis, np.ones(m, np.float32), ids)
    spread = weight.integer().reshape(m, -1).std(axis=1)
    target = like.reshape(m, -1).std(axis=1)
    scale = np.maximum(target, 1e-6) / np.maximum(spread, 1.0)
    return SDWeight(weight.shape, form, coef, basis, scale.astype(np.float32), ids)


@dataclass(frozen=True)
class IntegerModel:
    """An integer Relax module, and the bytes of the constants that its layers read.

    Attributes
    ----------
    module
        The module.
    weight_bytes
        Weights, bases, row indices and quantisation words as stored: what every run must read once.
    kinds
        How many layers with a weight are in SD form and in int8.
    """

    module: Any
    weight_bytes: int
    kinds: dict[str, int]

    def to_relax(self) -> Any:
        """The module."""
        return self.module


class Prepared:
    """A network imported, simplified and calibrated once; modules with any weights follow from it.

    Parameters
    ----------
    module, examples
        Torch module in evaluation mode, and its calibration inputs (N, ...).
    """

    def __init__(self, module: Any, examples: npt.NDArray[np.float32]) -> None:
        import torch

        from sd_tvm.frontends import load_model
        from sd_tvm.relay_passes import Calibrate
        from sd_tvm.relay_passes.pipeline import simplify

        mod = load_model(module, (torch.from_numpy(examples[:1]),))
        for step in simplify():
            mod = step(mod)
        calibrate: Any = Calibrate(examples, method="minmax")
        self._mod = calibrate(mod)

    def integer(self, recipe: Recipe) -> IntegerModel:
        """Integer module with a recipe's forms, random codes where the form is SD."""
        from sd_tvm.relay_passes import Decompose, Partition
        from sd_tvm.relay_passes._fit import fit_layer
        from sd_tvm.relay_passes._weights import weighted_layers

        rng = np.random.default_rng(0)
        layers = weighted_layers(self._mod)
        plans = recipe.plan([layer.info for layer in layers])
        weights: dict[str, Weight] = {}
        for layer in layers:
            plan = plans[layer.info.name]
            if plan.form is not None:
                weights[layer.info.name] = random_sd(rng, layer.array, plan.form, recipe.solver.weight_bits)
            else:
                weights[layer.info.name] = fit_layer(layer, plan, recipe, None)
        steps: list[Any] = [Decompose(weights=weights), Partition()]
        mod = self._mod
        for step in steps:
            mod = step(mod)
        sd = sum(isinstance(w, SDWeight) for w in weights.values())
        return IntegerModel(mod, _constants(mod), {"SD": sd, "int8": len(weights) - sd})


def _constants(mod: Any) -> int:
    from sd_tvm._tvm import ir, relax
    from sd_tvm.relay_passes._rewrite import constant
    from sd_tvm.schedules.ops import LAYER_ATTR

    total = 0

    def visit(expr: Any) -> None:
        nonlocal total
        if not isinstance(expr, relax.Call) or getattr(expr.op, "name", "") != "relax.call_tir":
            return
        func = mod[expr.args[0]] if isinstance(expr.args[0], ir.GlobalVar) else None
        if func is not None and func.attrs is not None and LAYER_ATTR in func.attrs:
            arrays = (constant(a) for a in expr.args[1].fields)
            total += sum(a.nbytes for a in arrays if a is not None)

    relax.analysis.post_order_visit(mod["main"], visit)
    return total
