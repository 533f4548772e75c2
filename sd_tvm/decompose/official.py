"""The official SmartDeal decomposition, all slices at once.

W ~= Ce . B by alternating least squares with Ce rounded to signed powers of two (SmartExchange,
arXiv 2005.03403; order of steps, rounding, thresholds and slicing as in the official code,
VITA-Group/SmartDeal, smart_exchange_structural.py). ``docs/decomposition.md`` has the loop in words.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm.decompose.basis8 import quantize_basis
from sd_tvm.errors import RecipeError
from sd_tvm.weights.alphabet import Alphabet, get_alphabet
from sd_tvm.weights.rows import ROWS_PER_BLOCK, RowGeometry
from sd_tvm.weights.tensor import SDWeight, WeightForm
from sd_tvm.weights.verify import check_form

Array = npt.NDArray[Any]
F64 = npt.NDArray[np.float64]

#: Official slicing of a vector (1x1 filter or dense row): length -> (slices, rows of three a slice).
OFFICIAL_SLICES: dict[int, tuple[int, int]] = {
    4096: (8, 171),
    2048: (4, 171),
    1280: (3, 143),
    1024: (2, 171),
    960: (2, 160),
    576: (1, 192),
    512: (1, 171),
    384: (1, 128),
    320: (1, 107),
    256: (1, 86),
    192: (1, 64),
    160: (1, 54),
    144: (1, 48),
    128: (1, 43),
    96: (1, 32),
    64: (1, 22),
    32: (1, 11),
    24: (1, 8),
    16: (1, 6),
}
MAX_SLICE_ROWS = 192
_RCOND = 1e-10
_MAX_RESTARTS = 30


@dataclass(frozen=True)
class OfficialOptions:
    """Parameters of the official algorithm, with its defaults for ImageNet.

    Attributes
    ----------
    theta
        Coefficients smaller than this become zero.
    row_factor
        Rows whose L1 norm is below row_factor * theta become zero, in 3x3 kernels only.
    tolerance
        Stop when the rounded coefficients moved less than this (Frobenius norm).
    iterations
        Passes at most, the last of which only rounds and refits B.
    decay
        Factor on theta when a column became all zero; the slice then starts again.
    max_c
        Largest magnitude of a coefficient.
    column_scale
        Scale every column by 2^mean(round(log2|c|) - log2|c|) before rounding.
    """

    theta: float = 4e-3
    row_factor: float = 5.0
    tolerance: float = 1e-10
    iterations: int = 30
    decay: float = 0.1
    max_c: float = 32.0
    column_scale: bool = False


@dataclass(frozen=True)
class Slices:
    """Decomposed slices: ``ce`` (n, rows, S) of 0 and +-2^p, ``basis`` (n, S, S), ``theta`` (n,) as used."""

    ce: F64
    basis: F64
    theta: F64


def nearest_power_of_two(x: F64) -> F64:
    """Power of two that is arithmetically nearest to each x > 0; a tie goes down; 0 stays 0."""
    out = np.zeros_like(x)
    some = x > 0
    up = np.exp2(np.ceil(np.log2(x[some])))
    out[some] = np.where(x[some] - up / 2 <= up - x[some], up / 2, up)
    return out


def decompose_slices(
    slices: Array, options: OfficialOptions | None = None, *, prune_rows: bool = False
) -> Slices:
    """Official decomposition of many matrices of one shape.

    Parameters
    ----------
    slices
        (n, rows, S), real. All-zero rows change nothing, so shorter matrices are padded with them.
    options
        Parameters; the official ones by default.
    prune_rows
        Whether small rows become zero (official: for 3x3 kernels).
    """
    opts = options or OfficialOptions()
    w = np.asarray(slices, dtype=np.float64)
    n, _, s = w.shape
    ce = np.zeros_like(w)
    basis = np.tile(np.eye(s), (n, 1, 1))
    theta = np.full(n, opts.theta)
    todo = np.flatnonzero(w.any(axis=(1, 2)))
    for _ in range(_MAX_RESTARTS):
        if not todo.size:
            break
        ce[todo], basis[todo], emptied = _one_start(w[todo], theta[todo], opts, prune_rows)
        todo = todo[emptied]
        theta[todo] *= opts.decay
    return Slices(ce, basis, theta)


def _one_start(
    w: F64, theta: F64, opts: OfficialOptions, prune_rows: bool
) -> tuple[F64, F64, npt.NDArray[np.bool_]]:
    """The loop from Ce = W, B = I: (Ce, B, whether a column that W uses became all zero)."""
    n, _, s = w.shape
    real = w.copy()  # Ce before rounding
    basis = np.tile(np.eye(s), (n, 1, 1))
    before = np.zeros_like(w)
    live_columns = np.asarray(w.any(axis=1))
    emptied = np.zeros(n, dtype=bool)
    active = np.arange(n)
    for i in range(opts.iterations - 1):
        ce = _round(real[active], opts)
        if i:
            moved = np.linalg.norm(ce - before[active], axis=(1, 2)) > opts.tolerance
            active, ce = active[moved], ce[moved]
            if not active.size:
                break
        before[active] = ce
        b = _solve_basis(ce, w[active])
        c = w[active] @ np.linalg.pinv(b, rcond=_RCOND)
        limit = theta[active, None]
        if prune_rows:
            c[np.abs(c).sum(axis=2) < opts.row_factor * limit] = 0.0
        c[np.abs(c) < limit[:, :, None]] = 0.0
        basis[active], real[active] = b, c
        dead = np.asarray((live_columns[active] & ~np.asarray(c.any(axis=1))).any(axis=1))
        emptied[active[dead]] = True
        active = active[~dead]
        if not active.size:
            break
    ce = _round(real, opts)
    return ce, _solve_basis(ce, w), emptied


def _round(real: F64, opts: OfficialOptions) -> F64:
    """Signed powers of two nearest to the coefficients, clipped at max_c."""
    magnitude = np.abs(real)
    if opts.column_scale:
        some = magnitude > 0
        log = np.log2(np.where(some, magnitude, 1.0))
        total = (np.round(log) - log).sum(axis=1, keepdims=True)
        magnitude = magnitude * np.exp2(total / np.maximum(some.sum(axis=1, keepdims=True), 1))
    return np.sign(real) * np.minimum(nearest_power_of_two(magnitude), opts.max_c)


def _solve_basis(ce: F64, w: F64) -> F64:
    """Minimum-norm B of every slice that minimises ||W - Ce B||."""
    gram, right = ce.transpose(0, 2, 1) @ ce, ce.transpose(0, 2, 1) @ w
    eigenvalues = np.linalg.eigvalsh(gram)
    good = eigenvalues[:, 0] > 1e-6 * eigenvalues[:, -1]
    out = np.empty_like(right)
    out[good] = np.linalg.solve(gram[good], right[good])
    for i in np.flatnonzero(~good):  # rare: rank deficient, where the normal equations are not exact enough
        out[i] = np.linalg.lstsq(ce[i], w[i], rcond=_RCOND)[0]
    return out


def official_slice_rows(shape: tuple[int, int, int, int]) -> int:
    """Rows of a slice in the official slicing, rounded up to a multiple of 16 as the format needs.

    0 means one slice a filter. Vectors (1x1, dense) follow :data:`OFFICIAL_SLICES`, everything else has at
    most 192 rows a slice.
    """
    geometry = RowGeometry(shape)
    if shape[2] == shape[3] == 1 and shape[1] in OFFICIAL_SLICES:
        n, rows = OFFICIAL_SLICES[shape[1]]
    else:
        n, rows = -(-geometry.rows // MAX_SLICE_ROWS), MAX_SLICE_ROWS
    return 0 if n == 1 else -(-rows // ROWS_PER_BLOCK) * ROWS_PER_BLOCK


def prune_shared_rows(rows: Array, fraction: float, group_filters: int = 32) -> Array:
    """Rows (M, R, S) with the weakest rows of every group of filters set to zero.

    The score of a row is its L1 norm, summed over the group; ceil(fraction * R) rows of the lowest
    score go. The official code scores single channels of a 1x1 kernel; rows of three do here, since
    only whole rows can be skipped.

    Raises
    ------
    RecipeError
        If the fraction is not within [0, 1) or would leave no row.
    """
    n = int(np.ceil(fraction * rows.shape[1])) if 0 <= fraction < 1 else -1
    if n < 0 or n >= rows.shape[1]:
        raise RecipeError(
            f"pruned fraction {fraction} of {rows.shape[1]} rows",
            expected="a fraction in [0, 1) that leaves at least one row",
            fix="lower the fraction for this layer",
        )
    out = np.array(rows)
    for first in range(0, rows.shape[0], group_filters):
        score = np.abs(rows[first : first + group_filters]).sum(axis=(0, 2))
        out[first : first + group_filters, np.argsort(score, kind="stable")[:n]] = 0
    return out


def decompose_official(
    weight: Array,
    *,
    options: OfficialOptions | None = None,
    alphabet: str = "pow2-7",
    slice_rows: int | None = None,
    pruned_fraction: float = 0.0,
    group_filters: int = 32,
) -> SDWeight:
    """Weight in SD form by the official algorithm.

    Parameters
    ----------
    weight
        Float (M, Cg, KH, KW).
    options
        Parameters of the algorithm.
    alphabet
        A table of powers of two. The algorithm does not bound the exponents; each column of a slice
        keeps its largest ones and B takes the shift. B is refitted where a coefficient changed.
    slice_rows
        Rows of a slice (a multiple of 16), 0 for one slice a filter, None for the official slicing.
    pruned_fraction
        Structural pruning: fraction of rows that every group of filters drops (form ``shared``).
    group_filters
        Filters of such a group.

    Raises
    ------
    RecipeError
        If the alphabet or max_c is not powers of two, or the fraction leaves no row.
    FormatError
        If slice_rows or group_filters is not one the format knows.
    """
    table = get_alphabet(alphabet)
    levels = np.array([v for v in table.magnitudes if v], dtype=np.float64)
    if not np.array_equal(levels, np.exp2(np.arange(levels.size))):
        raise RecipeError(
            f"alphabet {alphabet!r} with the official algorithm",
            expected="consecutive powers of two from 1",
            fix="use 'pow2-7' or 'pow2-5', or another method",
        )
    opts = options or OfficialOptions()
    if not np.log2(opts.max_c).is_integer():
        raise RecipeError(f"max_c {opts.max_c}", expected="a power of two", fix="correct the option")
    m, cg, kh, kw = weight.shape
    geometry = RowGeometry((m, cg, kh, kw))
    per_slice = official_slice_rows(geometry.shape) if slice_rows is None else slice_rows
    form = WeightForm("16:16", alphabet, "slice" if per_slice else "filter", per_slice)
    rows = geometry.to_rows(np.asarray(weight, dtype=np.float64))
    if pruned_fraction:
        rows = prune_shared_rows(rows, pruned_fraction, group_filters)
        kept = geometry.rows - int(np.ceil(pruned_fraction * geometry.rows))
        form = replace(form, pattern="shared", kept_rows=kept, group_filters=group_filters)
    check_form(geometry.shape, form)
    n, s = form.n_slices(geometry), geometry.s
    height = per_slice or geometry.rows
    padded = np.pad(rows, ((0, 0), (0, n * height - geometry.rows), (0, 0))).reshape(m * n, height, s)
    found = decompose_slices(padded, opts, prune_rows=kh == kw == 3)
    coef = _fit_window(found.ce, table)
    basis = _solve_basis(coef, padded)
    integers, scale = quantize_basis(basis.reshape(m, n, s, s))
    coef8 = coef.reshape(m, n * height, s)[:, : geometry.rows].astype(np.int8)
    return SDWeight(geometry.shape, form, np.ascontiguousarray(coef8), integers, scale)


def _fit_window(ce: F64, table: Alphabet) -> F64:
    """Coefficients (n, rows, S), every column shifted so that its largest is the table's largest.

    What then is below 1 becomes 0: a power of two there is at most one half, not nearer to 1 than to 0.
    """
    top = np.abs(ce).max(axis=1, keepdims=True)
    shifted = ce * (table.max_code / np.where(top > 0, top, 1.0))
    return np.where(np.abs(shifted) >= 1, shifted, 0.0)
