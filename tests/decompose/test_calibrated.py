"""Steps of the calibrated fit against plain transcriptions, and what the whole promises."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sd_tvm.decompose.basis8 import slice_of_rows
from sd_tvm.decompose.calibrated import fit_calibrated, wanted_weight
from sd_tvm.decompose.fit import fit, real_bases
from sd_tvm.decompose.search import levels_of
from sd_tvm.decompose.weighted import Problem, descend, feedback, refit
from sd_tvm.errors import CalibrationError, FormatError, NumericsError
from sd_tvm.weights.packing import pack_sd, unpack_sd
from sd_tvm.weights.rows import RowGeometry
from sd_tvm.weights.tensor import SDWeight, WeightForm

Matrix = np.ndarray[Any, Any]


def inputs(k: int, groups: int, seed: int, positions: int = 400, mix: float = 1.0) -> Matrix:
    """Correlated inputs (groups, K, positions)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(groups, k, positions)) * rng.lognormal(sigma=0.5, size=(groups, k, 1))
    return (np.eye(k) + mix * rng.normal(size=(groups, k, k)) / np.sqrt(k)) @ x


def moments(x: Matrix) -> Matrix:
    return x @ x.transpose(0, 2, 1) / x.shape[2]


def problem_of(form: WeightForm, shape: tuple[int, int, int, int], groups: int, seed: int) -> Problem:
    geometry = RowGeometry(shape)
    rng = np.random.default_rng(seed)
    k = geometry.rows * geometry.s
    w = geometry.to_rows(rng.normal(size=shape)).reshape(groups, -1, k)
    h = moments(inputs(k, groups, seed)) + 0.01 * np.eye(k)
    keep = np.ones((shape[0], geometry.rows), dtype=bool)
    return Problem(h, w, slice_of_rows(form, geometry), keep, levels_of(form.alphabet), geometry.s)


def output_error(fitted: SDWeight, want: Matrix, x: Matrix) -> float:
    """Relative error of the outputs; want (M, positions)."""
    rows = fitted.geometry.to_rows(fitted.dequantize().astype(np.float64))
    y = rows.reshape(x.shape[0], -1, x.shape[1]) @ x
    return float(np.linalg.norm(y.reshape(want.shape) - want) / np.linalg.norm(want))


def outputs(w: Matrix, x: Matrix) -> Matrix:
    rows = RowGeometry(w.shape).to_rows(w.astype(np.float64))
    return (rows.reshape(x.shape[0], -1, x.shape[1]) @ x).reshape(w.shape[0], -1)


def test_feedback_is_gptq_by_rows() -> None:
    """One filter at a time, the inverse updated by Gaussian elimination, rows chosen by brute force."""
    p = problem_of(WeightForm(), (3, 12, 1, 1), 1, 0)
    rng = np.random.default_rng(1)
    basis = 0.4 * (np.eye(3) + 0.1 * rng.normal(size=(3, 1, 3, 3)))
    every = np.array(list(itertools.product(p.levels.values, repeat=3)), dtype=np.float64)
    h = p.hessian[0]
    order = np.argsort(-np.diag(h).reshape(-1, 3).sum(axis=1), kind="stable")
    got = feedback(p, basis)
    for m in range(3):
        w, inverse = p.target[0, m].copy(), np.linalg.inv(h)
        left = list(range(12))
        for r in order:
            here = [left.index(3 * r + t) for t in range(3)]
            own = np.linalg.inv(inverse[np.ix_(here, here)])
            e = w[3 * r : 3 * r + 3] - every @ basis[m, 0]
            best = int(np.einsum("ci,ij,cj->c", e, own, e).argmin())
            assert got[m, r].tolist() == every[best].tolist()
            w[left] -= e[best] @ own @ inverse[here]
            inverse = inverse - inverse[:, here] @ own @ inverse[here]
            rest = [i for i in range(len(left)) if i not in here]
            inverse, left = inverse[np.ix_(rest, rest)], [left[i] for i in rest]


