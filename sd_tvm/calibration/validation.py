"""Ridge and damping of a layer by cross-validation: fit on one half of the examples, judge on the other.

Over-fitting the calibration images is what a calibrated fit suffers from (docs/accuracy.md); how much a
layer can take depends on its inputs. The ridge is judged by the target itself, before any rounding, and the
damping by the fitted codes, with the ridge chosen. Both halves take turns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm.calibration.gap import too_small
from sd_tvm.calibration.moments import Moments
from sd_tvm.calibration.residual import left_over, per_position, wanted_array
from sd_tvm.decompose.calibrated import DAMPING, RIDGE
from sd_tvm.recipe import LayerPlan, Solver
from sd_tvm.relay_passes._weights import WeightedLayer

F64 = npt.NDArray[np.float64]
#: Fits a layer: (layer, plan, second moments, cross moments, solver).
Fit = Callable[[WeightedLayer, LayerPlan, F64, F64, Solver], Any]
FOLDS = 2
#: What is tried, the values of a recipe that says nothing among them.
RIDGES = (0.01, 0.03, 0.1, 0.3, RIDGE, 3.0, 10.0, 100.0)
DAMPINGS = (0.01, 0.03, DAMPING, 0.3)


def validated(
    layer: WeightedLayer, plan: LayerPlan, folds: Sequence[Moments], solver: Solver, fit: Fit, *, biased: bool
) -> tuple[Solver, dict[str, Any]]:
    """The solver with numbers for ``auto``, and what the report says of them.

    Parameters
    ----------
    layer, plan
        The layer and its form.
    folds
        Moments with a reference, by part of the examples. Of one part nothing is to be learnt: the values of
        a recipe that says nothing are taken, with a warning.
    solver
        The recipe's.
    fit
        Fits the layer.
    biased
        Whether the layer has a bias, which takes the mean of the error.

    Returns
    -------
    solver, facts
        ``ridge``, ``damping``; ``held_out_error`` and ``fit_error``, squared errors of the fits of one part
        on the other and on itself, over the variance of the output; ``warning`` where they are far apart.
    """
    if len(folds) < FOLDS:
        ridge = RIDGE if solver.ridge in ("auto", None) else solver.ridge
        damping = DAMPING if solver.damping in ("auto", None) else solver.damping
        chosen = solver.model_copy(update={"ridge": ridge, "damping": damping})
        return chosen, {"warning": "one calibration example: nothing to cross-validate the fit with"}
    if solver.ridge == "auto":
        losses = [sum(_target_errors(layer, folds, ridge, biased=biased)) for ridge in RIDGES]
        solver = solver.model_copy(update={"ridge": RIDGES[int(np.argmin(losses))]})
    tried = [solver]
    if solver.damping == "auto":
        dampings = DAMPINGS if plan.kind == "sd" else (DAMPING,)
        tried = [solver.model_copy(update={"damping": damping}) for damping in dampings]
    found = [np.mean(list(_fit_errors(layer, plan, folds, one, fit, biased=biased)), axis=0) for one in tried]
    best = int(np.argmin([held_out for held_out, _ in found]))
    held_out, fitted = map(float, found[best])
    ridge, damping = tried[best].strengths(RIDGE, DAMPING)
    facts: dict[str, Any] = {"ridge": ridge, "damping": damping}
    facts |= {"held_out_error": round(held_out, 6), "fit_error": round(fitted, 6)}
    small = too_small("this width", fitted, held_out) if plan.kind == "sd" else None
    if small:
        facts["warning"] = small
    return tried[best], facts


def _others(folds: Sequence[Moments]) -> Iterator[tuple[Moments, Moments]]:
    """(part to fit, part to judge by)."""
    yield folds[0], folds[1]
    yield folds[1], folds[0]


def _target_errors(
    layer: WeightedLayer, folds: Sequence[Moments], ridge: float, *, biased: bool
) -> Iterator[float]:
    for own, other in _others(folds):
        target = wanted_array(layer.array, *per_position(own, centred=biased), ridge)
        yield left_over(target, other, biased=biased)[0]


def _fit_errors(
    layer: WeightedLayer, plan: LayerPlan, folds: Sequence[Moments], solver: Solver, fit: Fit, *, biased: bool
) -> Iterator[tuple[float, float]]:
    """Errors on the other part, and on the fitted one."""
    for own, other in _others(folds):
        weight = fit(layer, plan, *per_position(own, centred=biased), solver).dequantize()
        yield left_over(weight, other, biased=biased)[0], left_over(weight, own, biased=biased)[0]
