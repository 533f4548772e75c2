"""The batched official algorithm equals a plain transcription, and converts to the weight form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from decompose.official_reference import decompose
from hypothesis import given, settings
from hypothesis import strategies as st

from sd_tvm.decompose.basis8 import relative_error
from sd_tvm.decompose.official import (
    OFFICIAL_SLICES,
    OfficialOptions,
    decompose_official,
    decompose_slices,
    nearest_power_of_two,
    official_slice_rows,
    prune_shared_rows,
)
from sd_tvm.errors import FormatError, RecipeError
from sd_tvm.weights.packing import pack_sd, unpack_sd
from sd_tvm.weights.rows import RowGeometry


@settings(max_examples=40)
@given(
    st.integers(1, 5),
    st.integers(1, 40),
    st.integers(2, 5),
    st.sampled_from([0.02, 0.3, 5.0]),
    st.sampled_from([4e-3, 0.05, 0.5]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([2, 3, 30]),
    st.integers(0, 2**32 - 1),
)
def test_equal_to_the_transcription(
    n: int, rows: int, s: int, size: float, theta: float, by_row: bool, scaled: bool, passes: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    w = rng.laplace(size=(n, rows, s)) * size
    w[rng.random((n, rows)) < 0.1] = 0
    w[0, :, rng.integers(s)] *= rng.integers(2)  # sometimes an all-zero column
    options = OfficialOptions(theta=theta, column_scale=scaled, iterations=passes)
    got = decompose_slices(w, options, prune_rows=by_row)
    for i in range(n):
        if not w[i].any():
            assert not got.ce[i].any()
            continue
        ce, b, used = decompose(w[i], theta, iterations=passes, row_threshold=by_row, column_scale=scaled)
        assert got.theta[i] == pytest.approx(used)
        np.testing.assert_allclose(got.ce[i], ce, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(got.ce[i] @ got.basis[i], ce @ b, rtol=1e-7, atol=1e-9 * size)


def test_a_column_that_vanishes_restarts_with_a_smaller_theta() -> None:
    w = np.random.default_rng(0).normal(size=(1, 30, 3))
    w[:, :, 1] *= 1e-4
    got = decompose_slices(w, OfficialOptions(theta=0.02))
    _, _, used = decompose(w[0], 0.02)
    assert got.theta[0] == pytest.approx(used)
    assert got.theta[0] < 0.02
    assert got.ce[0].any(axis=0).all()


def test_padding_with_zero_rows_changes_nothing() -> None:
    w = np.random.default_rng(1).normal(size=(4, 20, 3))
    a, b = decompose_slices(w), decompose_slices(np.pad(w, ((0, 0), (0, 9), (0, 0))))
    np.testing.assert_allclose(a.ce, b.ce[:, :20], rtol=1e-12)
    np.testing.assert_allclose(a.basis, b.basis, rtol=1e-9)


def test_quality_of_the_notes() -> None:
    """Relative Frobenius error on 192x3 Gaussian slices: 0.183 measured with the official code."""
    w = np.random.default_rng(2).normal(size=(60, 192, 3))
    got = decompose_slices(w)
    error = np.linalg.norm(w - got.ce @ got.basis) / np.linalg.norm(w)
    assert error == pytest.approx(0.183, abs=0.006)


def test_rounding_switches_at_one_and_a_half() -> None:
    x = np.array([0.0, 1.0, 1.49, 1.5, 1.51, 2.0, 3.0, 3.01, 0.75, 0.76])
    assert nearest_power_of_two(x).tolist() == [0, 1, 1, 1, 2, 2, 2, 4, 0.5, 1]


def test_slicing_table() -> None:
    for size, (n, rows) in OFFICIAL_SLICES.items():
        assert n * rows * 3 >= size
        expected = 0 if n == 1 else -(-rows // 16) * 16
        assert official_slice_rows((4, size, 1, 1)) == expected
    assert official_slice_rows((4, 64, 3, 3)) == 0
    assert official_slice_rows((4, 128, 3, 3)) == 192


@pytest.mark.parametrize("shape", [(6, 70, 3, 3), (5, 2048, 1, 1), (3, 7, 5, 5), (4, 1, 3, 3), (2, 5, 1, 9)])
@pytest.mark.parametrize("fraction", [0.0, 0.5])
def test_conversion_to_the_weight_form(shape: tuple[int, int, int, int], fraction: float) -> None:
    w = (np.random.default_rng(3).laplace(size=shape) * 0.05).astype(np.float32)
    w[0] = 0
    fitted = decompose_official(w, pruned_fraction=fraction)
    again = unpack_sd(pack_sd(fitted), shape, fitted.form, fitted.scale)
    assert np.array_equal(again.coef, fitted.coef)
    assert not fitted.dequantize()[0].any()
    kept = (
        w
        if not fraction
        else fitted.geometry.from_rows(prune_shared_rows(fitted.geometry.to_rows(w), fraction))
    )
    assert relative_error(kept, fitted) < 0.3


def test_exact_slicing_keeps_the_reconstruction() -> None:
    """Where the window holds every exponent, only the 8-bit rounding of B is added."""
    w = np.random.default_rng(4).normal(size=(8, 64, 3, 3)).astype(np.float32)
    rows = RowGeometry(w.shape).to_rows(w).astype(np.float64)
    options = OfficialOptions(theta=0.2)
    real = decompose_slices(rows, options, prune_rows=True)
    fitted = decompose_official(w, options=options)
    assert np.array_equal(fitted.coef != 0, real.ce != 0)
    error = np.abs(fitted.geometry.to_rows(fitted.dequantize()) - real.ce @ real.basis).max()
    assert error < 3 * 64 * float(fitted.scale.max()) / 2


def test_refused_options() -> None:
    w = np.ones((2, 3, 3, 3), np.float32)
    with pytest.raises(RecipeError, match="consecutive powers of two"):
        decompose_official(w, alphabet="two-term")
    with pytest.raises(RecipeError, match="max_c"):
        decompose_official(w, options=replace(OfficialOptions(), max_c=30.0))
    with pytest.raises(RecipeError, match="pruned fraction 1"):
        decompose_official(w, pruned_fraction=1.0)
    with pytest.raises(FormatError, match="slice_rows 8"):
        decompose_official(w, slice_rows=8)


def test_pruning_is_shared_by_32_filters() -> None:
    rows = np.random.default_rng(5).normal(size=(70, 20, 3))
    out = prune_shared_rows(rows, 0.4)
    for first in (0, 32, 64):
        group = rows[first : first + 32]
        gone = set(np.argsort(np.abs(group).sum(axis=(0, 2)))[:8].tolist())
        for r in range(20):
            assert out[first : first + 32, r].any() == (r not in gone)
