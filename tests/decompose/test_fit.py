"""Code search against brute force; the data-free fit keeps its form and its promised quality."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import decompose.search_reference as reference
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sd_tvm.decompose import native
from sd_tvm.decompose.basis8 import relative_error
from sd_tvm.decompose.fit import fit, keep_rows
from sd_tvm.decompose.search import BRANCHES, EXACT, levels_of, search_codes
from sd_tvm.errors import FormatError, NumericsError
from sd_tvm.weights.alphabet import ALPHABETS
from sd_tvm.weights.packing import pack_sd, unpack_sd
from sd_tvm.weights.tensor import SDWeight, WeightForm


@pytest.mark.parametrize("alphabet", sorted(ALPHABETS))
def test_nearest_level(alphabet: str) -> None:
    levels = levels_of(alphabet)
    x = np.linspace(-80, 80, 4001, dtype=np.float32)
    x = x[np.abs(x * 2 - np.rint(x * 2)) > 1e-3]  # away from ties
    distance = np.abs(x[:, None] - levels.values)
    entry = levels.entry(x)
    for rank in range(3):
        np.testing.assert_allclose(
            np.abs(levels.ranked[rank][entry] - x), np.sort(distance, axis=1)[:, rank], rtol=1e-6
        )
    assert levels.nearest(np.float32([1e9, -1e9])).tolist() == [levels.values.max(), levels.values.min()]


@settings(max_examples=30)
@given(
    st.sampled_from(sorted(ALPHABETS)),
    st.integers(1, 3),
    st.sampled_from([0.05, 0.5, 3.0]),
    st.integers(0, 2**32 - 1),
)
def test_exact_search_is_brute_force(alphabet: str, s: int, skew: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    levels = levels_of(alphabet)
    basis = np.eye(s) + skew * rng.normal(size=(3, s, s))
    target = rng.normal(size=(3, 7, s)) * 3
    every = np.array(list(itertools.product(levels.values, repeat=s)))
    found = search_codes(target, basis, levels, EXACT)
    for i in range(3):
        best = ((target[i][:, None] - every @ basis[i]) ** 2).sum(axis=2).min(axis=1)
        np.testing.assert_allclose(
            ((target[i] - found[i] @ basis[i]) ** 2).sum(axis=1), best, rtol=1e-9, atol=1e-12
        )


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(ALPHABETS)),
    st.integers(1, 8),
    st.sampled_from([np.float32, np.float64]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_search_is_that_of_numpy(
    alphabet: str, s: int, dtype: type[np.floating[Any]], kept: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    levels = levels_of(alphabet)
    basis = (np.eye(s) + rng.choice([0.1, 0.6]) * rng.normal(size=(4, s, s))).astype(dtype)
    target = (rng.normal(size=(4, 30, s)) * 3).astype(dtype)
    current = rng.choice(levels.values, target.shape).astype(dtype) if kept else None
    found = search_codes(target, basis, levels, BRANCHES, current)
    slow = reference.search(target, basis, levels, BRANCHES, current)
    assert found.dtype == dtype
    same = (found == slow).all(axis=2)
    errors = [((target - c @ basis) ** 2).sum(axis=2) for c in (found, slow)]
    np.testing.assert_allclose(*errors, rtol=1e-4 if dtype == np.float32 else 1e-10)
    assert same.mean() > 0.97, "but for ties"


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(sorted(ALPHABETS)),
    st.integers(2, 5),
    st.integers(1, 60),
    st.integers(0, 2**32 - 1),
)
def test_fit_of_slices_is_that_of_numpy(alphabet: str, s: int, rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    levels = levels_of(alphabet)
    slices = (rng.standard_t(4, size=(5, rows, s)) * 0.05).astype(np.float32)
    slices[2] = 0
    factors = np.linspace(0.35, 1.05, 15)
    error = [
        np.linalg.norm(slices - coef @ basis)
        for coef, basis in (
            native.fit_slices(slices, levels, BRANCHES, factors, 3),
            reference.fit_slices(slices, levels, BRANCHES, factors, 3),
        )
    ]
    assert error[0] == pytest.approx(error[1], rel=0.02, abs=1e-5 * float(np.linalg.norm(slices)))


def test_quick_search_is_exact_for_a_nearly_orthogonal_basis() -> None:
    rng = np.random.default_rng(0)
    basis = np.eye(3) + 0.1 * rng.normal(size=(10, 3, 3))
    target = rng.normal(size=(10, 200, 3)) * 3
    levels = levels_of("two-term")
    quick, exact = search_codes(target, basis, levels), search_codes(target, basis, levels, EXACT)
    assert (quick == exact).all(axis=2).mean() > 0.999


def test_search_keeps_what_is_better_and_survives_a_singular_basis() -> None:
    rng = np.random.default_rng(1)
    basis = rng.normal(size=(4, 5, 5))
    basis[1, 2] = basis[1, 0]
    basis[2] = 0
    true = rng.integers(-6, 7, (4, 30, 5)).astype(np.float64)
    levels = levels_of("two-term")
    found = search_codes(true @ basis, basis, levels, current=true)
    np.testing.assert_allclose(found @ basis, true @ basis, atol=1e-9)
    assert np.isfinite(search_codes(true @ basis, basis, levels)).all()


FORMS = [
    WeightForm(),
    WeightForm(alphabet="pow2-7"),
    WeightForm(alphabet="pow2-5", pattern="8:16"),
    WeightForm(pattern="4:16", basis_kind="codebook"),
    WeightForm(pattern="2:16", basis_kind="slice", slice_rows=16),
    WeightForm(basis_kind="slice", slice_rows=32),
    WeightForm(basis_kind="codebook"),
    WeightForm(pattern="shared", kept_rows=2, group_filters=16),
]


@settings(max_examples=60)
@given(
    st.sampled_from(FORMS),
    st.integers(1, 40),
    st.integers(1, 20),
    st.sampled_from([(1, 1), (3, 3), (1, 3), (5, 5), (7, 7), (3, 1), (1, 9), (2, 8)]),
    st.sampled_from([0.0, 1e-30, 1.0, 1e8]),
    st.integers(0, 2**32 - 1),
)
def test_every_form_and_kernel_packs(
    form: WeightForm, m: int, c: int, kernel: tuple[int, int], size: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    w = (rng.laplace(size=(m, c, *kernel)) * size).astype(np.float32)
    w[rng.integers(m)] = 0
    if form.pattern == "shared":
        rows = SDWeight((m, c, *kernel), form, *[None] * 3).geometry.rows  # type: ignore[arg-type]
        form = dataclasses.replace(form, kept_rows=min(2, rows))
    fitted = fit(w, form, rounds=2)
    again = unpack_sd(pack_sd(fitted), fitted.shape, form, fitted.scale)
    assert np.array_equal(again.coef, fitted.coef)
    assert np.isfinite(fitted.dequantize()).all()
    kept = keep_rows((fitted.geometry.to_rows(w).astype(np.float64) ** 2).sum(axis=2), form)
    assert not fitted.coef[~kept].any()
    if size and size > 1e-20:
        masked = fitted.geometry.from_rows(fitted.geometry.to_rows(w) * kept[:, :, None])
        assert relative_error(masked, fitted) < 0.5


def test_better_than_the_step_sizes_of_a_plain_grid() -> None:
    """Gaussian weights, 64 rows of three a filter: errors measured here; int4 per filter gives 0.113."""
    w = np.random.default_rng(3).normal(size=(64, 192, 1, 1)).astype(np.float32)
    bound = {"two-term": 0.105, "pow2-7": 0.175, "pow2-5": 0.175}
    bound |= {"levels9": 0.16, "levels7": 0.195, "levels5": 0.26, "ternary": 0.41}
    for alphabet, limit in bound.items():
        assert relative_error(w, fit(w, WeightForm(alphabet=alphabet))) < limit
    book = relative_error(w, fit(w, WeightForm(basis_kind="codebook")))
    one = relative_error(w, fit(w, WeightForm(basis_kind="codebook"), n_bases=1))
    assert book < one < 0.125


def test_an_exact_weight_is_found_again() -> None:
    rng = np.random.default_rng(4)
    coef = rng.choice([0, 1, -1, 2, -2, 3, 4, 5, -6, 8], (8, 50, 3))
    w = (coef * rng.uniform(0.01, 0.02, (8, 1, 1))).reshape(8, 150, 1, 1).astype(np.float32)
    assert relative_error(w, fit(w, WeightForm())) < 5e-3


def test_rows_of_largest_energy_are_kept() -> None:
    score = np.arange(40.0)[None].repeat(17, axis=0)
    keep = keep_rows(score, WeightForm(pattern="2:16"))
    assert np.flatnonzero(keep[0]).tolist() == [14, 15, 30, 31, 38, 39]
    keep = keep_rows(score, WeightForm(pattern="shared", kept_rows=3, group_filters=16))
    assert np.flatnonzero(keep[16]).tolist() == [37, 38, 39]


def test_codebook_has_no_more_bases_than_asked() -> None:
    w = np.random.default_rng(5).normal(size=(40, 30, 1, 1)).astype(np.float32)
    fitted = fit(w, WeightForm(basis_kind="codebook"), n_bases=5)
    assert len(fitted.basis) <= 5


def test_refused_weights() -> None:
    w = np.ones((2, 3, 1, 1), np.float32)
    with pytest.raises(FormatError):
        fit(w[0], WeightForm())
    w[1, 1] = np.nan
    with pytest.raises(NumericsError, match="not finite"):
        fit(w, WeightForm())


def test_the_same_result_twice() -> None:
    w = np.random.default_rng(6).normal(size=(20, 30, 3, 3)).astype(np.float32)
    a, b = (fit(w, WeightForm(basis_kind="codebook")) for _ in range(2))
    assert np.array_equal(a.coef, b.coef)
    assert np.array_equal(a.basis, b.basis)
