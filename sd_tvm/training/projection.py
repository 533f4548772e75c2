"""The nearest compressed weight to a float one, with everything fitted or with only the codes searched."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm.decompose.fit import fit, from_slices, keep_rows, real_bases, to_slices
from sd_tvm.decompose.search import levels_of, search_codes
from sd_tvm.decompose.select import quantize_raw
from sd_tvm.recipe import LayerPlan
from sd_tvm.weights.tensor import ROWS_KEPT, RawWeight, SDWeight, Weight, WeightForm

Array = npt.NDArray[Any]
#: Alternations of a fit in training: it is repeated, and the weights move anyway.
ROUNDS = 3


def form_with_rows(form: WeightForm, rows: int | None) -> WeightForm:
    """The form with at least so many rows kept of 16, if its pattern is N:16; None: the form itself."""
    own = ROWS_KEPT.get(form.pattern)
    if own is None or rows is None or rows <= own:
        return form
    pattern = next(p for p, n in ROWS_KEPT.items() if n == rows)
    return replace(form, pattern=pattern)  # type: ignore[arg-type]  # a key of ROWS_KEPT


def fit_anew(weight: Array, plan: LayerPlan, rows: int | None = None) -> Weight:
    """Compressed weight of a float one (M, Cg, KH, KW), bases, scales and codes."""
    if plan.form is None:
        return quantize_raw(weight)
    return fit(weight, form_with_rows(plan.form, rows), rounds=ROUNDS, n_bases=max(plan.n_bases, 1))


def search_again(weight: Array, current: Weight) -> Weight:
    """The compressed weight that is nearest with the bases and scales of ``current``.

    Which rows an N:16 or shared pattern keeps is decided anew, by their energy in ``weight``. A projection:
    what ``current`` rebuilds gives ``current`` again.
    """
    if isinstance(current, RawWeight):
        values = np.rint(weight / current.scale.astype(np.float64)[:, None, None, None])
        return replace(current, values=np.clip(values, -127, 127).astype(np.int8))
    form = current.form
    rows = current.geometry.to_rows(np.asarray(weight, dtype=np.float32))
    keep = keep_rows((rows.astype(np.float64) ** 2).sum(axis=2), form)
    rows = rows * keep[:, :, None]
    if form.basis_kind == "slice" or form.pattern == "16:16":
        return replace(current, coef=_search(rows, current.coef, current))
    # Only kept rows are searched; filters with fewer take dropped ones along, whose codes are zero.
    order = np.argsort(~keep, axis=1, kind="stable")[:, : int(keep.sum(axis=1).max())]
    order = order[:, :, None]
    found = _search(np.take_along_axis(rows, order, 1), np.take_along_axis(current.coef, order, 1), current)
    coef = np.zeros_like(current.coef)
    np.put_along_axis(coef, order, found, axis=1)
    return replace(current, coef=coef)


def _search(rows: Array, now: npt.NDArray[np.int8], current: SDWeight) -> npt.NDArray[np.int8]:
    s = rows.shape[2]
    basis = real_bases(current).reshape(-1, s, s).astype(np.float32)
    sliced, kept = to_slices(rows, current.form), to_slices(now, current.form).astype(np.float32)
    kept = kept * (sliced != 0).any(axis=2, keepdims=True)  # a dropped row has no codes
    coef = search_codes(sliced, basis, levels_of(current.form.alphabet), current=kept)
    return from_slices(coef, rows.shape).astype(np.int8)


def codes_of(weight: Weight) -> npt.NDArray[np.int8]:
    """What moves in training: coefficients, or int8 values."""
    return weight.values if isinstance(weight, RawWeight) else weight.coef
