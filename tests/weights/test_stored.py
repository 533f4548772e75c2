"""What a file stores of a weight: equal to a plain transcription of the document, canonical, verified."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from weights.reference import KEPT, pack_slowly, random_weight, weights

from sd_tvm.errors import FormatError
from sd_tvm.weights.alphabet import ALPHABETS
from sd_tvm.weights.packing import pack_raw
from sd_tvm.weights.stored import restore, store, stored_names, stored_nbytes
from sd_tvm.weights.tensor import RawWeight, SDWeight, WeightForm

Arrays = dict[str, np.ndarray[Any, Any]]
FEW = ["levels9", "levels7", "levels5", "ternary"]


def store_slowly(weight: SDWeight) -> Arrays:
    """The arrays of a file by plain loops; bits are kept as a text of 0 and 1, lowest first."""
    form, (m_all, r_all, s) = weight.form, weight.coef.shape
    packed = pack_slowly(weight)
    out = {name: packed[name] for name in packed if name not in ("codes", "table")} | {"scale": weight.scale}
    if form.alphabet not in FEW:
        return {**out, "codes": packed["codes"]}
    levels = [0]
    for magnitude in ALPHABETS[form.alphabet].magnitudes[1:]:
        levels += [magnitude, -magnitude] if magnitude else []
    bits = 0
    while 2**bits < len(levels) ** s:
        bits += 1

    def number(m: int, r: int) -> str:
        value = sum(levels.index(int(c)) * len(levels) ** k for k, c in enumerate(weight.coef[m, r]))
        return "".join(str(value >> i & 1) for i in range(bits))

    places, rows = "", ""
    for m in range(m_all):
        if form.pattern == "16:16":
            rows += "".join(number(m, r) for r in range(r_all))
        elif form.pattern == "shared":
            bitmap = packed["bitmap"][m // form.group_filters]
            rows += "".join(number(m, r) for r in range(r_all) if bitmap[r // 8] >> r % 8 & 1)
        else:
            keep = KEPT[form.pattern]
            for first in range(0, r_all, 16):
                here = [r for r in range(first, min(first + 16, r_all)) if weight.coef[m, r].any()]
                if keep == 2:
                    index = [r - first for r in here] + [0] * (keep - len(here))
                    places += "".join(str(i >> b & 1) for i in index for b in range(4))
                else:
                    places += "".join("1" if first + b in here else "0" for b in range(16))
                rows += "".join(number(m, r) for r in here) + "0" * bits * (keep - len(here))
    text = places + rows + "0" * (-len(rows) % 8)
    out["rows"] = np.array([int(text[i : i + 8][::-1], 2) for i in range(0, len(text), 8)], np.uint8)
    out["basis"] = packed["basis"][:, : s * s]
    if "bitmap" in out:
        out["bitmap"] = out["bitmap"][:, : (r_all + 7) // 8]
    if "ids" in out:
        out["ids"] = out["ids"][:m_all]
    return out


def same(a: SDWeight, b: Any) -> bool:
    """Equality of every field."""
    return (a.shape, a.form) == (b.shape, b.form) and all(
        np.array_equal(getattr(a, k), getattr(b, k)) for k in ("coef", "basis", "scale", "ids")
    )


@settings(max_examples=200, deadline=None)
@given(weights())
def test_stored_arrays_are_the_document(weight: SDWeight) -> None:
    stored, slow = store(weight), store_slowly(weight)
    assert set(stored) == set(slow) == set(stored_names(weight.form))
    for name, array in slow.items():
        assert stored[name].dtype == array.dtype, name
        np.testing.assert_array_equal(stored[name], array, err_msg=name)
    assert same(weight, restore(stored, weight.shape, weight.form))
    total = sum(a.nbytes for a in stored.values())
    assert stored_nbytes(weight.shape, weight.form, len(weight.basis)) == total


@settings(max_examples=300, deadline=None)
@given(weights(FEW), st.data())
def test_a_changed_byte_is_refused_or_is_another_canonical_weight(
    weight: SDWeight, data: st.DataObject
) -> None:
    stored = {k: v.copy() for k, v in store(weight).items()}
    flat = stored[data.draw(st.sampled_from(sorted(stored)))].reshape(-1).view(np.uint8)
    flat[data.draw(st.integers(0, flat.size - 1))] ^= data.draw(st.integers(1, 255))
    try:
        got = restore(stored, weight.shape, weight.form)
    except FormatError:
        return
    again = store(got)
    assert all(np.array_equal(again[k], stored[k]) for k in stored)


def test_a_large_layer_goes_in_pieces() -> None:
    """More rows than are coded at once; bits of 7 over the seams."""
    weight = random_weight((3000, 300, 1, 1), WeightForm(alphabet="levels5"), 0, 3)
    stored = store(weight)
    assert stored["rows"].nbytes == -(-3000 * 100 * 7 // 8)
    assert same(weight, restore(stored, weight.shape, weight.form))


@pytest.mark.parametrize(("alphabet", "bits"), [*zip(FEW, (10, 9, 7, 5), strict=True)])
def test_bits_of_a_row_of_three(alphabet: str, bits: int) -> None:
    form = WeightForm(alphabet=alphabet, basis_kind="codebook")
    shape = (64, 192, 1, 1)
    assert stored_nbytes(shape, form, 1) == 64 * 64 * bits // 8 + 9 + 64 + 4 * 64


def test_worked_example_of_the_document() -> None:
    """levels5, rows (1, 0, -2) and (0, 2, 0): numbers 1 + 4*25 = 101 and 3*5 = 15, 14 bits."""
    coef = np.array([[[1, 0, -2], [0, 2, 0]]], np.int8)
    form = WeightForm(alphabet="levels5")
    weight = SDWeight((1, 2, 1, 3), form, coef, np.ones((1, 3, 3), np.int8), np.ones(1, np.float32))
    assert store(weight)["rows"].tolist() == [101 | (15 << 7) & 0xFF, 15 >> 1]
    half = dataclasses.replace(weight, form=WeightForm("8:16", "levels5"))
    assert store(half)["rows"].tolist() == [0b11, 0, 101 | (15 << 7) & 0xFF, 15 >> 1, 0, 0, 0, 0, 0]


DENSE = random_weight((5, 20, 1, 1), WeightForm(alphabet="levels5"), 0, 1)  # 7 rows: 35 rows, 245 bits
QUARTER = SDWeight(
    (2, 20, 1, 3),
    WeightForm(pattern="4:16", alphabet="ternary", basis_kind="codebook"),
    np.repeat(np.isin(np.arange(20), [1, 4, 17])[None, :, None], 2, axis=0).repeat(3, axis=2).astype(np.int8),
    np.ones((3, 3, 3), np.int8),
    np.ones(2, np.float32),
    np.array([0, 2], np.uint8),
)  # four blocks of 2 bytes, then 16 rows of 5 bits
EIGHTH = dataclasses.replace(
    QUARTER, form=dataclasses.replace(QUARTER.form, pattern="2:16")
)  # four blocks of 1 byte, then 8 rows
SHARED = dataclasses.replace(
    QUARTER, form=WeightForm("shared", "ternary", "codebook", kept_rows=5, group_filters=16)
)


def change(name: str, index: Any, value: int) -> Callable[[Arrays], None]:
    def damage(arrays: Arrays) -> None:
        arrays[name][index] = value

    return damage


def recast(name: str, function: Callable[[np.ndarray[Any, Any]], Any]) -> Callable[[Arrays], None]:
    def damage(arrays: Arrays) -> None:
        arrays[name] = function(arrays[name])

    return damage


DAMAGE: dict[str, tuple[SDWeight, Callable[[Arrays], None], str]] = {
    "number too large": (DENSE, change("rows", 0, 127), "rows: filter 0, slot 0 is number 127"),
    "bits after the last row": (
        DENSE,
        recast("rows", lambda a: np.append(a[:-1], a[-1:] | 128)),
        "zero bits after",
    ),
    "too short": (DENSE, recast("rows", lambda a: a[:-1]), "rows is uint8 (30,)"),
    "another type": (DENSE, recast("rows", lambda a: a.view(np.int8)), "rows is int8"),
    "basis with padding": (DENSE, recast("basis", lambda a: np.pad(a, ((0, 0), (0, 7)))), "basis is int8"),
    "too many marks": (QUARTER, change("rows", 0, 0xFF), "filter 0, block 0 marks 8 rows of which 2 of 4"),
    "a mark without a row": (QUARTER, change("rows", 0, 0b10011), "block 0 marks 3 rows of which 2"),
    "a row without a mark": (QUARTER, change("rows", 0, 0b10), "block 0 marks 1 rows of which 2"),
    "a mark beyond the rows": (QUARTER, change("rows", slice(2, 4), [0, 1]), "holds row 24"),
    "an index twice": (EIGHTH, change("rows", 0, 0x11), "a row is stored twice (filter 0)"),
    "descending indices": (EIGHTH, change("rows", 0, 0x14), "not in ascending order"),
    "ids with padding": (QUARTER, recast("ids", lambda a: np.pad(a, (0, 14))), "ids is uint8 (16,)"),
    "id of no basis": (QUARTER, change("ids", 1, 3), "filter 1 uses basis 3"),
    "bitmap beyond the rows": (SHARED, change("bitmap", (0, 2), 0x12), "bitmap: a padding byte"),
    "bitmap of too few": (SHARED, change("bitmap", (0, 0), 1), "bitmap of group 0 keeps"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named(name: str) -> None:
    weight, damage, words = DAMAGE[name]
    arrays = {k: v.copy() for k, v in store(weight).items()}
    assert same(weight, restore(arrays, weight.shape, weight.form))
    damage(arrays)
    with pytest.raises(FormatError, match=re.escape(words)):
        restore(arrays, weight.shape, weight.form)


def test_int8_is_stored_as_it_is_used() -> None:
    raw = RawWeight(np.ones((5, 2, 1, 1), np.int8), np.ones(5, np.float32))
    stored = store(raw)
    assert np.array_equal(stored["w8"], pack_raw(raw))
    assert stored_nbytes(raw.shape, None) == sum(a.nbytes for a in stored.values())
    got = restore(stored, raw.shape, None)
    assert isinstance(got, RawWeight)
    assert np.array_equal(got.values, raw.values)
