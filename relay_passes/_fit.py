"""Fitting one layer's weight in the form that its plan says."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sd_tvm._blas import one_blas_thread
from sd_tvm.calibration.moments import Moments
from sd_tvm.decompose.calibrated import DAMPING, RIDGE, fit_calibrated
from sd_tvm.decompose.fit import fit as fit_data_free
from sd_tvm.decompose.official import OfficialOptions, decompose_official
from sd_tvm.decompose.select import quantize_raw as quantize_int8
from sd_tvm.errors import RecipeError
from sd_tvm.recipe import LayerPlan, Recipe
from sd_tvm.relay_passes._weights import WeightedLayer
from sd_tvm.relay_passes.check_finite import not_finite
from sd_tvm.weights.rows import RowGeometry
from sd_tvm.weights.tensor import SDWeight, Weight, WeightForm

__all__ = ["fit_layer", "quantize_int8"]


@one_blas_thread
def fit_layer(
    layer: WeightedLayer, plan: LayerPlan, recipe: Recipe, moments: Mapping[str, Moments] | None
) -> Weight:
    """Weight of a layer in the form that its plan says (``sd`` or ``int8``).

    Parameters
    ----------
    layer, plan
        The layer, and what becomes of it.
    recipe
        Its solver says by which algorithm.
    moments
        Second moments of the layers' inputs by variable or layer name; a layer without any is fitted from
        its weight alone. The official algorithm knows no data.

    Raises
    ------
    NumericsError
        If the weight is not finite.
    RecipeError
        If the official algorithm does not know the form.
    """
    if not np.isfinite(layer.array).all():
        raise not_finite(layer.info.name, "weight", layer.array)
    if plan.kind == "int8" or plan.form is None:
        return quantize_int8(layer.array)
    if recipe.solver.method == "official":
        return _official(layer, plan.form, recipe.solver.iterations)
    found = moments.get(layer.var, moments.get(layer.info.name)) if moments is not None else None
    n_bases, bits = max(plan.n_bases, 1), recipe.solver.weight_bits
    if found is not None:
        _, damping = recipe.solver.strengths(RIDGE, DAMPING)
        return fit_calibrated(
            layer.array, plan.form, found.xx, damping=damping, n_bases=n_bases, weight_bits=bits
        )
    return fit_data_free(layer.array, plan.form, n_bases=n_bases, weight_bits=bits)


def _official(layer: WeightedLayer, form: WeightForm, iterations: int) -> SDWeight:
    if form.pattern not in ("16:16", "shared") or form.basis_kind == "codebook":
        raise RecipeError(
            f"{layer.info.name!r}: {form.pattern} with bases by {form.basis_kind} and the official solver",
            expected="pattern '16:16' or 'shared', bases by filter or slice",
            fix="choose such a form, or solver 'alternating'",
        )
    rows, pruned = RowGeometry(layer.info.geometry.shape).rows, 0.0
    if form.pattern == "shared":
        pruned = max(0.0, (rows - form.kept_rows) / rows - 1e-9)  # just below: the solver rounds up
    return decompose_official(
        layer.array,
        options=OfficialOptions(iterations=iterations),
        alphabet=form.alphabet,
        slice_rows=form.slice_rows,
        pruned_fraction=pruned,
        group_filters=form.group_filters or 32,
    )
