"""Rows as numbers, the way a file stores them: one number a row instead of one nibble a coefficient.

With L levels a row of S coefficients is one of L^S, which takes ceil(log2(L^S)) bits: 7 for three
coefficients of five levels, where nibbles take 12. Only the file stores this (``docs/weights.md``); reading
gives the ``codes`` that kernels and accelerator use. In between are *digits*, a row's number in base L, and
*places*, which rows of each block of an N:16 pattern are stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm.weights.alphabet import Alphabet
from sd_tvm.weights.packing import from_tiles, to_tiles
from sd_tvm.weights.rows import RowGeometry
from sd_tvm.weights.tensor import ROWS_KEPT, WeightForm
from sd_tvm.weights.verify import Shape, bad, check_array

U8 = npt.NDArray[np.uint8]
#: From this many rows of a block on, 16 bits that say which are cheaper than a 4-bit index for each.
_MASK_FROM = 4
_CHUNK_ROWS = 1 << 18  # a multiple of 8, so that every piece is whole bytes


def row_bits(alphabet: Alphabet, s: int) -> int:
    """Bits of a row of s coefficients: ceil(log2(levels^s))."""
    return int(alphabet.n_levels**s - 1).bit_length()


def places_nbytes(shape: Shape, form: WeightForm) -> int:
    """Bytes of the places (0 for patterns without an index)."""
    return shape[0] * RowGeometry(shape).blocks * _place_bytes(form)


def digits_shape(shape: Shape, form: WeightForm) -> tuple[int, int, int]:
    """Shape of the digits: filters, stored rows, S."""
    geometry = RowGeometry(shape)
    return shape[0], _used_slots(form, geometry), geometry.s


def rows_nbytes(shape: Shape, form: WeightForm) -> int:
    """Bytes of :func:`pack_rows`."""
    m, used, s = digits_shape(shape, form)
    return places_nbytes(shape, form) + -(-m * used * row_bits(form.table, s) // 8)


def digits_of(codes: U8, shape: Shape, form: WeightForm) -> tuple[U8, U8]:
    """Places and digits of packed codes.

    Parameters
    ----------
    codes
        uint8 (ceil(M/8), slots/4, 16*planes), as :func:`sd_tvm.weights.packing.pack_sd` makes them.
    shape, form
        Of the weight.

    Returns
    -------
    tuple
        uint8 (places_nbytes,) and uint8 :func:`digits_shape`.
    """
    m, used, s = digits_shape(shape, form)
    nibbles = from_tiles(codes, form.planes(s))[:m, :used]
    if not form.indexed:
        return np.zeros(0, dtype=np.uint8), _digit_of_nibble(form.table)[nibbles]
    digits = _digit_of_nibble(form.table)[nibbles[..., 1:]]
    return _places_of(nibbles[..., 0], np.asarray(digits.any(axis=2)), form), digits


def codes_of(places: U8, digits: U8, shape: Shape, form: WeightForm) -> U8:
    """Inverse of :func:`digits_of`.

    Whether the codes are those of a weight is for :func:`sd_tvm.weights.packing.unpack_sd` to verify.

    Raises
    ------
    FormatError
        If a digit is not one of the alphabet, or the places do not go with the rows.
    """
    m, used, s = digits_shape(shape, form)
    levels = form.table.n_levels
    if (digits >= levels).any():
        filter_, slot, k = (int(i) for i in np.argwhere(digits >= levels)[0])
        raise bad(f"rows: filter {filter_}, slot {slot}, digit {k} is {int(digits[filter_, slot, k])}")
    nibbles = np.zeros((-(-m // 8) * 8, form.slots(RowGeometry(shape)), form.planes(s)), dtype=np.uint8)
    nibbles[:m, :used, nibbles.shape[2] - s :] = _nibbles_in_use(form.table)[digits]
    if form.indexed:
        filled = digits.any(axis=2).reshape(m, -1, ROWS_KEPT[form.pattern])
        nibbles[:m, :used, 0] = _index_of(places, filled, form).reshape(m, used)
    return to_tiles(nibbles)


def pack_rows(places: U8, digits: U8, form: WeightForm) -> U8:
    """Places, then the rows' numbers bit by bit: uint8 (rows_nbytes,)."""
    s, levels = digits.shape[2], form.table.n_levels
    weights = levels ** np.arange(s, dtype=np.uint32)
    numbers = (digits.reshape(-1, s) * weights).sum(axis=1, dtype=np.uint32)
    bits = row_bits(form.table, s)
    return np.concatenate([places, *(_to_bits(numbers[part], bits) for part in _pieces(numbers.size))])


