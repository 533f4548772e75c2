"""Ranges and quantisation parameters: exact extremes, sensible clips, zero exactly represented."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sd_tvm.calibration.ranges import BINS, Range
from sd_tvm.errors import CalibrationError, UnsupportedDTypeError
from sd_tvm.numerics.qparams import INTEGERS, QParams, choose_qparams


def seen(*arrays: np.ndarray) -> Range:
    r = Range()
    for a in arrays:
        r.add(a.astype(np.float32), "v")
    return r


@settings(max_examples=100)
@given(
    st.floats(-1e6, 1e6, width=32),
    st.floats(0, 1e6, width=32),
    st.sampled_from(["uint8", "int8"]),
)
def test_qparams_cover_the_range_and_zero(lo: float, width: float, dtype: str) -> None:
    hi = lo + width
    q = choose_qparams(lo, hi, dtype)  # type: ignore[arg-type]
    first, last = INTEGERS[dtype]
    assert first <= q.zero_point <= last
    assert q.scale > 0
    assert float(np.float32(q.scale)) == q.scale
    assert q.dtype == dtype
    low, high = q.range
    # rounding the zero point moves the range by at most half a step, float32 the scale by a little
    slack = 0.5001 * q.scale + 1e-6 * max(abs(lo), abs(hi))
    assert low <= min(lo, 0.0) + slack
    assert high >= max(hi, 0.0) - slack
    assert min(abs(q.scale * (i - q.zero_point)) for i in range(first, last + 1)) == 0


@pytest.mark.parametrize(
    ("lo", "hi", "dtype", "wanted"),
    [
        (0.0, 6.0, "uint8", QParams(float(np.float32(6 / 255)), 0, "uint8")),
        (0.0, 6.0, "int8", QParams(float(np.float32(6 / 255)), -128, "int8")),
        (-1.0, 3.0, "uint8", QParams(float(np.float32(4 / 255)), 64, "uint8")),
        (-3.0, -1.0, "uint8", QParams(float(np.float32(3 / 255)), 255, "uint8")),
        (2.0, 2.0, "uint8", QParams(float(np.float32(2 / 255)), 0, "uint8")),
    ],
)
def test_known_qparams(lo: float, hi: float, dtype: str, wanted: QParams) -> None:
    assert choose_qparams(lo, hi, dtype) == wanted  # type: ignore[arg-type]


def test_a_value_that_is_always_zero() -> None:
    q = choose_qparams(0.0, 0.0)
    assert q.scale > 0
    assert q.zero_point == 0


@pytest.mark.parametrize(("lo", "hi"), [(np.nan, 1.0), (0.0, np.inf), (1.0, 0.0)])
def test_ranges_that_are_none(lo: float, hi: float) -> None:
    with pytest.raises(CalibrationError, match="activation range"):
        choose_qparams(lo, hi)


def test_other_types() -> None:
    with pytest.raises(UnsupportedDTypeError, match="int16"):
        choose_qparams(0.0, 1.0, "int16")  # type: ignore[arg-type]


def test_extremes_are_exact_whatever_the_sample() -> None:
    rng = np.random.default_rng(0)
    big = rng.normal(size=300_001)
    big[12345], big[299_999] = 40.0, -31.0
    assert seen(big, np.array([50.0])).range("minmax", 0, "uint8") == (-31.0, 50.0)


def test_percentile_is_near_numpys() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=20_000) * s for s in (0.1, 1.0, 3.0)]  # the histogram grows twice
    r = seen(*parts)
    values = np.concatenate(parts)
    lo, hi = r.range("percentile", 99.0, "uint8")
    width = 2 * r.half / BINS
    for got, wanted in ((lo, np.quantile(values, 0.01)), (hi, np.quantile(values, 0.99))):
        assert abs(got - wanted) <= 3 * width
    assert r.counts.sum() == values.size
    assert r.range("percentile", 100.0, "uint8") == (r.lo, r.hi)


@pytest.mark.parametrize("shape", ["outliers", "relu", "laplace", "skewed"])
def test_mse_clip_is_nearly_the_best_one(shape: str) -> None:
    rng = np.random.default_rng(1)
    values = {
        "outliers": lambda: np.concatenate([rng.normal(size=50_000), rng.normal(size=50) * 20]),
        "relu": lambda: np.maximum(rng.normal(size=50_000), 0) ** 2,
        "laplace": lambda: rng.laplace(size=50_000),
        "skewed": lambda: rng.gamma(2.0, size=50_000) - 1,
    }[shape]().astype(np.float32)
    r = seen(values)

    def error(lo: float, hi: float) -> float:
        q = choose_qparams(lo, hi)
        x = np.clip(np.rint(values / q.scale) + q.zero_point, 0, 255)
        return float((((x - q.zero_point) * q.scale - values) ** 2).mean())

    grid = np.linspace(0.1, 1.0, 19)
    best = min(error(a * r.lo, b * r.hi) for a in grid for b in grid)
    assert error(*r.range("mse", 0, "uint8")) <= 1.1 * best


def test_mse_keeps_a_range_without_outliers() -> None:
    lo, hi = seen(np.linspace(0, 6, 5000)).range("mse", 0, "uint8")
    assert lo == 0.0
    assert hi > 5.9


def test_values_that_are_always_zero_have_a_range() -> None:
    for method in ("minmax", "percentile", "mse"):
        assert seen(np.zeros(10)).range(method, 99.0, "uint8") == (0.0, 0.0)  # type: ignore[arg-type]


def test_clips_stay_within_what_was_seen() -> None:
    r = seen(np.linspace(-2, 5, 1000))
    for method in ("percentile", "mse"):
        lo, hi = r.range(method, 99.9, "uint8")  # type: ignore[arg-type]
        assert -2 <= lo < hi <= 5


def test_bad_options_and_values() -> None:
    r = seen(np.arange(9))
    with pytest.raises(CalibrationError, match="percentile 40"):
        r.range("percentile", 40, "uint8")
    with pytest.raises(CalibrationError, match="range method 'max'"):
        r.range("max", 0, "uint8")  # type: ignore[arg-type]
    with pytest.raises(CalibrationError, match="'v' becomes NaN or infinite"):
        seen(np.array([1.0, np.nan]))


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse"])
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("value", [0.7, -0.7, 1e-3, 3e4])
def test_values_that_are_all_equal(value: float, dtype: str, method: Any) -> None:
    seen = Range()
    seen.add(np.full((3, 5), value, np.float32), "x")
    lo, hi = seen.range(method, 99.9, dtype)
    assert lo <= hi
    assert max(hi, -lo) == pytest.approx(abs(value), rel=1e-3)


@given(st.floats(0.9, 1.0), st.integers(1, 400), st.booleans())
def test_values_of_one_sign_give_a_range_in_order(low: float, count: int, negative: bool) -> None:
    seen = Range()
    values = np.array([low] * count + [1.0], np.float32)
    seen.add(-values if negative else values, "x")
    lo, hi = seen.range("mse", 99.9, "uint8")
    assert lo <= hi
    assert max(hi, -lo) == pytest.approx(low, abs=0.11)
