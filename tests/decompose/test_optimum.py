"""The solver against the best there is, where all can be tried, and against its plain transcription."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from decompose import calibrated_reference as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from sd_tvm.decompose.calibrated import fit_calibrated
from sd_tvm.decompose.fit import fit, real_bases
from sd_tvm.decompose.search import levels_of
from sd_tvm.decompose.weighted import Problem, descend, feedback
from sd_tvm.weights.tensor import WeightForm

Array = np.ndarray[Any, Any]


def hessian_of(rng: np.random.Generator, k: int, positions: int = 60) -> Array:
    x = rng.normal(size=(k, positions)) * rng.lognormal(sigma=0.5, size=(k, 1))
    x = (np.eye(k) + 0.5 * rng.normal(size=(k, k)) / np.sqrt(k)) @ x
    return x @ x.T / positions


def every_code(levels: Array, size: int) -> Array:
    """All coefficients of ``size`` elements."""
    return np.array(list(itertools.product(levels, repeat=size)), dtype=np.float64)


def least_loss(target: Array, h: Array, basis: Array, levels: Array, rows: int) -> float:
    """The smallest e H e^T over all codes of a filter of few rows."""
    s = basis.shape[0]
    codes = every_code(levels, rows * s).reshape(-1, rows, s)
    e = (codes @ basis).reshape(len(codes), -1) - target
    return float(np.einsum("ck,kl,cl->c", e, h, e, optimize=True).min())


def tiny(alphabet: str, rows: int, s: int, seed: int) -> tuple[Problem, Array]:
    """A problem of three filters, and bases (3, 1, S, S)."""
    rng = np.random.default_rng(seed)
    k = rows * s
    problem = Problem(
        hessian_of(rng, k)[None] + 0.1 * np.eye(k),
        rng.normal(size=(1, 3, k)),
        np.zeros(rows, dtype=np.int64),
        np.ones((3, rows), dtype=bool),
        levels_of(alphabet),
        s,
    )
    return problem, 0.7 * (np.eye(s) + 0.15 * rng.normal(size=(3, 1, s, s)))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["ternary", "levels5", "two-term"]), st.integers(2, 3), st.integers(0, 2**32 - 1))
def test_one_row_is_the_optimum(alphabet: str, s: int, seed: int) -> None:
    """Error feedback and descent alike choose the best of all codes of a filter of one row.

    The search tries three levels of the first two coefficients; all of them with three levels, and with more
    the bases here are orthogonal enough.
    """
    p, basis = tiny(alphabet, 1, s, seed)
    zero = np.zeros((3, 1, s))
    for coef in (feedback(p, basis), descend(p, zero, basis)):
        for m in range(3):
            best = least_loss(p.target[0, m], p.hessian[0], basis[m, 0], p.levels.values, 1)
            e = coef[m, 0] @ basis[m, 0] - p.target[0, m]
            assert e @ p.hessian[0] @ e == pytest.approx(best, rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([("ternary", 3), ("levels5", 2)]), st.integers(0, 2**32 - 1))
def test_two_rows_are_near_the_optimum(case: tuple[str, int], seed: int) -> None:
    """No codes are better by more than a bound, no codes of one row alone are better at all."""
    alphabet, s = case
    p, basis = tiny(alphabet, 2, s, seed)
    coef = feedback(p, basis)
    for _ in range(4):
        coef = descend(p, coef, basis)
    best = [least_loss(p.target[0, m], p.hessian[0], basis[m, 0], p.levels.values, 2) for m in range(3)]
    found = p.loss(coef, basis)
    assert sum(best) <= found * (1 + 1e-9)
    assert found <= 1.5 * sum(best), "a local optimum, but no bad one"
    for m, row in itertools.product(range(3), range(2)):
        for codes in every_code(p.levels.values, s):
            other = coef.copy()
            other[m, row] = codes
            assert p.loss(other, basis) >= found * (1 - 1e-9)


def test_two_rows_are_mostly_the_optimum() -> None:
    ratios = []
    for seed in range(60):
        p, basis = tiny("ternary", 2, 3, seed)
        coef = descend(p, feedback(p, basis), basis)
        best = [least_loss(p.target[0, m], p.hessian[0], basis[m, 0], p.levels.values, 2) for m in range(3)]
        ratios.append(p.loss(coef, basis) / sum(best))
    assert np.mean(np.array(ratios) < 1 + 1e-9) > 0.5
    assert np.mean(ratios) < 1.05


@pytest.mark.parametrize("seed", range(5))
def test_descent_is_that_of_plain_loops(seed: int) -> None:
    p, basis = tiny("ternary", 4, 3, seed)
    start = feedback(p, basis)
    found = descend(p, start, basis)
    for m in range(3):
        plain = reference.Filter(p.target[0, m], p.hessian[0], [-1, 0, 1], 3)
        assert np.array_equal(found[m], plain.descend(start[m], basis[m, 0]))


@pytest.mark.parametrize(("alphabet", "seed"), [*itertools.product(["ternary"], range(6)), ("levels5", 0)])
def test_calibrated_fit_is_its_transcription(alphabet: str, seed: int) -> None:
    """Three levels, of which the search leaves none out, so that both must find the same."""
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(3, 12, 1, 1)).astype(np.float32)
    h = hessian_of(rng, 12)
    cross = w[:, :, 0, 0] @ h + 0.1 * rng.normal(size=(3, 12))
    levels = levels_of(alphabet).values.astype(int).tolist()
    codes, bases, _ = reference.fit(w[:, :, 0, 0], h, cross, levels, 3, damping=0.1, ridge=1.0)
    found = fit_calibrated(w, WeightForm(alphabet=alphabet), h[None], cross=cross, damping=0.1, ridge=1.0)
    assert np.array_equal(found.coef, codes)
    assert np.array_equal(found.basis, bases)


@pytest.mark.parametrize("seed", range(4))
def test_data_free_fit_is_its_transcription(seed: int) -> None:
    """The same codes but for ties, so the same error; the last search, for the rounded basis, is in both."""
    w = np.random.default_rng(seed).normal(size=(3, 30, 1, 1)).astype(np.float32)
    found = fit(w, WeightForm(alphabet="ternary"))
    for m in range(3):
        row = w[m, :, 0, 0].astype(np.float64)
        plain = reference.Filter(row, np.eye(30), [-1, 0, 1], 3)
        _, basis = plain.start()
        _, (real,) = reference.to_8_bits([basis])
        final = plain._search(row.reshape(10, 3), real)
        ours = plain.loss(found.coef[m].astype(np.float64), real_bases(found)[m, 0])
        assert ours == pytest.approx(plain.loss(final, real), rel=1e-5)