@settings(max_examples=15)
@given(
    st.sampled_from(
        [WeightForm(), WeightForm(basis_kind="slice", slice_rows=16), WeightForm(alphabet="pow2-5")]
    ),
    st.sampled_from([((6, 60, 1, 1), 1), ((4, 10, 3, 3), 2), ((5, 1, 3, 3), 5), ((4, 9, 1, 2), 1)]),
    st.integers(0, 2**32 - 1),
)
def test_steps_never_make_it_worse(
    form: WeightForm, layer: tuple[tuple[int, int, int, int], int], seed: int
) -> None:
    shape, groups = layer
    p = problem_of(form, shape, groups, seed)
    start = fit(p.target.reshape(-1, p.rows, p.s).reshape(shape[0], -1, 1, p.s), form, rounds=1)
    coef, basis = start.coef.astype(np.float64), real_bases(start)
    loss = p.loss(coef, basis)
    for _ in range(2):
        coef = descend(p, coef, basis)
        after = p.loss(coef, basis)
        assert after <= loss * (1 + 1e-9)
        basis = refit(p, coef, basis, None)
        loss = p.loss(coef, basis)
        assert loss <= after * (1 + 1e-6)


@pytest.mark.parametrize("form", [WeightForm(), WeightForm(basis_kind="slice", slice_rows=16)])
def test_refit_is_least_squares_on_the_outputs(form: WeightForm) -> None:
    shape = (4, 60, 1, 1)
    p = problem_of(form, shape, 1, 3)
    n = form.n_slices(RowGeometry(shape))
    coef = np.random.default_rng(4).integers(-6, 7, (4, 20, 3)).astype(np.float64)
    got = refit(p, coef, np.zeros((4, n, 3, 3)), None)
    root = np.linalg.cholesky(p.hessian[0])
    for m in range(4):
        columns = []
        for j, k, t in itertools.product(range(n), range(3), range(3)):
            one = np.zeros((n, 3, 3))
            one[j, k, t] = 1
            columns.append(np.concatenate([coef[m, r] @ one[p.slice_of[r]] for r in range(20)]) @ root)
        best = np.linalg.lstsq(np.array(columns).T, p.target[0, m] @ root, rcond=None)[0]
        np.testing.assert_allclose(got[m].ravel(), best, rtol=1e-3, atol=1e-4)


FORMS: list[tuple[WeightForm, tuple[int, int, int, int], int]] = [
    (WeightForm(), (24, 48, 1, 1), 1),
    (WeightForm(), (24, 47, 1, 1), 1),
    (WeightForm(alphabet="pow2-7"), (24, 16, 3, 3), 2),
    (WeightForm(basis_kind="codebook"), (40, 48, 1, 1), 1),
    (WeightForm(basis_kind="slice", slice_rows=16), (16, 20, 3, 3), 1),
    (WeightForm(pattern="8:16"), (16, 120, 1, 1), 1),
    (WeightForm(pattern="4:16", basis_kind="codebook"), (16, 120, 1, 1), 2),
    (WeightForm(pattern="shared", kept_rows=20, group_filters=16), (20, 120, 1, 1), 1),
    (WeightForm(), (12, 1, 5, 5), 12),
]


@pytest.mark.parametrize(("form", "shape", "groups"), FORMS)
def test_outputs_are_nearer_than_those_of_the_data_free_fit(
    form: WeightForm, shape: tuple[int, int, int, int], groups: int
) -> None:
    geometry = RowGeometry(shape)
    w = np.random.default_rng(5).normal(size=shape).astype(np.float32)
    k = geometry.rows * geometry.s
    x = inputs(k, groups, 6, positions=4000, mix=2.0)
    padding = geometry.to_rows(np.ones(shape))[0].ravel() == 0
    x[:, padding] = 0
    train, test = x[:, :, :2000], x[:, :, 2000:]
    fitted = fit_calibrated(w, form, moments(train))
    again = unpack_sd(pack_sd(fitted), shape, form, fitted.scale)
    assert np.array_equal(again.coef, fitted.coef)
    limit = output_error(fit(w, form), outputs(w, test), test)
    if limit > 0.02:  # else all that is left is the rounding of B
        limit *= 0.9
    assert output_error(fitted, outputs(w, test), test) < limit


