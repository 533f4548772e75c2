"""Plain and row-sparse integers of few bits, fitted by the solver of SD form: the peers at equal bytes.

The basis is fixed to the identity, so a filter is its scale times integers. All else is that of
:func:`sd_tvm.decompose.calibrated.fit_calibrated`: the target fitted to the float32 outputs, error
feedback, coordinate descent, and the scale refitted (where SD form refits its basis) in the metric of the
inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm.calibration.sequential import fit_int8
from sd_tvm.decompose.basis8 import guard_scales
from sd_tvm.decompose.calibrated import (
    DAMPING,
    RIDGE,
    _damp,
    _row_energy,
    check_moments,
    wanted_weight,
)
from sd_tvm.decompose.fit import keep_rows
from sd_tvm.decompose.search import Levels, make_levels
from sd_tvm.decompose.weighted import F64, Problem, descend, feedback
from sd_tvm.recipe import LayerPlan, Solver
from sd_tvm.relay_passes._weights import WeightedLayer
from sd_tvm.weights.rows import ROWS_PER_BLOCK, RowGeometry
from sd_tvm.weights.tensor import ROWS_KEPT, RawWeight, Weight, WeightForm

PASSES = 2
#: Bits of the integers that an alphabet stands for in a peer's recipe.
WIDTHS = {"two-term": 4, "levels7": 3, "ternary": 2}


@dataclass(frozen=True)
class Width:
    """Integers of a width: all two's complement numbers of so many bits."""

    bits: int

    @property
    def values(self) -> npt.NDArray[np.float32]:
        """The levels."""
        half = 2 ** (self.bits - 1)
        return np.arange(-half, half).astype(np.float32)

    def nbytes(self, geometry: RowGeometry, pattern: str) -> int:
        """Bytes of a weight: codes, row indices as SD form has them, one float32 scale a filter."""
        m, per_row = geometry.shape[0], geometry.s * self.bits
        if pattern == "16:16":
            bits = int(np.prod(geometry.shape)) * self.bits
        else:
            keep = ROWS_KEPT[pattern]
            blocks = -(-geometry.rows // ROWS_PER_BLOCK)
            bits = m * blocks * (keep * per_row + min(4 * keep, ROWS_PER_BLOCK))
        return -(-bits // 8) + 4 * m


def fit_integers(layer: WeightedLayer, plan: LayerPlan, hessian: F64, cross: F64, solver: Solver) -> Weight:
    """Weight of a layer: int8, or int4 in the pattern of its plan."""
    if plan.form is None:
        return fit_int8(layer, hessian, cross, solver.strengths(RIDGE, DAMPING)[0])
    return fit_width(layer, plan.form, hessian, cross, solver, width_of(plan.form))


def width_of(form: WeightForm) -> Width:
    """The width that a form of a peer's recipe stands for, by its alphabet."""
    return Width(WIDTHS[form.alphabet])


def fit_width(
    layer: WeightedLayer, form: WeightForm, hessian: F64, cross: F64, solver: Solver, width: Width
) -> RawWeight:
    """Integers of few bits in the container of int8, which executes; bytes are counted by the width."""
    geometry = layer.info.geometry
    m, groups, s = geometry.shape[0], len(hessian), geometry.s
    h = check_moments(geometry, hessian, cross)
    flat = geometry.to_rows(layer.array.astype(np.float64)).reshape(groups, m // groups, -1)
    ridge, damping = solver.strengths(RIDGE, DAMPING)
    target = wanted_weight(flat, h, cross.reshape(flat.shape), ridge)
    damped = _damp(h, damping)
    rows = target.reshape(m, geometry.rows, s)
    keep = keep_rows(_row_energy(rows, damped, groups), form)
    levels = make_levels(width.values)
    problem = Problem(damped, target, np.zeros(geometry.rows, np.int64), keep, levels, s)
    kept = (rows * keep[:, :, None]).astype(np.float32)
    scale, coef = _first(kept, levels)
    best, best_loss = (coef, scale), problem.loss(coef, _basis(scale, s))
    for i in range(2 * PASSES):
        coef = feedback(problem, _basis(scale, s)) if i < PASSES else descend(problem, coef, _basis(scale, s))
        scale = _refit(problem, coef, scale)
        if i >= PASSES:
            coef = descend(problem, coef, _basis(scale, s))
        loss = problem.loss(coef, _basis(scale, s))
        if loss < best_loss:
            best, best_loss = (coef, scale), loss
    values = geometry.from_rows(best[0].astype(np.float32))
    return RawWeight(np.rint(values).astype(np.int8), guard_scales(best[1]))


def _first(rows: npt.NDArray[np.float32], levels: Levels) -> tuple[F64, F64]:
    """Scales (M,) of least error among some, and the nearest integers (M, R, S)."""
    top = np.maximum(np.abs(rows).max(axis=(1, 2)), 1e-30) / levels.values.max()
    best, scale = np.full(len(rows), np.inf), top.copy()
    for factor in np.linspace(0.35, 1.05, 15):
        trial = (top * factor)[:, None, None]
        error = ((levels.nearest(rows / trial) * trial - rows) ** 2).sum(axis=(1, 2))
        scale = np.where(error < best, trial[:, 0, 0], scale)
        best = np.minimum(best, error)
    return scale.astype(np.float64), levels.nearest(rows / scale[:, None, None]).astype(np.float64)


def _basis(scale: F64, s: int) -> F64:
    """Scale times identity, (M, 1, S, S)."""
    return np.asarray(scale[:, None, None, None] * np.eye(s))


def _refit(problem: Problem, coef: F64, old: F64) -> F64:
    """The scale of least output error of each filter; the old one where it would not be positive."""
    c = coef.reshape(problem.target.shape)
    moved: Any = c @ problem.hessian
    quad = (moved * c).sum(axis=2).reshape(-1)
    line = (moved * problem.target).sum(axis=2).reshape(-1)
    return np.where((quad > 0) & (line > 0), line / np.where(quad > 0, quad, 1), old)
