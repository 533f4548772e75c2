"""From real bases to 8-bit bases with one scale a filter."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm.errors import RecipeError
from sd_tvm.weights.rows import RowGeometry
from sd_tvm.weights.tensor import SDWeight, WeightForm

MAX_BASIS = 127
#: A filter's scale is at least this part of the layer's largest, so that bias / scale stays within int32.
SMALLEST_SCALE = 2.0**-16
Array = npt.NDArray[Any]


def guard_scales(scale: Array) -> npt.NDArray[np.float32]:
    """Usable scales: positive, finite, not vanishing beside the others.

    A filter without weights would have scale 0; it gets the floor (or 2^-10 if no filter has any),
    at which its bias is still represented well.

    Parameters
    ----------
    scale
        (M,), non-negative, finite.
    """
    top = float(scale.max(initial=0.0))
    floor = top * SMALLEST_SCALE if top > 0 else 2.0**-10
    out = np.maximum(scale, max(floor, float(np.finfo(np.float32).tiny)))
    return np.asarray(out, dtype=np.float32)


def column_limit(form: WeightForm, s: int, weight_bits: int | None) -> int | None:
    """Largest sum of magnitudes in a column of a basis at which no codes rebuild a wider weight.

    Parameters
    ----------
    form
        Its alphabet bounds the codes.
    s
        Rows of the basis.
    weight_bits
        Bits of a rebuilt weight, sign included; None: any number.

    Raises
    ------
    RecipeError
        If so few bits leave next to nothing of a basis.
    """
    if weight_bits is None:
        return None
    code = form.table.max_code
    limit = ((1 << (weight_bits - 1)) - 1) // code
    if limit < 2 * s:
        raise RecipeError(
            f"weight_bits {weight_bits} with alphabet {form.alphabet!r} and rows of {s}",
            expected=f"at least {(2 * s * code).bit_length() + 1} bits",
            fix="give more weight_bits, or leave such layers in int8",
        )
    return limit


def basis_unit(basis: Array, limit: int | None = None) -> npt.NDArray[np.float64]:
    """Least unit (M,) in which each filter's bases (M, n, S, S) are 8-bit integers within the limit."""
    m, _, s, _ = basis.shape
    size = np.abs(basis)
    unit = size.reshape(m, -1).max(axis=1) / MAX_BASIS
    if limit is not None:  # rounding adds half a unit an element
        columns = size.sum(axis=2).reshape(m, -1).max(axis=1) / (limit - s / 2)
        unit = np.maximum(unit, columns)
    return np.asarray(unit)


def quantize_basis(
    basis: Array, limit: int | None = None
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """8-bit form of the bases of every filter.

    Parameters
    ----------
    basis
        (M, n, S, S), real.
    limit
        As :func:`column_limit` says.

    Returns
    -------
    tuple
        int8 (M * n, S, S) within +-127 and the limit, and scale float32 (M,): basis ~= scale * int8.
    """
    m, n, s, _ = basis.shape
    scale = guard_scales(basis_unit(basis, limit))
    q = np.rint(basis / scale.astype(np.float64)[:, None, None, None])
    return np.clip(q, -MAX_BASIS, MAX_BASIS).astype(np.int8).reshape(m * n, s, s), scale


def slice_of_rows(form: WeightForm, geometry: RowGeometry) -> npt.NDArray[np.int64]:
    """Slice (0 unless the basis kind is ``slice``) of every row, int64 (R,)."""
    rows = np.arange(geometry.rows, dtype=np.int64)
    return rows // form.slice_rows if form.basis_kind == "slice" else np.zeros_like(rows)


def relative_error(weight: Array, fitted: SDWeight) -> float:
    """Frobenius norm of the weight's error over that of the weight (0 for a zero weight)."""
    norm = float(np.linalg.norm(weight))
    return float(np.linalg.norm(weight - fitted.dequantize())) / norm if norm else 0.0
