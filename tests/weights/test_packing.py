"""Packed weights: equal to a plain transcription of the document, canonical, and verified."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from weights.reference import pack_slowly, random_weight, weights

from sd_tvm.errors import FormatError, RecipeError, SDError
from sd_tvm.weights.packing import pack_raw, pack_sd, packed_nbytes, unpack_raw, unpack_sd
from sd_tvm.weights.tensor import RawWeight, SDWeight, WeightForm

Arrays = dict[str, np.ndarray[Any, Any]]


def same(a: SDWeight, b: SDWeight) -> bool:
    """Equality of every field."""
    return (a.shape, a.form) == (b.shape, b.form) and all(
        np.array_equal(getattr(a, k), getattr(b, k)) for k in ("coef", "basis", "scale", "ids")
    )


@settings(max_examples=200, deadline=None)
@given(weights())
def test_packing_is_the_document(weight: SDWeight) -> None:
    packed, slow = pack_sd(weight), pack_slowly(weight)
    assert list(packed) == list(slow)
    for name, array in slow.items():
        assert packed[name].dtype == array.dtype, name
        np.testing.assert_array_equal(packed[name], array, err_msg=name)
    assert same(unpack_sd(packed, weight.shape, weight.form, weight.scale), weight)
    total = sum(a.nbytes for a in packed.values()) + weight.scale.nbytes
    assert packed_nbytes(weight.shape, weight.form, len(weight.basis)) == total


@settings(max_examples=300, deadline=None)
@given(weights(), st.data())
def test_a_changed_byte_is_refused_or_is_another_canonical_weight(
    weight: SDWeight, data: st.DataObject
) -> None:
    packed = {k: v.copy() for k, v in pack_sd(weight).items()}
    flat = packed[data.draw(st.sampled_from(sorted(packed)))].reshape(-1).view(np.uint8)
    flat[data.draw(st.integers(0, flat.size - 1))] ^= data.draw(st.integers(1, 255))
    try:
        got = unpack_sd(packed, weight.shape, weight.form, weight.scale)
    except FormatError:
        return
    again = pack_sd(got)
    assert all(np.array_equal(again[k], packed[k]) for k in packed)


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 9),
    st.sampled_from([(1, 1), (3, 3), (1, 7)]),
    st.integers(0, 2**32 - 1),
)
def test_raw_round_trip(m: int, c: int, kernel: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    raw = RawWeight(
        rng.integers(-127, 128, (m, c, *kernel)).astype(np.int8), rng.random(m).astype(np.float32) + 1
    )
    packed = pack_raw(raw)
    assert packed.nbytes + raw.scale.nbytes == packed_nbytes(raw.shape, None)
    flat = raw.values.reshape(m, -1)
    for i in range(packed.shape[0] * 16):
        assert np.array_equal(packed[i // 16, :, i % 16], flat[i] if i < m else np.zeros(flat.shape[1]))
    got = unpack_raw(packed, raw.shape, raw.scale)
    assert np.array_equal(got.values, raw.values)
    assert np.array_equal(got.scale, raw.scale)


# -- kinds of damage, each refused with its own words -------------------------------------------

DENSE = random_weight((5, 20, 1, 1), WeightForm(), 0, 1)  # 7 rows, 8 slots
COEF_4_16 = np.zeros((2, 20, 3), np.int8)
COEF_4_16[:, [1, 4, 17], :] = [1, -2, 3]
N4 = SDWeight(
    (2, 20, 1, 3),
    WeightForm(pattern="4:16", alphabet="pow2-5", basis_kind="codebook"),
    np.where(COEF_4_16 == 3, 4, COEF_4_16).astype(np.int8),
    np.ones((3, 3, 3), np.int8),
    np.ones(2, np.float32),
    np.array([0, 2], np.uint8),
)
SHARED = dataclasses.replace(
    N4,
    form=WeightForm(pattern="shared", kept_rows=5, group_filters=16),
    coef=COEF_4_16,
    basis=np.ones((2, 3, 3), np.int8),
    ids=None,
)  # rows 1, 4, 17 and, to fill up, 0 and 2


def put(name: str, index: Any, value: int) -> Callable[[Arrays], None]:
    """Damage: set one byte of a packed array."""

    def damage(arrays: Arrays) -> None:
        arrays[name][index] = value

    return damage


def swap_slots(arrays: Arrays) -> None:
    """The first two slots of filter 0 (4:16, 4 planes, lanes 0 and 1) change places."""
    unit = arrays["codes"][0, 0]
    unit[[0, 1, 32, 33]] = unit[[1, 0, 33, 32]]


def repeat_slot(arrays: Arrays) -> None:
    unit = arrays["codes"][0, 0]
    unit[[1, 33]] = unit[[0, 32]]


def empty_first_slot(arrays: Arrays) -> None:
    arrays["codes"][0, 0, [0, 32]] = 0


def other_fill(arrays: Arrays) -> None:
    """Keep row 3 instead of row 2, both empty."""
    arrays["bitmap"][0, 0] ^= 0b1100


def drop(name: str) -> Callable[[Arrays], None]:
    def damage(arrays: Arrays) -> None:
        del arrays[name]

    return damage


def recast(name: str, change: Callable[[np.ndarray[Any, Any]], Any]) -> Callable[[Arrays], None]:
    def damage(arrays: Arrays) -> None:
        arrays[name] = change(arrays[name])

    return damage


DAMAGE: dict[str, tuple[SDWeight, Callable[[Arrays], None], str]] = {
    "unused nibble": (
        DENSE,
        put("codes", (0, 0, 0), 8),
        "filter 0, slot 0, code 0 is nibble 8, which is never",
    ),
    "second zero": (N4, put("codes", (0, 0, 0), 0x61), "nibble 6, which is a second zero"),
    "slot beyond the rows": (DENSE, put("codes", (0, 1, 3), 1), "slot beyond 7 is not zero (filter 0)"),
    "filter beyond the last": (
        DENSE,
        put("codes", (0, 0, 20), 1),
        "filter beyond the last has non-zero bytes (filter 5)",
    ),
    "row beyond the last": (N4, put("codes", (0, 1, 0), 0x14), "filter 0, slot 4 holds row 20"),
    "row twice": (N4, repeat_slot, "a row is stored twice (filter 0)"),
    "descending rows": (N4, swap_slots, "not in ascending order (filter 0)"),
    "hole before a slot": (N4, empty_first_slot, "an empty slot stands before"),
    "index of an empty slot": (
        N4,
        put("codes", (0, 0, 2), 3),
        "without coefficients has a row index (filter 0)",
    ),
    "basis padding": (DENSE, put("basis", (1, 9), 1), "basis: a padding byte is 1 (entry 1)"),
    "ids padding": (N4, put("ids", 2, 1), "ids: a padding byte"),
    "id of no basis": (N4, put("ids", 1, 3), "filter 1 uses basis 3 of a codebook of 3"),
    "table": (DENSE, put("table", 3, 7), "table [0, 1, 2, 7"),
    "bitmap padding": (SHARED, put("bitmap", (0, 2), 0x12), "bitmap: a padding byte"),
    "bitmap population": (SHARED, put("bitmap", (0, 0), 0xFF), "bitmap of group 0 keeps 9 rows"),
    "bitmap fill": (SHARED, other_fill, "filled up with rows [0, 3]"),
    "missing array": (N4, drop("ids"), "arrays ['basis', 'codes', 'table']"),
    "surplus array": (DENSE, lambda a: a.update(ids=np.zeros(16, np.uint8)), "'ids'"),
    "codes shape": (DENSE, recast("codes", lambda a: a[:, :1]), "codes is uint8 (1, 1, 48)"),
    "codes type": (DENSE, recast("codes", lambda a: a.view(np.int8)), "codes is int8"),
    "basis count": (DENSE, recast("basis", lambda a: a[:4]), "basis is int8 (4, 16)"),
    "no array": (DENSE, recast("basis", lambda a: a.tolist()), "basis is a list"),
    "codebook too large": (
        N4,
        recast("basis", lambda a: np.repeat(a, 100, axis=0)),
        "a codebook of 300 bases",
    ),
    "codebook empty": (N4, recast("basis", lambda a: a[:0]), "basis is int8 (0, 16)"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named(name: str) -> None:
    weight, damage, words = DAMAGE[name]
    arrays = {k: v.copy() for k, v in pack_sd(weight).items()}
    assert same(unpack_sd(arrays, weight.shape, weight.form, weight.scale), weight)
    damage(arrays)
    with pytest.raises(FormatError, match=re.escape(words)):
        unpack_sd(arrays, weight.shape, weight.form, weight.scale)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_scales_are_positive_and_finite(value: float) -> None:
    scale = np.array([1, 1, value, 1, 1], np.float32)
    with pytest.raises(FormatError, match="scale of filter 2"):
        unpack_sd(pack_sd(DENSE), DENSE.shape, DENSE.form, scale)


BAD_FORMS: dict[str, tuple[WeightForm, str]] = {
    "pattern": (WeightForm(pattern="3:16"), "unknown row pattern '3:16'"),  # type: ignore[arg-type]
    "alphabet": (WeightForm(alphabet="x"), "unknown alphabet 'x'"),
    "basis kind": (WeightForm(basis_kind="x"), "unknown basis kind 'x'"),  # type: ignore[arg-type]
    "slice rows": (WeightForm(basis_kind="slice", slice_rows=24), "slice_rows 24"),
    "no slice rows": (WeightForm(basis_kind="slice"), "slice_rows 0"),
    "slice rows of a filter basis": (WeightForm(slice_rows=16), "slice_rows 16 with"),
    "kept rows": (
        WeightForm(pattern="shared", kept_rows=8, group_filters=16),
        "kept_rows 8 is not within 1..7",
    ),
    "group": (WeightForm(pattern="shared", kept_rows=1, group_filters=24), "group_filters 24"),
    "large group": (WeightForm(pattern="shared", kept_rows=1, group_filters=256), "group_filters 256"),
    "kept rows elsewhere": (WeightForm(kept_rows=1), "kept_rows or group_filters"),
}


@pytest.mark.parametrize("name", BAD_FORMS)
def test_forms_are_checked(name: str) -> None:
    form, words = BAD_FORMS[name]
    for call in (
        lambda: pack_sd(dataclasses.replace(DENSE, form=form)),
        lambda: unpack_sd(pack_sd(DENSE), DENSE.shape, form, DENSE.scale),
        lambda: packed_nbytes(DENSE.shape, form, 1),
    ):
        with pytest.raises(FormatError, match=re.escape(words)):
            call()


@pytest.mark.parametrize("shape", [(0, 1, 1, 1), (1, 1, 1), (1, 1, 1, 1.0)])
def test_shapes_are_checked(shape: Any) -> None:
    with pytest.raises(FormatError, match="not four positive integers"):
        packed_nbytes(shape, None)


def test_pack_refuses_what_a_pattern_cannot_hold() -> None:
    coef = N4.coef.copy()
    coef[1, :8] = 1
    with pytest.raises(FormatError, match="filter 1, block 0 has 8 non-zero rows"):
        pack_sd(dataclasses.replace(N4, coef=coef))
    with pytest.raises(FormatError, match="group 0 has 9 non-zero rows"):
        pack_sd(dataclasses.replace(SHARED, coef=coef))
    with pytest.raises(RecipeError, match="not in alphabet"):
        pack_sd(dataclasses.replace(N4, coef=np.where(N4.coef == 4, 3, N4.coef).astype(np.int8)))


def test_pack_refuses_arrays_that_do_not_fit() -> None:
    for change in (
        {"coef": DENSE.coef[:4]},
        {"basis": DENSE.basis.astype(np.int16)},
        {"ids": np.zeros(5, np.uint8)},
        {"scale": np.zeros(5, np.float32)},
    ):
        with pytest.raises(FormatError):
            pack_sd(dataclasses.replace(DENSE, **change))  # type: ignore[arg-type]


def test_raw_damage() -> None:
    raw = RawWeight(np.ones((5, 2, 1, 1), np.int8), np.ones(5, np.float32))
    for index, value, words in (((0, 1, 7), 1, "beyond the last"), ((0, 1, 2), -128, "-128")):
        packed = pack_raw(raw)
        packed[index] = value
        with pytest.raises(FormatError, match=words):
            unpack_raw(packed, raw.shape, raw.scale)
    with pytest.raises(FormatError, match="w8 is"):
        unpack_raw(pack_raw(raw), (5, 3, 1, 1), raw.scale)
    raw.values[3] = -128
    with pytest.raises(FormatError, match="filter 3 holds -128"):
        pack_raw(raw)


def test_codebook_size_needs_its_number() -> None:
    with pytest.raises(SDError, match="pass n_bases"):
        packed_nbytes((4, 4, 1, 1), WeightForm(basis_kind="codebook"))


def test_worked_example_of_the_document() -> None:
    """One filter, 3x1 rows (1, 0, 0), (0, -2, 3), 16:16: bytes worked out by hand."""
    coef = np.array([[[1, 0, 0], [0, -2, 3]]], np.int8)
    weight = SDWeight((1, 2, 1, 3), WeightForm(), coef, np.zeros((1, 3, 3), np.int8), np.ones(1, np.float32))
    unit = pack_sd(weight)["codes"].ravel()
    assert unit.size == 48
    assert {int(i): int(unit[i]) for i in np.flatnonzero(unit)} == {0: 0x01, 1: 0xA0, 33: 0x03}