def test_cross_moments_ask_for_another_output() -> None:
    """The layer's inputs lost a tenth: the weight makes up for it."""
    w = np.random.default_rng(7).normal(size=(20, 48, 1, 1)).astype(np.float32)
    clean = inputs(48, 1, 8, positions=3000)
    got = 0.9 * clean
    want = outputs(w, clean)
    cross = want @ got[0].T / got.shape[2]
    with_cross = fit_calibrated(w, WeightForm(), moments(got), cross=cross, ridge=0.01)
    without = fit_calibrated(w, WeightForm(), moments(got))
    assert output_error(with_cross, want, got) < 0.08 < output_error(without, want, got)
    near = wanted_weight(w[None, :, :, 0, 0].astype(np.float64), moments(got), cross[None], 1e-9)
    np.testing.assert_allclose(near[0], w[:, :, 0, 0] / 0.9, rtol=1e-4)
    held = wanted_weight(w[None, :, :, 0, 0].astype(np.float64), moments(got), cross[None], 1e9)
    np.testing.assert_allclose(held[0], w[:, :, 0, 0], rtol=1e-4)


@pytest.mark.parametrize("damage", ["dead", "few", "zero", "constant"])
def test_poor_inputs_do_no_harm(damage: str) -> None:
    w = np.random.default_rng(9).normal(size=(20, 48, 1, 1)).astype(np.float32)
    w[3] = 0
    x = inputs(48, 1, 10)
    if damage == "dead":
        x[:, 5:20] = 0
    elif damage == "few":
        x = x[:, :, :5]
    elif damage == "zero":
        x[:] = 0
    else:
        x[:] = x[:, :1]
    h = moments(x)
    fitted = fit_calibrated(w, WeightForm(), h, cross=outputs(w, x) @ x[0].T / x.shape[2])
    assert np.isfinite(fitted.dequantize()).all()
    assert np.linalg.norm(fitted.dequantize() - w) < 0.4 * np.linalg.norm(w)
    assert not fitted.dequantize()[3].any()


def test_scaling_the_moments_changes_nothing() -> None:
    w = np.random.default_rng(11).normal(size=(8, 30, 1, 1)).astype(np.float32)
    h = moments(inputs(30, 1, 12))
    a, b = fit_calibrated(w, WeightForm(), h), fit_calibrated(w, WeightForm(), 4096 * h)
    assert np.array_equal(a.coef, b.coef)
    assert np.array_equal(a.basis, b.basis)


def test_refused() -> None:
    w = np.ones((4, 6, 1, 1), np.float32)
    h = np.eye(6)[None]
    form = WeightForm()
    for bad in (
        h[0],
        np.eye(5)[None],
        np.repeat(h, 3, axis=0),
        h * np.nan,
        -h,
        np.triu(np.ones((6, 6)))[None],
    ):
        with pytest.raises(CalibrationError):
            fit_calibrated(w, form, bad)
    with pytest.raises(CalibrationError, match="cross moments"):
        fit_calibrated(w, form, h, cross=np.ones((4, 5)))
    with pytest.raises(CalibrationError, match="not finite"):
        fit_calibrated(w, form, h, cross=np.full((4, 6), np.inf))
    with pytest.raises(FormatError):
        fit_calibrated(w, WeightForm(basis_kind="slice"), h)
    with pytest.raises(NumericsError):
        fit_calibrated(w * np.inf, form, h)
