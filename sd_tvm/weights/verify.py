"""Checks of weight forms, containers and packed arrays, before anything uses them.

Every failure is a :class:`~sd_tvm.errors.FormatError` that names the array and the place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm.errors import FormatError, RecipeError
from sd_tvm.weights.alphabet import get_alphabet
from sd_tvm.weights.rows import ROWS_PER_BLOCK, RowGeometry
from sd_tvm.weights.tensor import ROWS_KEPT, SDWeight, WeightForm

MAX_CODEBOOK = 256
MAX_GROUP_FILTERS = 240
Shape = tuple[int, int, int, int]


def ceil_to(n: int, multiple: int) -> int:
    """Smallest multiple that is at least n."""
    return -(-n // multiple) * multiple


def bad(
    found: str, expected: str = "", fix: str = "write the weights again with this version"
) -> FormatError:
    """The error of a malformed weight."""
    return FormatError(found, expected=expected, fix=fix)


def form_problem(shape: Shape, form: WeightForm) -> str | None:
    """What is wrong with a form for a weight of this shape, or None.

    Parameters
    ----------
    shape
        (M, Cg, KH, KW).
    form
        Any :class:`WeightForm`, also one built from a file's JSON.
    """
    if len(shape) != 4 or any(not isinstance(n, int) or n < 1 for n in shape):
        return f"weight shape {tuple(shape)} is not four positive integers"
    if form.pattern not in ROWS_KEPT and form.pattern != "shared":
        return f"unknown row pattern {form.pattern!r}, known are {[*ROWS_KEPT, 'shared']}"
    try:
        get_alphabet(form.alphabet)
    except RecipeError as error:
        return error.found
    if form.basis_kind not in ("filter", "slice", "codebook"):
        return f"unknown basis kind {form.basis_kind!r}, known are 'filter', 'slice', 'codebook'"
    if form.basis_kind == "slice":
        if form.slice_rows < 1 or form.slice_rows % ROWS_PER_BLOCK:
            return f"slice_rows {form.slice_rows} is not a positive multiple of {ROWS_PER_BLOCK}"
    elif form.slice_rows:
        return f"slice_rows {form.slice_rows} with basis kind {form.basis_kind!r}, which has none"
    rows = RowGeometry(shape).rows
    if form.pattern == "shared":
        if not 1 <= form.kept_rows <= rows:
            return f"kept_rows {form.kept_rows} is not within 1..{rows} (the rows of a filter)"
        if form.group_filters % 16 or not 16 <= form.group_filters <= MAX_GROUP_FILTERS:
            return (
                f"group_filters {form.group_filters} is not a multiple of 16 within 16..{MAX_GROUP_FILTERS}"
            )
    elif form.kept_rows or form.group_filters:
        return f"kept_rows or group_filters with pattern {form.pattern!r}, which has none"
    return None


def check_form(shape: Shape, form: WeightForm) -> None:
    """Refuse a form that is invalid for a shape.

    Raises
    ------
    FormatError
        With what :func:`form_problem` found.
    """
    problem = form_problem(shape, form)
    if problem:
        raise bad(problem, "a weight form as in docs/weights.md", "correct the recipe or the file")


def basis_count(shape: Shape, form: WeightForm) -> int | None:
    """Bases that the layer has; None for a codebook, which may have 1..256."""
    if form.basis_kind == "codebook":
        return None
    return shape[0] * form.n_slices(RowGeometry(shape))


def check_array(name: str, array: Any, dtype: type, shape: tuple[int | None, ...]) -> npt.NDArray[Any]:
    """The array, if it has this dtype and shape (None: any length of at least 1).

    Raises
    ------
    FormatError
        If it has not.
    """
    wanted = f"{np.dtype(dtype).name} {tuple('n' if n is None else n for n in shape)}"
    if not isinstance(array, np.ndarray):
        raise bad(f"{name} is a {type(array).__name__}", f"a NumPy array, {wanted}")
    ok = array.dtype == np.dtype(dtype) and array.ndim == len(shape)
    if not ok or any(
        got < 1 if want is None else got != want for got, want in zip(array.shape, shape, strict=True)
    ):
        raise bad(f"{name} is {array.dtype} {array.shape}", wanted)
    return array


def check_scale(scale: Any, m: int) -> npt.NDArray[np.float32]:
    """Scales of m filters: float32 (m,), finite and positive.

    Raises
    ------
    FormatError
        If one is not.
    """
    out: npt.NDArray[np.float32] = check_array("scale", scale, np.float32, (m,))
    wrong = ~(np.isfinite(out) & (out > 0))
    if wrong.any():
        i = int(np.flatnonzero(wrong)[0])
        raise bad(f"scale of filter {i} is {out[i]}", "a finite number > 0")
    return out


def check_ids(ids: npt.NDArray[np.uint8], n_bases: int) -> None:
    """Refuse codebook ids that no basis has.

    Raises
    ------
    FormatError
        If an id is n_bases or more.
    """
    if n_bases > MAX_CODEBOOK:
        raise bad(f"a codebook of {n_bases} bases", f"at most {MAX_CODEBOOK}")
    wrong = np.flatnonzero(ids >= n_bases)
    if wrong.size:
        i = int(wrong[0])
        raise bad(f"filter {i} uses basis {int(ids[i])} of a codebook of {n_bases}", f"ids < {n_bases}")


def check_weight(weight: SDWeight) -> None:
    """Refuse a container whose arrays do not fit its shape and form (patterns are checked by packing).

    Raises
    ------
    FormatError
        If something does not fit.
    """
    check_form(weight.shape, weight.form)
    geometry = weight.geometry
    m, s = weight.shape[0], geometry.s
    check_array("coef", weight.coef, np.int8, (m, geometry.rows, s))
    check_array("basis", weight.basis, np.int8, (basis_count(weight.shape, weight.form), s, s))
    check_scale(weight.scale, m)
    if weight.form.basis_kind == "codebook":
        check_ids(check_array("ids", weight.ids, np.uint8, (m,)), weight.basis.shape[0])
    elif weight.ids is not None:
        raise bad(f"ids with basis kind {weight.form.basis_kind!r}", "ids for a codebook alone")


def array_names(form: WeightForm) -> tuple[str, ...]:
    """Names of the packed arrays of a form, in operand order."""
    names = ["codes", "basis", "table"]
    if form.pattern == "shared":
        names.append("bitmap")
    if form.basis_kind == "codebook":
        names.append("ids")
    return tuple(names)


def check_packed(arrays: Mapping[str, npt.NDArray[Any]], shape: Shape, form: WeightForm) -> None:
    """Names, types, shapes and padding of packed arrays (not yet what the codes say).

    Raises
    ------
    FormatError
        If something is missing, surplus, of another type or shape, or a padding byte is not zero.
    """
    check_form(shape, form)
    names = array_names(form)
    if set(arrays) != set(names):
        raise bad(f"arrays {sorted(arrays)}", f"exactly {sorted(names)}")
    geometry = RowGeometry(shape)
    m, s = shape[0], geometry.s
    unit = 16 * form.planes(s)
    check_array("codes", arrays["codes"], np.uint8, (-(-m // 8), form.slots(geometry) // 4, unit))
    basis = check_array("basis", arrays["basis"], np.int8, (basis_count(shape, form), ceil_to(s * s, 16)))
    _check_zero("basis", basis[:, s * s :], "padding")
    table = check_array("table", arrays["table"], np.int8, (16,))
    if not np.array_equal(table, form.table.table):
        raise bad(f"table {table.tolist()}", f"{form.table.table.tolist()} (alphabet {form.alphabet!r})")
    if "ids" in arrays:
        ids = check_array("ids", arrays["ids"], np.uint8, (ceil_to(m, 16),))
        _check_zero("ids", ids[None, m:], "padding")
        check_ids(ids[:m], basis.shape[0])
    if "bitmap" in arrays:
        _check_bitmap(arrays["bitmap"], m, geometry.rows, form)


def _check_zero(name: str, array: npt.NDArray[Any], what: str) -> None:
    """Refuse non-zero bytes where only zeros may be."""
    if array.any():
        where = tuple(int(i) for i in np.argwhere(array)[0])
        raise bad(f"{name}: a {what} byte is {int(array[where])} (entry {where[0]})", "zero")


def _check_bitmap(array: Any, m: int, rows: int, form: WeightForm) -> None:
    """Shape, padding bits and population of a bitmap of kept rows."""
    n_groups = -(-m // form.group_filters)
    bitmap = check_array("bitmap", array, np.uint8, (n_groups, ceil_to(-(-rows // 8), 16)))
    bits = np.unpackbits(bitmap, axis=1, bitorder="little")
    _check_zero("bitmap", bits[:, rows:], "padding")
    wrong = np.flatnonzero(bits.sum(axis=1) != form.kept_rows)
    if wrong.size:
        g = int(wrong[0])
        raise bad(f"bitmap of group {g} keeps {int(bits[g].sum())} rows", f"{form.kept_rows} in every group")
