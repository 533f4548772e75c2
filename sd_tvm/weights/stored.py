"""What a file stores of a weight, and its bytes (``docs/weights.md``).

Files hold weights denser than kernels and accelerator use them. Storage ``plain``: rows as numbers
(:mod:`sd_tvm.weights.rownumbers`), no padding. Storage ``entropy``: codes, bases and int8 values entropy
coded (:mod:`sd_tvm.weights.entropy`). Version 1 of the format stored weights as they are in use.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sd_tvm.weights import entropy
from sd_tvm.weights.packing import codes_nbytes, pack_raw, pack_sd, packed_nbytes, unpack_raw, unpack_sd
from sd_tvm.weights.rownumbers import (
    codes_of,
    digits_of,
    digits_shape,
    pack_rows,
    places_nbytes,
    rows_nbytes,
    unpack_rows,
)
from sd_tvm.weights.rows import RowGeometry
from sd_tvm.weights.tensor import RawWeight, SDWeight, Weight, WeightForm
from sd_tvm.weights.verify import (
    Shape,
    array_names,
    bad,
    basis_count,
    ceil_to,
    check_array,
    check_form,
)

Arrays = dict[str, npt.NDArray[Any]]
U8 = npt.NDArray[np.uint8]
Storage = Literal["plain", "entropy"]
#: Of any storage and version.
ARRAY_NAMES = ("codes", "rows", "coded", "basis", "bitmap", "ids", "w8", "scale")
STORAGES: tuple[Storage, ...] = ("plain", "entropy")
_LENGTH_BYTES = 4


def stored_names(form: WeightForm | None, storage: Storage = "plain") -> tuple[str, ...]:
    """Names of the arrays that a weight has in a file; the code table stands in the JSON, once."""
    if form is None:
        return ("coded" if storage == "entropy" else "w8", "scale")
    kept = [name for name in array_names(form) if name in ("basis", "bitmap", "ids")]
    if storage == "entropy" and _codes_bases(form):
        kept.remove("basis")
    return ("coded" if storage == "entropy" else "rows", *kept, "scale")


def store(weight: Weight, storage: Storage = "plain") -> Arrays:
    """Arrays of a weight in a file, by name.

    Returns
    -------
    dict
        int8: ``w8`` int8 (M, Cg*KH*KW). SD form: ``rows`` uint8 (bytes,), ``basis`` int8 (NB, S*S), for
        ``shared`` ``bitmap`` uint8 (groups, ceil(R/8)), for a codebook ``ids`` uint8 (M,). With storage
        ``entropy`` ``coded`` uint8 (bytes,) in place of ``w8`` or ``rows``, and of ``basis`` unless it is a
        codebook. Always ``scale``.

    Raises
    ------
    FormatError, RecipeError
        As packing.
    MissingExtraError
        If the entropy coder is not installed.
    """
    scale = {"scale": weight.scale}
    if isinstance(weight, RawWeight):
        pack_raw(weight)  # verifies it
        values = weight.values.reshape(weight.shape[0], -1)
        if storage == "entropy":
            return {"coded": entropy.encode(values), **scale}
        return {"w8": np.ascontiguousarray(values), **scale}
    packed = pack_sd(weight)
    places, digits = digits_of(packed["codes"], weight.shape, weight.form)
    arrays = {
        name: np.ascontiguousarray(packed[name][..., :length])
        for name, length in _lengths(weight.shape, weight.form).items()
    }
    if storage == "entropy":
        parts = [digits, *(_split(arrays.pop("basis")) if _codes_bases(weight.form) else ())]
        return {
            "coded": np.concatenate([places, *_framed([entropy.encode(p) for p in parts])]),
            **arrays,
            **scale,
        }
    return {"rows": pack_rows(places, digits, weight.form), **arrays, **scale}


def restore(
    arrays: Mapping[str, npt.NDArray[Any]], shape: Shape, form: WeightForm | None, storage: Storage = "plain"
) -> Weight:
    """Inverse of :func:`store`; verifies everything.

    Parameters
    ----------
    arrays
        Those of :func:`stored_names`, from a file.
    shape, form
        Of the weight; form None is int8.
    storage
        How it was stored.

    Raises
    ------
    FormatError
        If the arrays are not exactly what :func:`store` makes of some weight of this shape and form.
    MissingExtraError
        If the entropy coder is not installed.
    """
    check_form(shape, form or WeightForm())
    weight: Weight
    if form is None:
        weight = _restore_raw(arrays, shape, storage)
    else:
        weight = _restore_sd(arrays, shape, form, storage)
    if storage == "entropy" and not np.array_equal(store(weight, storage)["coded"], arrays["coded"]):
        raise bad("coded: another code of the same weight", "the bytes that the coder writes")
    return weight


def names_in_use(form: WeightForm | None) -> tuple[str, ...]:
    """Names of the arrays of a weight in version 1: those of the packed weight."""
    if form is None:
        return ("w8", "scale")
    return (*(name for name in array_names(form) if name != "table"), "scale")


def restore_in_use(arrays: Mapping[str, npt.NDArray[Any]], shape: Shape, form: WeightForm | None) -> Weight:
    """Weight of the arrays of :func:`names_in_use`; verifies everything.

    Raises
    ------
    FormatError
        If the arrays are not exactly the packed form of some weight.
    """
    packed = dict(arrays)
    scale = packed.pop("scale")
    if form is None:
        return unpack_raw(packed["w8"], shape, scale)
    return unpack_sd({**packed, "table": form.table.table}, shape, form, scale)


def _restore_raw(arrays: Mapping[str, npt.NDArray[Any]], shape: Shape, storage: Storage) -> RawWeight:
    m, k = shape[0], shape[1] * shape[2] * shape[3]
    if storage == "entropy":
        values = entropy.decode(check_array("coded", arrays["coded"], np.uint8, (None,)), m * k)
    else:
        values = check_array("w8", arrays["w8"], np.int8, (m, k))
    weight = RawWeight(values.reshape(shape), arrays["scale"])
    pack_raw(weight)  # verifies it
    return weight


def _restore_sd(
    arrays: Mapping[str, npt.NDArray[Any]], shape: Shape, form: WeightForm, storage: Storage
) -> SDWeight:
    lengths, count = _lengths(shape, form), basis_count(shape, form)
    parts = {name: arrays[name] for name in lengths if name in arrays}
    if storage == "entropy":
        coded = check_array("coded", arrays["coded"], np.uint8, (None,))
        head = places_nbytes(shape, form)
        places, (code, *bases) = coded[:head], _unframed(coded[head:], 3 if _codes_bases(form) else 1)
        size = digits_shape(shape, form)
        digits = entropy.decode(code, math.prod(size)).view(np.uint8).reshape(size)
        if count is not None:
            parts["basis"] = _joined(bases, lengths["basis"], count)
    else:
        places, digits = unpack_rows(arrays["rows"], shape, form)
    heads = {"basis": (count,), "bitmap": (_groups(shape, form),), "ids": ()}
    types = {"basis": np.int8, "bitmap": np.uint8, "ids": np.uint8}
    for name, length in lengths.items():
        array = check_array(name, parts[name], types[name], (*heads[name], length))
        parts[name] = np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, -length % 16)])
    parts |= {"codes": codes_of(places, digits, shape, form), "table": form.table.table}
    return unpack_sd(parts, shape, form, arrays["scale"])


def stored_nbytes(shape: Shape, form: WeightForm | None, n_bases: int | None = None) -> int:
    """Bytes that a weight takes in a file with storage ``plain``, its scales included.

    Parameters
    ----------
    shape, form, n_bases
        As :func:`~sd_tvm.weights.packing.packed_nbytes`, which counts the bytes of DRAM and of kernels: with
        the code table and padding, and rows as nibbles.

    Raises
    ------
    FormatError, RecipeError
        As ``packed_nbytes``.
    """
    used = packed_nbytes(shape, form, n_bases)
    m = shape[0]
    if form is None:
        return used - (ceil_to(m, 16) - m) * shape[1] * shape[2] * shape[3]
    counts = {"basis": basis_count(shape, form) or n_bases or 0, "bitmap": _groups(shape, form), "ids": 1}
    padding = sum(
        counts[name] * (ceil_to(length, 16) - length) for name, length in _lengths(shape, form).items()
    )
    codes = codes_nbytes(shape, form) - rows_nbytes(shape, form)
    return used - form.table.table.nbytes - codes - padding


def _lengths(shape: Shape, form: WeightForm) -> dict[str, int]:
    """Last dimension, without padding, of the arrays that are padded where they are used."""
    geometry = RowGeometry(shape)
    every = {"basis": geometry.s**2, "bitmap": -(-geometry.rows // 8), "ids": shape[0]}
    return {name: every[name] for name in array_names(form) if name in every}


def _groups(shape: Shape, form: WeightForm) -> int:
    return -(-shape[0] // max(form.group_filters, 1))


def _split(basis: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Diagonals and the rest of bases (NB, S*S): the first are large, the others small."""
    on = _on_diagonal(basis.shape[1])
    return basis[:, on], basis[:, ~on]


