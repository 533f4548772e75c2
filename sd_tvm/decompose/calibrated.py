"""Activation-aware fit: the weight in SD form whose output is nearest on calibration data.

First the target: the weight that, on the inputs the compressed network really delivers, comes nearest to
the uncompressed layer's output (so each layer also corrects the error of those before it). Then codes and
bases for that target in the metric of the inputs (:mod:`sd_tvm.decompose.weighted`). Measured on
EfficientNet-Lite0 in ``docs/accuracy.md``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm.decompose.basis8 import column_limit, slice_of_rows
from sd_tvm.decompose.fit import N_BASES, RealFit, fit_rows, geometry_of, keep_rows, real_bases, round_basis
from sd_tvm.decompose.search import levels_of
from sd_tvm.decompose.weighted import F64, Problem, descend, diagonal_blocks, feedback, refit
from sd_tvm.errors import CalibrationError
from sd_tvm.weights.rows import RowGeometry
from sd_tvm.weights.tensor import SDWeight, WeightForm

Array = npt.NDArray[Any]
#: Chosen on EfficientNet-Lite0 with 48 views of 16 photographs that have little in common with ImageNet
#: (docs/accuracy.md); with few calibration images, less of either over-fits.
DAMPING = 0.1
RIDGE = 1.0


def fit_calibrated(
    weight: Array,
    form: WeightForm,
    hessian: F64,
    *,
    cross: F64 | None = None,
    damping: float = DAMPING,
    ridge: float = RIDGE,
    n_bases: int = N_BASES,
    passes: int = 2,
    weight_bits: int | None = None,
) -> SDWeight:
    """Weight in SD form that keeps the layer's output.

    Parameters
    ----------
    weight
        Float (M, Cg, KH, KW).
    form
        Any weight form.
    hessian
        float64 (G, K, K), K = R*S: second moments of each group's inputs in the element order of
        :meth:`RowGeometry.to_rows` (row, then element; padding elements are zero), summed or
        averaged, centred when the bias is corrected afterwards (:mod:`sd_tvm.calibration.moments`).
    cross
        float64 (M, K): moments of the wanted outputs (without bias) with the same inputs, normalised like
        hessian. None: the wanted output is that of the weight itself.
    damping
        Added to the diagonal of hessian, relative to its mean, for the codes.
    ridge
        The same for the target that cross asks for: how strongly it is held at the weight.
    n_bases
        Bases of a codebook.
    passes
        Rounds of error feedback, and of coordinate descent.
    weight_bits
        Rebuilt weights fit in so many bits, sign included; None: any number.

    Raises
    ------
    FormatError
        If the form is invalid for the shape.
    RecipeError
        If so few weight_bits leave next to nothing of a basis.
    NumericsError
        If the weight is not finite.
    CalibrationError
        If the moments have another shape, are not finite, not symmetric, or negative on the diagonal.
    """
    geometry = geometry_of(weight, form)
    limit = column_limit(form, geometry.s, weight_bits)
    h, groups = check_moments(geometry, hessian, cross), hessian.shape[0]
    m, k = geometry.shape[0], geometry.rows * geometry.s
    flat = geometry.to_rows(np.asarray(weight, dtype=np.float64)).reshape(groups, m // groups, k)
    target = flat
    if cross is not None:
        target = wanted_weight(flat, h, cross.reshape(groups, m // groups, k), ridge)
    damped = _damp(h, damping)
    rows = target.reshape(m, geometry.rows, geometry.s)
    keep = keep_rows(_row_energy(rows, damped, groups), form)
    problem = Problem(
        damped, target, slice_of_rows(form, geometry), keep, levels_of(form.alphabet), geometry.s
    )
    start = fit_rows((rows * keep[:, :, None]).astype(np.float32), form, n_bases=n_bases)
    coef = start.coef.astype(np.float64)
    fitted = _rounded(coef, start.basis.astype(np.float64), start.ids, geometry, form, limit)
    best, best_loss = fitted, problem.loss(coef, real_bases(fitted))
    for i in range(2 * passes):
        basis = real_bases(fitted)
        coef = feedback(problem, basis) if i < passes else descend(problem, coef, basis)
        fitted = _rounded(coef, refit(problem, coef, basis, start.ids), start.ids, geometry, form, limit)
        if i >= passes:
            coef = descend(problem, coef, real_bases(fitted))
            fitted = replace(fitted, coef=coef.astype(np.int8))
        loss = problem.loss(coef, real_bases(fitted))
        if loss < best_loss:
            best, best_loss = fitted, loss
    return best


def wanted_weight(flat: F64, hessian: F64, cross: F64, ridge: float) -> F64:
    """Weight (G, M/G, K) nearest to the wanted outputs, held at flat by a ridge.

    Minimises ||Y - W X||^2 + lambda ||W - flat||^2, lambda = ridge * mean diagonal of each group's hessian.
    """
    strength = ridge * _mean_diagonal(hessian)
    left = hessian + strength[:, None, None] * np.eye(hessian.shape[1])
    right = cross + strength[:, None, None] * flat
    return np.ascontiguousarray(np.linalg.solve(left, right.transpose(0, 2, 1)).transpose(0, 2, 1))


def check_moments(geometry: RowGeometry, hessian: Array, cross: Array | None) -> F64:
    """The second moments, symmetric, if they fit the layer.

    Raises
    ------
    CalibrationError
        If they do not.
    """
    m, k = geometry.shape[0], geometry.rows * geometry.s
    fix = "collect the moments of this layer's inputs in row order"
    if hessian.ndim != 3 or hessian.shape[1:] != (k, k) or m % hessian.shape[0]:
        raise CalibrationError(
            f"second moments of shape {hessian.shape}",
            expected=f"(groups, {k}, {k}), groups dividing {m}",
            fix=fix,
        )
    if cross is not None and cross.shape != (m, k):
        raise CalibrationError(f"cross moments of shape {cross.shape}", expected=f"({m}, {k})", fix=fix)
    h = hessian.astype(np.float64)
    if not np.isfinite(h).all() or (cross is not None and not np.isfinite(cross).all()):
        raise CalibrationError(
            "moments are not finite", expected="finite inputs", fix="check the calibration data"
        )
    diagonal = np.einsum("gkk->gk", h)
    tolerance = 1e-6 * (np.abs(diagonal).max() or 1.0)
    if diagonal.min() < -tolerance or np.abs(h - h.transpose(0, 2, 1)).max() > tolerance:
        raise CalibrationError("second moments are not those of real inputs", expected="X X^T", fix=fix)
    return np.asarray((h + h.transpose(0, 2, 1)) / 2)


def _mean_diagonal(hessian: F64) -> F64:
    """Mean of the live diagonal of every group (1 for a group without inputs), (G,)."""
    diagonal = np.einsum("gkk->gk", hessian)
    live = diagonal > 1e-9 * diagonal.max(axis=1, keepdims=True)
    mean = np.where(live, diagonal, 0).sum(axis=1) / np.maximum(live.sum(axis=1), 1)
    return np.asarray(np.where(mean > 0, mean, 1.0))


def _damp(hessian: F64, damping: float) -> F64:
    """Positive definite second moments: dead inputs count a little, directions never seen too."""
    strength = max(damping, 1e-6) * _mean_diagonal(hessian)
    return np.asarray(hessian + strength[:, None, None] * np.eye(hessian.shape[1]))


def _row_energy(rows: F64, hessian: F64, groups: int) -> F64:
    """Energy of every row's own part of the output, w_r H_rr w_r^T, (M, R)."""
    m, r, s = rows.shape
    blocks = diagonal_blocks(hessian, s)
    by_group = rows.reshape(groups, m // groups, r, s)
    moved = np.einsum("gmrs,grst->gmrt", by_group, blocks, optimize=True)
    return np.asarray((moved * by_group).sum(axis=3).reshape(m, r))


def _rounded(
    coef: F64,
    basis: F64,
    ids: npt.NDArray[np.int64] | None,
    geometry: RowGeometry,
    form: WeightForm,
    limit: int | None,
) -> SDWeight:
    """Container of coefficients and 8-bit bases."""
    integers, scale, ids8 = round_basis(RealFit(coef, basis, ids), limit)
    return SDWeight(geometry.shape, form, coef.astype(np.int8), integers, scale, ids8)
