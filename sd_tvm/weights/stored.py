"""What a file stores of a weight, and its bytes (``docs/weights.md``).

Weights of few-level alphabets are stored denser than kernels and accelerator use them: rows as numbers
(:mod:`sd_tvm.weights.rownumbers`), no padding. All others are stored as they are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm.weights.packing import codes_nbytes, pack_raw, pack_sd, packed_nbytes, unpack_raw, unpack_sd
from sd_tvm.weights.rownumbers import codes_of, rows_nbytes, rows_of
from sd_tvm.weights.rows import RowGeometry
from sd_tvm.weights.tensor import RawWeight, Weight, WeightForm
from sd_tvm.weights.verify import Shape, array_names, basis_count, ceil_to, check_array, check_form

Arrays = dict[str, npt.NDArray[Any]]
#: Alphabets of more levels gain little (and ``pow2-5`` has its bytes in version 1 of the format).
MAX_LEVELS = 9


def is_dense(form: WeightForm) -> bool:
    """Whether a file stores the form denser than it is used: by the number of levels of its alphabet."""
    return form.table.n_levels <= MAX_LEVELS


def stored_names(form: WeightForm | None) -> tuple[str, ...]:
    """Names of the arrays that a weight has in a file; the code table stands in the JSON, once."""
    if form is None:
        return ("w8", "scale")
    names = (name for name in array_names(form) if name != "table")
    return (*("rows" if name == "codes" and is_dense(form) else name for name in names), "scale")


def store(weight: Weight) -> Arrays:
    """Arrays of a weight in a file, by name.

    Returns
    -------
    dict
        For int8 ``w8`` of :func:`~sd_tvm.weights.packing.pack_raw`. For SD form what
        :func:`~sd_tvm.weights.packing.pack_sd` gives, without the table; for a few-level alphabet uint8
        ``rows`` (bytes,), int8 ``basis`` (NB, S*S), uint8 ``bitmap`` (groups, ceil(R/8)), uint8 ``ids`` (M,).
        Always ``scale``.

    Raises
    ------
    FormatError, RecipeError
        As packing.
    """
    if isinstance(weight, RawWeight):
        return {"w8": pack_raw(weight), "scale": weight.scale}
    arrays = pack_sd(weight)
    del arrays["table"]
    if is_dense(weight.form):
        arrays["rows"] = rows_of(arrays.pop("codes"), weight.shape, weight.form)
        for name, length in _lengths(weight.shape, weight.form).items():
            arrays[name] = np.ascontiguousarray(arrays[name][..., :length])
    return {**arrays, "scale": weight.scale}


def restore(arrays: Mapping[str, npt.NDArray[Any]], shape: Shape, form: WeightForm | None) -> Weight:
    """Inverse of :func:`store`; verifies everything.

    Parameters
    ----------
    arrays
        Those of :func:`stored_names`, from a file.
    shape, form
        Of the weight; form None is int8.

    Raises
    ------
    FormatError
        If the arrays are not exactly what :func:`store` makes of some weight of this shape and form.
    """
    parts = dict(arrays)
    scale = parts.pop("scale")
    check_form(shape, form or WeightForm())
    if form is None:
        return unpack_raw(parts["w8"], shape, scale)
    if is_dense(form):
        parts["codes"] = codes_of(parts.pop("rows"), shape, form)
        heads = {"basis": (basis_count(shape, form),), "bitmap": (_groups(shape, form),), "ids": ()}
        types = {"basis": np.int8, "bitmap": np.uint8, "ids": np.uint8}
        for name, length in _lengths(shape, form).items():
            array = check_array(name, parts[name], types[name], (*heads[name], length))
            parts[name] = np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, -length % 16)])
    parts["table"] = form.table.table
    return unpack_sd(parts, shape, form, scale)


def stored_nbytes(shape: Shape, form: WeightForm | None, n_bases: int | None = None) -> int:
    """Bytes that a weight takes in a file: its arrays with their padding, and one float32 scale a filter.

    Parameters
    ----------
    shape, form, n_bases
        As :func:`~sd_tvm.weights.packing.packed_nbytes`, which counts the bytes of DRAM and of kernels: with
        the code table, and rows as nibbles.

    Raises
    ------
    FormatError, RecipeError
        As ``packed_nbytes``.
    """
    used = packed_nbytes(shape, form, n_bases)
    if form is None:
        return used
    used -= form.table.table.nbytes
    if not is_dense(form):
        return used
    counts = {"basis": basis_count(shape, form) or n_bases or 0, "bitmap": _groups(shape, form), "ids": 1}
    padding = sum(
        counts[name] * (ceil_to(length, 16) - length) for name, length in _lengths(shape, form).items()
    )
    return used - codes_nbytes(shape, form) + rows_nbytes(shape, form) - padding


def _lengths(shape: Shape, form: WeightForm) -> dict[str, int]:
    """Last dimension, without padding, of the arrays that are padded where they are used."""
    geometry = RowGeometry(shape)
    every = {"basis": geometry.s**2, "bitmap": -(-geometry.rows // 8), "ids": shape[0]}
    return {name: every[name] for name in array_names(form) if name in every}


def _groups(shape: Shape, form: WeightForm) -> int:
    return -(-shape[0] // max(form.group_filters, 1))
