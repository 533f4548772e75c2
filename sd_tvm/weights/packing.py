"""Packed layout of weights (``docs/weights.md``): containers to bytes and back, every byte verified.

The packed bytes are canonical: a weight has exactly one packed form, and :func:`unpack_sd` accepts no other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm.errors import RecipeError
from sd_tvm.weights.alphabet import UNUSED_NIBBLE
from sd_tvm.weights.rows import ROWS_PER_BLOCK, RowGeometry
from sd_tvm.weights.tensor import ROWS_KEPT, RawWeight, SDWeight, WeightForm
from sd_tvm.weights.verify import (
    Shape,
    array_names,
    bad,
    basis_count,
    ceil_to,
    check_array,
    check_form,
    check_packed,
    check_scale,
    check_weight,
)

U8 = npt.NDArray[np.uint8]
_TILE_FILTERS = 8
_CHUNK_NIBBLES = 1 << 21  # work in pieces that stay in cache


def pack_sd(weight: SDWeight) -> dict[str, npt.NDArray[Any]]:
    """Packed arrays of a weight in SD form, in operand order.

    Parameters
    ----------
    weight
        Container whose rows obey its pattern.

    Returns
    -------
    dict
        ``codes`` uint8 (ceil(M/8), slots/4, 16*planes), ``basis`` int8 (NB, ceil16(S*S)), ``table``
        int8 (16,), and ``bitmap`` uint8 (groups, ceil16(ceil(R/8))) for ``shared``, ``ids`` uint8
        (ceil16(M),) for ``codebook``.

    Raises
    ------
    FormatError
        If an array does not fit, or more rows are non-zero than the pattern keeps.
    RecipeError
        If a coefficient is not in the alphabet.
    """
    check_weight(weight)
    form, geometry = weight.form, weight.geometry
    m, s, slots, planes = weight.shape[0], geometry.s, form.slots(geometry), form.planes(geometry.s)
    kept = _kept_rows(weight) if form.pattern == "shared" else None
    codes = np.zeros((-(-m // _TILE_FILTERS), slots // 4, 16 * planes), dtype=np.uint8)
    for tiles, filters in _chunks(m, max(slots, geometry.rows) * planes):
        nibbles = np.zeros((codes[tiles].shape[0] * _TILE_FILTERS, slots, planes), dtype=np.uint8)
        _fill_slots(nibbles, weight.coef[filters], form, filters.start, kept)
        codes[tiles] = to_tiles(nibbles)
    basis = np.zeros((weight.basis.shape[0], ceil_to(s * s, 16)), dtype=np.int8)
    basis[:, : s * s] = weight.basis.reshape(-1, s * s)
    out: dict[str, npt.NDArray[Any]] = {"codes": codes, "basis": basis, "table": form.table.table}
    if kept is not None:
        out["bitmap"] = _bitmap_of(kept, geometry.rows)
    if weight.ids is not None:
        out["ids"] = np.pad(weight.ids, (0, -m % 16))
    return out


def unpack_sd(
    arrays: Mapping[str, npt.NDArray[Any]],
    shape: Shape,
    form: WeightForm,
    scale: npt.NDArray[np.float32],
) -> SDWeight:
    """Inverse of :func:`pack_sd`; verifies everything.

    Parameters
    ----------
    arrays
        What :func:`pack_sd` returned, from a file perhaps.
    shape, form, scale
        As in :class:`SDWeight`.

    Raises
    ------
    FormatError
        If the arrays are not exactly what :func:`pack_sd` makes of some weight of this shape and form.
    """
    check_packed(arrays, shape, form)
    check_scale(scale, shape[0])
    geometry = RowGeometry(shape)
    m, s, planes = shape[0], geometry.s, form.planes(geometry.s)
    kept = _kept_of(arrays["bitmap"], form.kept_rows) if form.pattern == "shared" else None
    coef = np.zeros((m, geometry.rows, s), dtype=np.int8)
    codes = arrays["codes"]
    for tiles, filters in _chunks(m, max(form.slots(geometry), geometry.rows) * planes):
        nibbles = from_tiles(codes[tiles], planes)
        n = filters.stop - filters.start
        _refuse(nibbles[n:], filters.stop, "a filter beyond the last has non-zero bytes")
        _take_slots(coef[filters], nibbles[:n], form, filters.start, kept)
    if kept is not None:
        _check_fill(coef, kept, form.group_filters)
    basis = np.ascontiguousarray(arrays["basis"][:, : s * s]).reshape(-1, s, s)
    ids = arrays["ids"][:m].copy() if "ids" in arrays else None
    return SDWeight(shape, form, coef, basis, scale, ids)


def pack_raw(weight: RawWeight) -> npt.NDArray[np.int8]:
    """int8 (ceil(M/16), K, 16) of a raw weight, K = Cg*KH*KW in the order (c, ky, kx).

    Raises
    ------
    FormatError
        If an array has another type or shape, or a value is -128.
    """
    check_array("values", weight.values, np.int8, (None,) * 4)
    m = weight.values.shape[0]
    check_scale(weight.scale, m)
    flat = weight.values.reshape(m, -1)
    if (flat == -128).any():
        raise bad(f"filter {int(np.argwhere(flat == -128)[0, 0])} holds -128", "values in [-127, 127]")
    flat = np.pad(flat, ((0, -m % 16), (0, 0)))
    return np.ascontiguousarray(flat.reshape(-1, 16, flat.shape[1]).transpose(0, 2, 1))


def unpack_raw(packed: npt.NDArray[np.int8], shape: Shape, scale: npt.NDArray[np.float32]) -> RawWeight:
    """Inverse of :func:`pack_raw`.

    Raises
    ------
    FormatError
        If an array has another type or shape, a value is -128 or a padding byte is not zero.
    """
    check_form(shape, WeightForm())
    m, k = shape[0], shape[1] * shape[2] * shape[3]
    check_array("w8", packed, np.int8, (-(-m // 16), k, 16))
    check_scale(scale, m)
    flat = packed.transpose(0, 2, 1).reshape(-1, k)
    _refuse(flat[m:], m, "w8: a filter beyond the last has non-zero bytes")
    _refuse(flat == -128, 0, "w8: a value is -128, outside [-127, 127]")
    return RawWeight(np.ascontiguousarray(flat[:m]).reshape(shape), scale)


def packed_nbytes(shape: Shape, form: WeightForm | None, n_bases: int | None = None) -> int:
    """Bytes that a weight takes in DRAM: every packed array with its padding, and one float32 scale a filter.

    A file may hold fewer (:func:`sd_tvm.weights.rownumbers.stored_nbytes`).

    Parameters
    ----------
    shape
        (M, Cg, KH, KW).
    form
        SD form, or None for raw int8.
    n_bases
        Bases of the codebook; ignored for the other kinds, whose number follows from the shape.

    Raises
    ------
    FormatError
        If the form is invalid for the shape.
    RecipeError
        If a codebook comes without its number of bases.
    """
    check_form(shape, form or WeightForm())
    m = shape[0]
    if form is None:
        return ceil_to(m, 16) * shape[1] * shape[2] * shape[3] + 4 * m
    geometry = RowGeometry(shape)
    count = basis_count(shape, form)
    if count is None:
        count = n_bases
    if count is None:
        raise RecipeError("the size of a codebook is unknown", expected="n_bases", fix="pass n_bases")
    sizes = {
        "codes": codes_nbytes(shape, form),
        "basis": count * ceil_to(geometry.s**2, 16),
        "table": 16,
        "bitmap": -(-m // max(form.group_filters, 1)) * ceil_to(-(-geometry.rows // 8), 16),
        "ids": ceil_to(m, 16),
    }
    return sum(sizes[name] for name in array_names(form)) + 4 * m


def codes_nbytes(shape: Shape, form: WeightForm) -> int:
    """Bytes of the packed codes."""
    geometry = RowGeometry(shape)
    return -(-shape[0] // _TILE_FILTERS) * (form.slots(geometry) // 4) * 16 * form.planes(geometry.s)


def _chunks(m: int, nibbles_per_filter: int) -> Iterator[tuple[slice, slice]]:
    """(tiles, filters) in pieces of whole tiles of 8 filters."""
    step = max(1, _CHUNK_NIBBLES // (_TILE_FILTERS * nibbles_per_filter))
    for t in range(0, -(-m // _TILE_FILTERS), step):
        stop = min(t + step, -(-m // _TILE_FILTERS))
        yield slice(t, stop), slice(t * _TILE_FILTERS, min(stop * _TILE_FILTERS, m))


def to_tiles(nibbles: U8) -> U8:
    """(F, slots, P) nibbles -> (F/8, slots/4, 16*P) bytes."""
    f, slots, planes = nibbles.shape
    lanes = nibbles.reshape(f // 8, 8, slots // 4, 4, planes).transpose(0, 2, 4, 1, 3)
    lanes = lanes.reshape(f // 8, slots // 4, planes, 32)
    even = planes // 2 * 2
    pairs = lanes[:, :, 0:even:2] | (lanes[:, :, 1:even:2] << 4)
    parts = [pairs.reshape(f // 8, slots // 4, 16 * even)]
    if planes % 2:
        parts.append(lanes[:, :, -1, :16] | (lanes[:, :, -1, 16:] << 4))
    return np.concatenate(parts, axis=2)


def from_tiles(codes: U8, planes: int) -> U8:
    """Inverse of :func:`to_tiles`."""
    tiles, quads, _ = codes.shape
    even = planes // 2 * 2
    lanes = np.empty((tiles, quads, planes, 32), dtype=np.uint8)
    pairs = codes[:, :, : 16 * even].reshape(tiles, quads, even // 2, 32)
    lanes[:, :, 0:even:2] = pairs & 15
    lanes[:, :, 1:even:2] = pairs >> 4
    if planes % 2:
        lanes[:, :, -1, :16] = codes[:, :, 16 * even :] & 15
        lanes[:, :, -1, 16:] = codes[:, :, 16 * even :] >> 4
    out = lanes.reshape(tiles, quads, planes, 8, 4).transpose(0, 3, 1, 4, 2)
    return np.ascontiguousarray(out).reshape(tiles * 8, quads * 4, planes)


def _fill_slots(
    nibbles: U8,
    coef: npt.NDArray[np.int8],
    form: WeightForm,
    first: int,
    kept: npt.NDArray[np.int64] | None,
) -> None:
    """Write the slots of filters first... (coef (F, R, S)) into nibbles (>= F, slots, P)."""
    f, rows, _ = coef.shape
    if kept is not None:
        groups = (first + np.arange(f)) // form.group_filters
        taken = np.take_along_axis(coef, kept[groups][:, :, None], axis=1)
        nibbles[:f, : form.kept_rows] = form.table.nibbles(taken)
        return
    if not form.indexed:
        nibbles[:f, :rows] = form.table.nibbles(coef)
        return
    keep = ROWS_KEPT[form.pattern]
    blocks = -(-rows // ROWS_PER_BLOCK)
    filled = np.zeros((f, blocks * ROWS_PER_BLOCK), dtype=bool)
    filled[:, :rows] = coef.any(axis=2)
    count = filled.reshape(-1, ROWS_PER_BLOCK).sum(axis=1)
    if count.size and count.max() > keep:
        m, block = divmod(int(count.argmax()), blocks)
        raise bad(
            f"filter {first + m}, block {block} has {int(count.max())} non-zero rows",
            f"at most {keep} (pattern {form.pattern})",
            "choose a pattern that keeps more rows",
        )
    filter_, row = np.nonzero(filled)
    block_of = filter_ * blocks + row // ROWS_PER_BLOCK
    rank = np.arange(row.size) - (np.cumsum(count) - count)[block_of]
    slot = row // ROWS_PER_BLOCK * keep + rank
    nibbles[filter_, slot, 0] = row % ROWS_PER_BLOCK
    nibbles[filter_, slot, 1:] = form.table.nibbles(coef[filter_, row])


def _take_slots(
    coef: npt.NDArray[np.int8],
    nibbles: U8,
    form: WeightForm,
    first: int,
    kept: npt.NDArray[np.int64] | None,
) -> None:
    """Verify the nibbles (F, slots, P) of filters first... and write coef (F, R, S)."""
    f, rows, _ = coef.shape
    table = form.table.table
    code = nibbles[:, :, 1:] if form.indexed else nibbles
    legal = table != 0
    legal[0] = True
    if not legal[code].all():
        m, slot, plane = (int(i) for i in np.argwhere(~legal[code])[0])
        nibble = int(code[m, slot, plane])
        why = "is never used" if nibble == UNUSED_NIBBLE else "is a second zero of the table"
        raise bad(f"codes: filter {first + m}, slot {slot}, code {plane} is nibble {nibble}, which {why}")
    values = table[code]
    if not form.indexed:
        used = rows if kept is None else form.kept_rows
        _refuse(code[:, used:], first, f"codes: a slot beyond {used} is not zero")
        if kept is None:
            coef[:] = values[:, :rows]
        else:
            groups = (first + np.arange(f)) // form.group_filters
            np.put_along_axis(coef, kept[groups][:, :, None], values[:, : form.kept_rows], axis=1)
        return
    keep = ROWS_KEPT[form.pattern]
    used = -(-rows // ROWS_PER_BLOCK) * keep
    _refuse(nibbles[:, used:], first, f"codes: a slot beyond {used} is not zero")
    filled = code[:, :used].any(axis=2).reshape(f, -1, keep)
    index = nibbles[:, :used, 0].reshape(f, -1, keep)
    _refuse(index * ~filled, first, "codes: a slot without coefficients has a row index")
    _refuse(
        filled[..., 1:] & ~filled[..., :-1],
        first,
        "codes: an empty slot stands before a filled one of its block",
    )
    both = filled[..., 1:]
    _refuse((both & (index[..., 1:] == index[..., :-1])), first, "codes: a row is stored twice")
    _refuse(
        both & (index[..., 1:] < index[..., :-1]),
        first,
        "codes: the rows of a block are not in ascending order",
    )
    filter_, slots = np.nonzero(filled.reshape(f, used))
    row = slots // keep * ROWS_PER_BLOCK + nibbles[filter_, slots, 0].astype(np.int64)
    if row.size and row.max() >= rows:
        i = int(row.argmax())
        raise bad(
            f"codes: filter {first + int(filter_[i])}, slot {int(slots[i])} holds row {int(row[i])}",
            f"a row index < {rows}",
        )
    coef[filter_, row] = values[filter_, slots]


def _kept_rows(weight: SDWeight) -> npt.NDArray[np.int64]:
    """Ascending kept rows of every group, (groups, kept_rows), canonically filled up."""
    form, rows = weight.form, weight.geometry.rows
    out: list[npt.NDArray[np.int64]] = []
    for first in range(0, weight.shape[0], form.group_filters):
        coef = weight.coef[first : first + form.group_filters]
        used = np.asarray(coef.any(axis=(0, 2)))
        n = int(used.sum())
        if n > form.kept_rows:
            raise bad(
                f"group {len(out)} has {n} non-zero rows",
                f"at most {form.kept_rows}",
                "raise kept_rows",
            )
        fill = np.flatnonzero(~used)[: form.kept_rows - n]
        out.append(np.sort(np.concatenate([np.flatnonzero(used), fill])))
    return np.stack(out).reshape(-1, min(form.kept_rows, rows)).astype(np.int64)


def _bitmap_of(kept: npt.NDArray[np.int64], rows: int) -> U8:
    """Bitmap uint8 (groups, ceil16(ceil(R/8))) of kept rows."""
    bits = np.zeros((kept.shape[0], ceil_to(-(-rows // 8), 16) * 8), dtype=np.uint8)
    np.put_along_axis(bits, kept, 1, axis=1)
    return np.packbits(bits, axis=1, bitorder="little")


def _kept_of(bitmap: U8, kept_rows: int) -> npt.NDArray[np.int64]:
    """Inverse of :func:`_bitmap_of`; the population was verified."""
    bits = np.unpackbits(bitmap, axis=1, bitorder="little")
    return np.nonzero(bits)[1].reshape(-1, kept_rows).astype(np.int64)


def _check_fill(coef: npt.NDArray[np.int8], kept: npt.NDArray[np.int64], group: int) -> None:
    """Kept rows that are zero in the whole group must be the lowest ones that were free."""
    for g, rows in enumerate(kept):
        used = np.asarray(coef[g * group : (g + 1) * group].any(axis=(0, 2)))
        empty = rows[~used[rows]]
        wanted = np.flatnonzero(~used)[: empty.size]
        if not np.array_equal(empty, wanted):
            raise bad(
                f"bitmap: group {g} is filled up with rows {empty[:4].tolist()}",
                f"the lowest free rows, {wanted[:4].tolist()}",
            )


def _refuse(wrong: npt.NDArray[Any], first: int, what: str) -> None:
    """Raise when an entry is true or non-zero; wrong (F, ...) starts at filter first."""
    if wrong.any():
        raise bad(f"{what} (filter {first + int(np.argwhere(wrong)[0, 0])})", "the layout of docs/weights.md")