def unpack_rows(rows: U8, shape: Shape, form: WeightForm) -> tuple[U8, U8]:
    """Inverse of :func:`pack_rows`.

    Raises
    ------
    FormatError
        If the array has another type or length, a number is none of a row, or the last byte is not padded
        with zeros.
    """
    check_array("rows", rows, np.uint8, (rows_nbytes(shape, form),))
    m, used, s = digits_shape(shape, form)
    head, bits, levels = places_nbytes(shape, form), row_bits(form.table, s), form.table.n_levels
    numbers = np.empty(m * used, dtype=np.uint32)
    for part in _pieces(numbers.size):
        numbers[part] = _from_bits(rows[head + part.start * bits // 8 :], part.stop - part.start, bits)
    wrong = np.flatnonzero(numbers > levels**s - 1)
    if wrong.size:
        filter_, slot = divmod(int(wrong[0]), used)
        number = int(numbers[wrong[0]])
        raise bad(f"rows: filter {filter_}, slot {slot} is number {number}", f"less than {levels**s}")
    if numbers.size * bits % 8 and rows[-1] >> numbers.size * bits % 8:
        raise bad(f"rows: the last byte is {int(rows[-1])}", "zero bits after the last row")
    digits = np.empty((numbers.size, s), dtype=np.uint8)
    for k in range(s):
        numbers, digits[:, k] = np.divmod(numbers, np.uint32(levels))
    return rows[:head], digits.reshape(m, used, s)


def _used_slots(form: WeightForm, geometry: RowGeometry) -> int:
    """Stored rows of a filter, without padding."""
    if form.pattern == "16:16":
        return geometry.rows
    return form.kept_rows if form.pattern == "shared" else geometry.blocks * ROWS_KEPT[form.pattern]


def _place_bytes(form: WeightForm) -> int:
    """Bytes of each block that say which of its rows are stored."""
    if not form.indexed:
        return 0
    return 2 if ROWS_KEPT[form.pattern] >= _MASK_FROM else ROWS_KEPT[form.pattern] // 2


def _places_of(index: U8, filled: npt.NDArray[np.bool_], form: WeightForm) -> U8:
    """Which rows are stored: a mask of 16 bits a block, or the index nibbles, two a byte."""
    keep = ROWS_KEPT[form.pattern]
    index = index.reshape(-1, keep)
    if keep < _MASK_FROM:
        return np.ascontiguousarray(index[:, 0::2] | index[:, 1::2] << 4).reshape(-1)
    bit = np.left_shift(filled.reshape(-1, keep), index, dtype=np.uint16)
    mask: U8 = bit.sum(axis=1, dtype=np.uint16).astype("<u2").view(np.uint8)
    return mask


def _index_of(places: U8, filled: npt.NDArray[np.bool_], form: WeightForm) -> U8:
    """Index nibbles (M, blocks, keep) of rows whose numbers are not zero where filled."""
    keep = ROWS_KEPT[form.pattern]
    if keep < _MASK_FROM:
        pairs = places.reshape(*filled.shape[:2], keep // 2)
        index: U8 = np.stack([pairs & 15, pairs >> 4], axis=3).reshape(filled.shape)
        return index
    bits = np.unpackbits(places.reshape(*filled.shape[:2], 2), axis=2, bitorder="little")
    count = bits.sum(axis=2)
    wrong = (count[..., None] > np.arange(keep)) != filled
    wrong[..., 0] |= count > keep
    if wrong.any():
        m, block, _ = (int(i) for i in np.argwhere(wrong)[0])
        raise bad(
            f"rows: filter {m}, block {block} marks {int(count[m, block])} rows of which "
            f"{int(filled[m, block].sum())} of {keep} are stored",
            "a stored row, not zero, for every mark, the stored ones first",
        )
    order = np.argsort(1 - bits, axis=2, kind="stable")[..., :keep]
    return np.asarray(np.where(filled, order, 0), dtype=np.uint8)


def _nibbles_in_use(alphabet: Alphabet) -> U8:
    """Nibble of each digit: 0, +1, -1, +2, -2, ... by the places of the magnitudes in the table."""
    places = [i for i, magnitude in enumerate(alphabet.magnitudes) if magnitude]
    return np.array([0, *(i + sign for i in places for sign in (0, 8))], dtype=np.uint8)


def _digit_of_nibble(alphabet: Alphabet) -> U8:
    """Digit of each nibble, uint8 (16,); 0 for those not in use."""
    in_use = _nibbles_in_use(alphabet)
    digits = np.zeros(16, dtype=np.uint8)
    digits[in_use] = np.arange(in_use.size)
    return digits


def _pieces(n: int) -> Iterator[slice]:
    for start in range(0, n, _CHUNK_ROWS):
        yield slice(start, min(start + _CHUNK_ROWS, n))


def _to_bits(numbers: npt.NDArray[np.uint32], bits: int) -> U8:
    """Numbers one after the other, lowest bit first."""
    each = numbers.astype("<u4").view(np.uint8).reshape(-1, 4)
    out: U8 = np.packbits(np.unpackbits(each, axis=1, count=bits, bitorder="little"), bitorder="little")
    return out


def _from_bits(data: U8, n: int, bits: int) -> npt.NDArray[Any]:
    """The first n numbers; what follows is ignored."""
    data = data[: -(-n * bits // 8)]
    each = np.unpackbits(data, count=n * bits, bitorder="little").reshape(n, bits)
    return np.packbits(np.pad(each, ((0, 0), (0, 32 - bits))), axis=1, bitorder="little").view("<u4")[:, 0]
