"""Data-free fit of a weight in SD form: alternating code search and least squares for the basis.

Minimises ||W - scale * Ce . B|| filter by filter. Rows that the pattern drops are chosen by energy first,
then codes and bases alternate, then B is rounded to 8 bits and the codes are searched once more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm.decompose import native
from sd_tvm.decompose.basis8 import basis_unit, column_limit, guard_scales, quantize_basis
from sd_tvm.decompose.search import BRANCHES, EXACT, Levels, levels_of, search_codes
from sd_tvm.errors import NumericsError
from sd_tvm.weights.rows import ROWS_PER_BLOCK, RowGeometry
from sd_tvm.weights.tensor import ROWS_KEPT, SDWeight, WeightForm
from sd_tvm.weights.verify import MAX_CODEBOOK, check_form

Array = npt.NDArray[Any]
ROUNDS = 6
N_BASES = 16
_FIRST_STEPS = np.linspace(0.35, 1.05, 15)


@dataclass(frozen=True)
class RealFit:
    """A fit before its bases are rounded.

    ``coef`` (M, R, S), ``basis`` (M, n, S, S) as it acts, scale included, and ``ids`` (M,) for a codebook,
    where the bases of filters of one id differ by a factor only.
    """

    coef: Array
    basis: Array
    ids: npt.NDArray[np.int64] | None = None


def fit(
    weight: Array,
    form: WeightForm,
    *,
    rounds: int = ROUNDS,
    n_bases: int = N_BASES,
    weight_bits: int | None = None,
) -> SDWeight:
    """Weight in SD form, from the weight alone.

    Parameters
    ----------
    weight
        Float (M, Cg, KH, KW).
    form
        Any weight form.
    rounds
        Alternations of code search and basis refit.
    n_bases
        Bases of a codebook (at most M and 256); ignored for the other basis kinds.
    weight_bits
        Rebuilt weights fit in so many bits, sign included; None: any number.

    Raises
    ------
    FormatError
        If the form is invalid for the shape.
    NumericsError
        If the weight is not finite.
    RecipeError
        If so few weight_bits leave next to nothing of a basis.
    """
    geometry = geometry_of(weight, form)
    rows = geometry.to_rows(np.asarray(weight, dtype=np.float32))
    rows = rows * keep_rows((rows.astype(np.float64) ** 2).sum(axis=2), form)[:, :, None]
    real = fit_rows(rows, form, rounds=rounds, n_bases=n_bases)
    return finish(rows, real, geometry.shape, form, weight_bits)


def geometry_of(weight: Array, form: WeightForm) -> RowGeometry:
    """Row view of a weight whose shape, form and values are fit to use.

    Raises
    ------
    FormatError, NumericsError
        As :func:`fit`.
    """
    shape = tuple(int(n) for n in weight.shape)
    check_form(shape, form)  # type: ignore[arg-type]  # it refuses other lengths
    if not np.isfinite(weight).all():
        raise NumericsError(
            "the weight has values that are not finite",
            expected="finite float32",
            fix="check the trained model",
        )
    return RowGeometry(shape)  # type: ignore[arg-type]


def keep_rows(score: Array, form: WeightForm) -> npt.NDArray[np.bool_]:
    """Rows that a pattern keeps, bool (M, R), by largest score (M, R); ties keep the lowest rows."""
    m, rows = score.shape
    if form.pattern == "16:16":
        return np.ones((m, rows), dtype=bool)
    if form.pattern == "shared":
        keep = np.zeros((m, rows), dtype=bool)
        for first in range(0, m, form.group_filters):
            group = slice(first, first + form.group_filters)
            best = np.argsort(-score[group].sum(axis=0), kind="stable")[: form.kept_rows]
            keep[group, best] = True
        return keep
    padded = np.pad(score, ((0, 0), (0, -rows % ROWS_PER_BLOCK)), constant_values=-1.0)
    blocks = padded.reshape(m, -1, ROWS_PER_BLOCK)
    best = np.argsort(-blocks, axis=2, kind="stable")[:, :, : ROWS_KEPT[form.pattern]]
    kept = np.zeros(blocks.shape, dtype=bool)
    np.put_along_axis(kept, best, True, axis=2)
    return kept.reshape(m, -1)[:, :rows]


def fit_rows(rows: Array, form: WeightForm, *, rounds: int = ROUNDS, n_bases: int = N_BASES) -> RealFit:
    """Alternating fit of rows (M, R, S), float32, dropped ones zero already."""
    levels = levels_of(form.alphabet)
    sliced = to_slices(rows, form)
    coef, basis = native.fit_slices(sliced, levels, BRANCHES, _FIRST_STEPS, rounds)
    if form.basis_kind == "codebook":
        return _codebook(sliced, coef, basis, levels, rounds, min(n_bases, MAX_CODEBOOK))
    m, _, s = rows.shape
    basis = refit_basis(coef, sliced, basis)
    return RealFit(from_slices(coef, rows.shape), basis.reshape(m, -1, s, s))


def finish(
    rows: Array, real: RealFit, shape: tuple[int, int, int, int], form: WeightForm, weight_bits: int | None
) -> SDWeight:
    """Round the bases to 8 bits and search the codes for the rounded ones."""
    integers, scale, ids = round_basis(real, column_limit(form, rows.shape[2], weight_bits))
    fitted = SDWeight(shape, form, np.zeros(rows.shape, np.int8), integers, scale, ids)
    sliced = to_slices(rows, form)
    real_basis = real_bases(fitted).reshape(-1, *integers.shape[1:]).astype(np.float32)
    branches = EXACT if rows.shape[2] <= 3 else BRANCHES
    now = to_slices(real.coef, form).astype(np.float32)
    coef = search_codes(sliced, real_basis, levels_of(form.alphabet), branches, now)
    return replace(fitted, coef=from_slices(coef, rows.shape).astype(np.int8))


def round_basis(
    real: RealFit, limit: int | None
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32], npt.NDArray[np.uint8] | None]:
    """(8-bit bases, scales, ids) of a real fit; limit as in :func:`quantize_basis`."""
    if real.ids is None:
        integers, scale = quantize_basis(real.basis, limit)
        return integers, scale, None
    s = real.basis.shape[-1]
    size = basis_unit(real.basis, limit)
    n = int(real.ids.max()) + 1
    integers = np.zeros((n, s, s), dtype=np.int8)
    for k in range(n):
        members = np.flatnonzero(real.ids == k)
        if members.size:
            first = members[size[members].argmax()]
            integers[k] = np.rint(real.basis[first, 0] / (size[first] or 1.0))
    return integers, guard_scales(size), real.ids.astype(np.uint8)


def real_bases(fitted: SDWeight) -> Array:
    """Bases of every filter as they act, scale included: float64 (M, n, S, S)."""
    m, s = fitted.shape[0], fitted.geometry.s
    basis = fitted.basis.astype(np.float64)
    per_filter = basis[fitted.ids][:, None] if fitted.ids is not None else basis.reshape(m, -1, s, s)
    return np.asarray(per_filter * fitted.scale.astype(np.float64)[:, None, None, None])


def to_slices(rows: Array, form: WeightForm) -> Array:
    """(M, R, S) -> (M * n, rows of a slice, S), the last slice padded with zero rows."""
    if form.basis_kind != "slice":
        return rows
    _, r, s = rows.shape
    return np.pad(rows, ((0, 0), (0, -r % form.slice_rows), (0, 0))).reshape(-1, form.slice_rows, s)


def from_slices(sliced: Array, shape: tuple[int, ...]) -> Array:
    """Inverse of :func:`to_slices`; shape is (M, R, S)."""
    rows: Array = sliced.reshape(shape[0], -1, shape[2])[:, : shape[1]]
    return np.ascontiguousarray(rows)


def refit_basis(coef: Array, rows: Array, old: Array) -> Array:
    """Least-squares bases (N, S, S) for coefficients and rows (N, R, S); old ones where these say nothing."""
    gram = (coef.transpose(0, 2, 1) @ coef).astype(np.float64)
    right = (coef.transpose(0, 2, 1) @ rows).astype(np.float64)
    return solve_near(gram, right, old)


def solve_near(gram: Array, right: Array, old: Array) -> Array:
    """Solutions of gram x = right that stay at old where gram (N, K, K) is singular."""
    k = gram.shape[-1]
    trace = np.einsum("nkk->n", gram)
    ridge = np.where(trace > 0, 1e-6 * trace / k, 1.0)[:, None, None]
    left = gram + ridge * np.eye(k)
    return np.asarray(np.linalg.solve(left, right + ridge * old), dtype=old.dtype)


def _codebook(rows: Array, coef: Array, basis: Array, levels: Levels, rounds: int, n_bases: int) -> RealFit:
    """Share at most n_bases bases: k-means in the metric of each filter's coefficients, then alternate."""
    m = rows.shape[0]
    n = min(n_bases, m)
    size = np.abs(basis).reshape(m, -1).max(axis=1)
    book = _spread(basis / size[:, None, None], n)
    ids = np.zeros(m, dtype=np.int64)
    for i in range(rounds + 1):
        gram = (coef.transpose(0, 2, 1) @ coef).astype(np.float64)
        right = (coef.transpose(0, 2, 1) @ rows).astype(np.float64)
        quad = np.einsum("nij,mik,nkj->mn", book, gram, book, optimize=True)
        line = np.einsum("nij,mij->mn", book, right, optimize=True)
        gain = np.where(quad > 0, line * np.abs(line) / np.where(quad > 0, quad, 1), 0)
        ids = gain.argmax(axis=1)
        scale = line[np.arange(m), ids] / np.maximum(quad[np.arange(m), ids], 1e-30)
        scale = np.where(scale > 0, scale, size)
        if i == rounds:
            break
        for k in range(n):
            who = ids == k
            if who.any():
                left = np.einsum("m,mij->ij", scale[who] ** 2, gram[who])
                target = np.einsum("m,mij->ij", scale[who], right[who])
                book[k] = solve_near(left[None], target[None], book[k][None])[0]
        coef = search_codes(rows, (scale[:, None, None] * book[ids]).astype(rows.dtype), levels, current=coef)
    used, ids = np.unique(ids, return_inverse=True)
    return RealFit(coef, (scale[:, None, None] * book[used][ids])[:, None], ids.astype(np.int64))


def _spread(unit: Array, n: int) -> Array:
    """Starting bases by farthest-point choice among the filters' own, from their mean on."""
    flat = unit.reshape(unit.shape[0], -1).astype(np.float64)
    first = int(((flat - flat.mean(axis=0)) ** 2).sum(axis=1).argmin())
    chosen = [first]
    nearest = ((flat - flat[first]) ** 2).sum(axis=1)
    while len(chosen) < n:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, ((flat - flat[chosen[-1]]) ** 2).sum(axis=1))
    return np.asarray(flat[chosen].reshape(n, *unit.shape[1:]))
