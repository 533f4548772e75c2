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
from weights.reference import random_weight, store_slowly, weights

from sd_tvm.errors import FormatError
from sd_tvm.weights.stored import STORAGES, Storage, restore, store, stored_names, stored_nbytes
from sd_tvm.weights.tensor import RawWeight, SDWeight, WeightForm

Arrays = dict[str, np.ndarray[Any, Any]]


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
@given(weights(), st.sampled_from(STORAGES), st.data())
def test_a_changed_byte_is_refused_or_is_another_canonical_weight(
    weight: SDWeight, storage: Storage, data: st.DataObject
) -> None:
    stored = {k: v.copy() for k, v in store(weight, storage).items()}
    flat = stored[data.draw(st.sampled_from(sorted(stored)))].reshape(-1).view(np.uint8)
    flat[data.draw(st.integers(0, flat.size - 1))] ^= data.draw(st.integers(1, 255))
    try:
        got = restore(stored, weight.shape, weight.form, storage)
    except FormatError:
        return
    again = store(got, storage)
    assert all(np.array_equal(again[k], stored[k]) for k in stored)


@settings(max_examples=150, deadline=None)
@given(weights())
def test_entropy_storage_round_trips(weight: SDWeight) -> None:
    stored = store(weight, "entropy")
    assert set(stored) == set(stored_names(weight.form, "entropy"))
    assert same(weight, restore(stored, weight.shape, weight.form, "entropy"))
    frames = 3 * (4 + 1)
    assert (
        sum(a.nbytes for a in stored.values())
        <= frames + sum(a.nbytes for a in store(weight).values()) + weight.coef.size
    )  # never much larger: an incompressible array is stored as bytes


def test_a_large_layer_goes_in_pieces() -> None:
    """More rows than are coded at once; bits of 7 over the seams."""
    weight = random_weight((3000, 300, 1, 1), WeightForm(alphabet="levels5"), 0, 3)
    stored = store(weight)
    assert stored["rows"].nbytes == -(-3000 * 100 * 7 // 8)
    assert same(weight, restore(stored, weight.shape, weight.form))


@pytest.mark.parametrize(
    ("alphabet", "bits"),
    [("two-term", 12), ("pow2-5", 11), ("levels9", 10), ("levels7", 9), ("levels5", 7), ("ternary", 5)],
)
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


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 9),
    st.sampled_from([(1, 1), (3, 3)]),
    st.sampled_from(STORAGES),
    st.integers(0, 2**32 - 1),
)
def test_int8_round_trip(m: int, c: int, kernel: tuple[int, int], storage: Storage, seed: int) -> None:
    rng = np.random.default_rng(seed)
    spread = rng.choice([0, 1, 20, 127])
    values = np.clip(np.rint(rng.normal(size=(m, c, *kernel)) * spread), -127, 127).astype(np.int8)
    raw = RawWeight(values, rng.random(m).astype(np.float32) + 1)
    stored = store(raw, storage)
    assert set(stored) == set(stored_names(None, storage))
    if storage == "plain":
        assert np.array_equal(stored["w8"], values.reshape(m, -1))
        assert stored_nbytes(raw.shape, None) == sum(a.nbytes for a in stored.values())
    got = restore(stored, raw.shape, None, storage)
    assert isinstance(got, RawWeight)
    assert np.array_equal(got.values, raw.values)
    assert np.array_equal(got.scale, raw.scale)


@pytest.mark.parametrize("storage", STORAGES)
def test_int8_damage(storage: Storage) -> None:
    raw = RawWeight(np.full((5, 2, 1, 1), 3, np.int8), np.ones(5, np.float32))
    stored = store(raw, storage)
    with pytest.raises(FormatError):
        restore(stored, (5, 3, 1, 1), None, storage) if storage == "plain" else restore(
            {**stored, "coded": stored["coded"][:2]}, raw.shape, None, storage
        )
    name = "w8" if storage == "plain" else "coded"
    wrong = np.full((5, 2), -128, np.int8) if storage == "plain" else np.array([1, 128, 0], np.uint8)
    with pytest.raises(FormatError, match="-128"):
        restore({**stored, name: wrong}, raw.shape, None, storage)
