"""Fixed point against gemmlowp's C code in exact Python integers, and against exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sd_tvm.errors import NumericsError
from sd_tvm.numerics.fixedpoint import (
    mbqm,
    quantize_multiplier,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
)

INT32 = st.integers(-(2**31) + 1, 2**31 - 1)
M0 = st.one_of(st.just(0), st.integers(2**30, 2**31 - 1))


# gemmlowp fixedpoint/fixedpoint.h and TFLite's MultiplyByQuantizedMultiplier (doubling), line by line.


def c_div(a: int, b: int) -> int:
    """C's integer division: towards zero."""
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


def c_high_mul(a: int, b: int) -> int:
    overflow = a == b and a == -(2**31)
    ab_64 = a * b
    nudge = (1 << 30) if ab_64 >= 0 else (1 - (1 << 30))
    ab_x2_high32 = c_div(ab_64 + nudge, 1 << 31)
    return 2**31 - 1 if overflow else ab_x2_high32


def c_divide_by_pot(x: int, exponent: int) -> int:
    assert 0 <= exponent <= 31
    mask = (1 << exponent) - 1
    remainder = x & mask
    threshold = (mask >> 1) + (1 if x < 0 else 0)
    return (x >> exponent) + (1 if remainder > threshold else 0)


def c_mbqm(x: int, multiplier: int, shift: int) -> int:
    left_shift = shift if shift > 0 else 0
    right_shift = 0 if shift > 0 else -shift
    return c_divide_by_pot(c_high_mul(x * (1 << left_shift), multiplier), right_shift)


def array(*values: int) -> np.ndarray:
    """int64 array."""
    return np.array(values, dtype=np.int64)


@settings(max_examples=1000)
@given(INT32, M0)
@example(2**31 - 1, 2**31 - 1)
@example(-(2**31) + 1, 2**31 - 1)
@example(1, 2**30)  # exactly one half
@example(-1, 2**30)
def test_high_mul(a: int, m0: int) -> None:
    got = int(saturating_rounding_doubling_high_mul(array(a), array(m0))[0])
    assert got == c_high_mul(a, m0)
    # What gemmlowp's nudge and truncation mean: to the nearest, exact halves up.
    assert got == math.floor(Fraction(a * m0, 2**31) + Fraction(1, 2))


@settings(max_examples=1000)
@given(INT32, st.integers(0, 31))
@example(2**31 - 1, 31)
@example(-(2**31) + 1, 31)
@example(-(2**30), 31)
def test_divide_by_pot(x: int, exponent: int) -> None:
    got = int(rounding_divide_by_pot(array(x), array(exponent))[0])
    assert got == c_divide_by_pot(x, exponent)
    # To the nearest, exact halves away from zero.
    magnitude = math.floor(Fraction(abs(x), 2**exponent) + Fraction(1, 2))
    assert got == (magnitude if x >= 0 else -magnitude)


@st.composite
def operands(draw: st.DrawFn) -> tuple[int, int, int]:
    """(x, m0, shift) whose left shift stays in int32."""
    shift = draw(st.integers(-31, 30))
    limit = (2**31 - 1) >> max(shift, 0)
    return draw(st.integers(-limit, limit)), draw(M0), shift


@settings(max_examples=2000)
@given(operands())
def test_mbqm(case: tuple[int, int, int]) -> None:
    x, m0, shift = case
    assert int(mbqm(array(x), m0, shift)[0]) == c_mbqm(x, m0, shift)


def test_mbqm_on_arrays_broadcasts_filters() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(-(2**20), 2**20, (4, 3, 5)).astype(np.int32)
    m0 = rng.integers(2**30, 2**31, 4)
    shift = rng.integers(-12, 5, 4)
    got = mbqm(x, m0[:, None, None], shift[:, None, None])
    assert got.dtype == np.int64
    for index in np.ndindex(*x.shape):
        assert got[index] == c_mbqm(int(x[index]), int(m0[index[0]]), int(shift[index[0]]))


@pytest.mark.parametrize(("x", "shift"), [(2**30, 1), (-(2**31), 0), (2, 30), (-(2**30) - 1, 1)])
def test_mbqm_refuses_what_leaves_int32(x: int, shift: int) -> None:
    with pytest.raises(NumericsError, match="leaves int32"):
        mbqm(array(x), 2**30, shift)
    assert mbqm(array((2**31 - 1) >> shift), 2**30, shift).size == 1


@settings(max_examples=1000)
@given(st.floats(min_value=2.0**-32, max_value=2.0**30, exclude_max=True))
@example(1.0)
@example(0.5)
@example(2.0**-32)
@example(1 - 2.0**-53)  # rounds up to the next power of two
def test_quantize_multiplier_is_accurate(real: float) -> None:
    try:
        m0, shift = quantize_multiplier(real)
    except NumericsError:
        assert real > 2.0**30 * (1 - 2.0**-32)  # rounds up to 2^30
        return
    assert 2**30 <= m0 < 2**31
    assert -31 <= shift <= 30
    exact = Fraction(real)
    value = Fraction(m0) * Fraction(2) ** (shift - 31)
    assert abs(value - exact) <= exact * Fraction(1, 2**31)


@given(st.floats(min_value=0.0, max_value=2.0**-32, exclude_max=True))
def test_tiny_multipliers_are_zero(real: float) -> None:
    m0, shift = quantize_multiplier(real)
    value = Fraction(m0) * Fraction(2) ** (shift - 31)
    assert value in (0, Fraction(1, 2**32))
    assert abs(value - Fraction(real)) < Fraction(1, 2**32)


@pytest.mark.parametrize("real", [-1.0, -1e-30, math.inf, math.nan, 2.0**30, 1e300])
def test_impossible_multipliers_are_refused(real: float) -> None:
    with pytest.raises(NumericsError, match="multiplier") as caught:
        quantize_multiplier(real)
    assert caught.value.fix


@settings(max_examples=500)
@given(st.integers(-(2**23), 2**23), st.floats(min_value=2.0**-20, max_value=0.999))
def test_requantisation_is_within_one_of_the_real_number(x: int, real: float) -> None:
    """Two roundings and the multiplier's own error: never more than one from the exact product."""
    m0, shift = quantize_multiplier(real)
    assert abs(int(mbqm(array(x), m0, shift)[0]) - Fraction(real) * x) <= 1