def _joined(parts: list[U8], size: int, count: int) -> npt.NDArray[np.int8]:
    """Inverse of :func:`_split`, for coded parts."""
    on = _on_diagonal(size)
    basis = np.zeros((count, size), dtype=np.int8)
    for part, where in zip(parts, (on, ~on), strict=True):
        basis[:, where] = entropy.decode(part, count * int(where.sum())).reshape(count, -1)
    return basis


def _codes_bases(form: WeightForm) -> bool:
    """Whether bases are worth coding: a codebook has few, and their number is nowhere else."""
    return form.basis_kind != "codebook"


def _on_diagonal(size: int) -> npt.NDArray[np.bool_]:
    return np.asarray(np.arange(size) % (math.isqrt(size) + 1) == 0)


def _framed(parts: list[U8]) -> list[U8]:
    """Every part after its length, uint32 little-endian."""
    return [piece for part in parts for piece in (np.array([part.size], dtype="<u4").view(np.uint8), part)]


def _unframed(data: U8, n: int) -> list[U8]:
    """Inverse of :func:`_framed` for n parts.

    Raises
    ------
    FormatError
        If the lengths do not fill the data exactly.
    """
    parts = []
    for _ in range(n):
        length = int.from_bytes(data[:_LENGTH_BYTES].tobytes(), "little")
        part, rest = data[_LENGTH_BYTES : _LENGTH_BYTES + length], data[_LENGTH_BYTES + length :]
        if data.size < _LENGTH_BYTES or part.size != length:
            raise bad(f"coded: a part of {length} bytes is cut short")
        parts.append(part)
        data = rest
    if data.size:
        raise bad(f"coded: {data.size} bytes after the last part", "none")
    return parts
