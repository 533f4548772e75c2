"""One float32 multiply-add against the integers, sum by sum, with another fused multiply-add."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

import layergen
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sd_tvm.numerics.bounds import accumulator_range
from sd_tvm.numerics.fixedpoint import mbqm
from sd_tvm.numerics.qp import pack_qp, unpack_qp
from sd_tvm.numerics.single import CENTRE, Places, Single, evaluate, single

LIMITS = {"uint8": (0, 255), "int8": (-128, 127)}


def one(multiplier: float, dtype: str, zero: int, low: int, high: int) -> np.ndarray:
    """Quantisation words of one filter."""
    m0, shift = layergen.multipliers(np.array([multiplier]))
    return pack_qp(np.zeros(1, np.int64), m0, shift, zero, low, high, pad_to_16=False)


def integers(words: np.ndarray, dtype: str, sums: np.ndarray) -> np.ndarray:
    f = unpack_qp(words, dtype)
    return np.clip(f["zp"] + mbqm(sums, f["m0"], f["shift"]), f["lo"], f["hi"])


def floats(found: Single, words: np.ndarray, dtype: str, sums: np.ndarray) -> np.ndarray:
    """What a kernel computes; the sum of the product and the constant is exact in 64 bits of fraction."""
    f = unpack_qp(words, dtype)
    exact = sums.astype(np.float32).astype(np.longdouble) * np.longdouble(found.factor[0])
    q = np.rint((exact + np.longdouble(found.constant[0])).astype(np.float32)).astype(np.int64)
    q = np.where(np.abs(q) < 2**31, q, -(2**31))  # what x86 makes of those
    if found.exception is not None:
        q = q - (sums == found.exception[0])
    return np.clip(np.clip(q, -128, 127) + CENTRE[dtype], f["lo"], f["hi"])


def check_filter(found: Single, words: np.ndarray, i: int, sums: np.ndarray) -> None:
    """One of many, of uint8 results."""
    assert found.exception is not None
    one = slice(i, i + 1)
    own = Single(found.factor[one], found.constant[one], found.exception[one])
    np.testing.assert_array_equal(
        floats(own, words[one], "uint8", sums), integers(words[one], "uint8", sums)
    )


def filter_of(seed: int) -> tuple[np.ndarray, str, int, int]:
    """Words, type, and a range of sums small enough to try them all."""
    rng = np.random.default_rng(seed)
    dtype = str(rng.choice(sorted(LIMITS)))
    least, most = LIMITS[dtype]
    zero, low, high = (int(v) for v in rng.integers(least, most + 1, 3))
    zero, high = (least if rng.random() < 0.5 else zero), (most if rng.random() < 0.7 else high)
    low = zero if rng.random() < 0.6 else least if rng.random() < 0.5 else low
    multiplier = float(rng.choice([0.0, 2e-7, 1e-4, 0.3, 0.7, 2.0, 11.0])) * rng.uniform(0.5, 1.0)
    if rng.random() < 0.2:
        high = min(low + 1, most)
    elif rng.random() < 0.8:
        multiplier = np.exp(rng.uniform(np.log(7e-4), np.log(0.05)))
    first = -int(rng.integers(1 << rng.integers(1, 18)))
    last = first + int(rng.integers(1 << rng.integers(1, 20)))
    return one(multiplier, dtype, zero, min(low, high), max(low, high)), dtype, first, last


SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=150, deadline=None)
@given(seed=SEEDS)
def test_the_same_for_all_sums(seed: int) -> None:
    words, dtype, first, last = filter_of(seed)
    found = single(words, dtype, np.array([first]), np.array([last]))
    if found is None:
        return
    sums = np.arange(first, last + 1)
    np.testing.assert_array_equal(floats(found, words, dtype, sums), integers(words, dtype, sums))


@settings(max_examples=100, deadline=None)
@given(seed=SEEDS, exceptions=st.booleans())
def test_what_is_proved_is_true(seed: int, exceptions: bool) -> None:
    """Factors and constants that are not searched for, many of them wrong."""
    words, dtype, first, last = filter_of(seed)
    rng = np.random.default_rng(seed)
    steps, shift = int(rng.integers(-20, 21)), rng.choice([0.5, 0.7, rng.uniform(-1.5, 1.5)])
    places = Places.of(words, dtype, np.array([first]), np.array([last]))
    factor = np.maximum(places.multiplier.astype(np.float32).view(np.int32) + steps, 0).view(np.float32)
    zero = unpack_qp(words, dtype)["zp"] - CENTRE[dtype]
    constant = (zero + shift * np.maximum(places.multiplier, 1e-4)).astype(np.float32)
    right, at = places.same(factor.astype(np.float64), constant.astype(np.float64), exceptions)
    form = Single(factor, constant, at.astype(np.int32) if exceptions else None)
    sums = np.arange(first, last + 1)
    same = np.array_equal(floats(form, words, dtype, sums), integers(words, dtype, sums))
    assert same or not right[0]
    assert exceptions or bool(right[0]) == same


def test_multipliers_of_networks() -> None:
    """Filters with ReLU6 and few rows; there is a form for all, of some with an exception."""
    rng, filters, most = np.random.default_rng(0), 64, 210_000
    m0, shift = layergen.multipliers(np.exp(rng.uniform(np.log(1.2e-3), np.log(0.1), filters)))
    words = pack_qp(np.zeros(filters, np.int64), m0, shift, 0, 0, 255)
    ends = np.full(filters, most)
    found = single(words, "uint8", -ends, ends)
    assert found is not None
    assert found.exception is not None
    sums, alone = np.arange(-most, most + 1), 0
    for i in range(filters):
        check_filter(found, words, i, sums)
        alone += abs(int(found.exception[i])) <= most
    assert alone > 0


@pytest.mark.parametrize(("m0", "shift"), [(2**31 - 1, 0), (2**31 - 1, 5)])
def test_results_that_int32_does_not_hold(m0: int, shift: int) -> None:
    """Sums whose float32 result is 2^31, though the exact one is less."""
    words = pack_qp(np.zeros(1, np.int64), np.array([m0]), np.array([shift]), 0, 0, 127, pad_to_16=False)
    most = (2**31 - 1) >> shift
    for last in (most, most - 64, most - 300):
        found = single(words, "int8", np.array([-1]), np.array([last]))
        sums = np.concatenate([np.arange(-1, 400), np.arange(last - 400, last + 1)])
        if found is not None:
            np.testing.assert_array_equal(floats(found, words, "int8", sums), integers(words, "int8", sums))
    assert single(words, "int8", np.array([-1]), np.array([most])) is None


def test_many_filters() -> None:
    """More than are looked at together: the exception of one is a field of all."""
    rng, filters = np.random.default_rng(3), 2200
    m0, shift = layergen.multipliers(rng.uniform(2.5e-3, 0.02, filters))
    words, ends = pack_qp(np.zeros(filters, np.int64), m0, shift, 0, 0, 255), np.full(filters, 70_000)
    found = single(words[:filters], "uint8", -ends, ends)
    assert found is not None
    assert found.exception is not None
    assert found.exception.shape == (filters,)
    for i in rng.integers(filters, size=20):
        check_filter(found, words, int(i), np.arange(-70_000, 70_001))
    words[2100] = pack_qp(np.zeros(1, np.int64), m0[:1], np.array([-18]), 0, 0, 255)[0]  # the last ones count
    ends[2100] = 1 << 27
    assert single(words[:filters], "uint8", -ends, ends) is None


@pytest.mark.parametrize(("multiplier", "zero"), [(1e-5, 0), (3e-3, 128)])
def test_there_is_none(multiplier: float, zero: int) -> None:
    """Too many sums a level, and roundings of both signs."""
    ends = np.array([1 << 25])
    assert single(one(multiplier, "uint8", zero, 0, 255), "uint8", -ends, ends) is None


@given(
    x=st.integers(-(2**31), 2**31 - 1), factor=st.floats(2**-20, 0.5, width=32), constant=st.floats(-256, 256)
)
def test_evaluation_is_fused(x: int, factor: float, constant: float) -> None:
    """Against fractions, wherever the result has 9 bits."""
    c = float(np.float32(np.rint(constant * 2.0**43) / 2.0**43))
    exact = Fraction(int(np.float32(x))) * Fraction(factor) + Fraction(c)
    if abs(exact) > 511:
        return
    assert Fraction(float(exact)) == exact
    assert evaluate(np.array([x]), np.array([factor]), np.array([c]))[0] == np.rint(np.float32(float(exact)))


@given(seed=SEEDS, dtype=st.sampled_from(["uint8", "int8"]))
def test_range_of_sums(seed: int, dtype: Literal["uint8", "int8"]) -> None:
    """Both ends are sums of some activations, and none is beyond."""
    rng = np.random.default_rng(seed)
    weight, bias = rng.integers(-300, 300, (3, 4, 1, 2)), rng.integers(-999, 999, 3)
    low, high = accumulator_range(weight, bias, dtype)
    info = np.iinfo(dtype)
    x = rng.integers(info.min, info.max + 1, (50, 8))
    flat = weight.reshape(3, 8)
    for row, b, least, most in zip(flat, bias, low, high, strict=True):
        sums = x @ row + b
        assert least <= sums.min()
        assert sums.max() <= most
        assert least == np.where(row > 0, info.min, info.max) @ row + b
        assert most == np.where(row > 0, info.max, info.min) @ row + b
