"""Ridge and damping by cross-validation, against plain least squares on the examples themselves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import sd_tvm
from sd_tvm.calibration.moments import Moments
from sd_tvm.calibration.validation import DAMPINGS, RIDGES, validated
from sd_tvm.decompose.calibrated import DAMPING, RIDGE
from sd_tvm.errors import RecipeError
from sd_tvm.recipe import LayerPlan, Recipe, Solver
from sd_tvm.weights.rows import RowGeometry

F64 = npt.NDArray[np.float64]
INT8 = LayerPlan("int8", None, 0, 0, "", None, 0)
AUTO = {"version": 1, "rules": [{"op": "*", "kind": "sd"}], "solver": {"ridge": "auto", "damping": "auto"}}


def moments_of(x: F64, y: F64) -> Moments:
    """Of inputs (K, P) and outputs (M, P) of a dense layer, K a multiple of three."""
    geometry = RowGeometry((len(y), len(x), 1, 1))
    sums = {"xx": (x @ x.T)[None], "x": x.sum(axis=1)[None], "yx": y @ x.T, "y": y.sum(axis=1)}
    return Moments(geometry, 1, x.shape[1], **sums, yy=(y**2).sum(axis=1))


def oracle(weight: F64, parts: list[tuple[F64, F64]], ridge: float, *, biased: bool) -> float:
    """Held-out error of the ridge regression, by least squares on stacked data; both parts take turns."""
    total = 0.0
    for (x, y), (x2, y2) in (parts, parts[::-1]):
        a, b = (x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)) if biased else (x, y)
        strength = ridge * (a**2).mean(axis=1).mean() * x.shape[1]
        left = np.concatenate([a, np.sqrt(strength) * np.eye(len(x))], axis=1)
        right = np.concatenate([b, np.sqrt(strength) * weight], axis=1)
        found = np.linalg.lstsq(left.T, right.T, rcond=None)[0].T
        wrong = y2 - found @ x2
        if biased:
            wrong = wrong - wrong.mean(axis=1, keepdims=True)
        total += float((wrong**2).sum() / ((y2 - y2.mean(axis=1, keepdims=True)) ** 2).sum())
    return total


@given(st.integers(0, 2**32 - 1), st.booleans(), st.floats(0.01, 3.0))
def test_the_ridge_is_that_of_least_held_out_error(seed: int, biased: bool, noise: float) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(4, 12))
    parts = []
    for _ in range(2):
        x = rng.normal(size=(12, 20)) + rng.normal(size=(12, 1))
        parts.append((x, (weight + noise) @ x + noise * rng.normal(size=(4, 20))))
    layer: Any = SimpleNamespace(array=weight.reshape(4, 12, 1, 1))
    folds = [moments_of(*part) for part in parts]
    solver, _ = validated(layer, INT8, folds, Solver(ridge="auto"), keep(layer), biased=biased)
    losses = {ridge: oracle(weight, parts, ridge, biased=biased) for ridge in RIDGES}
    chosen, _ = solver.strengths(RIDGE, DAMPING)
    assert losses[chosen] <= min(losses.values()) * (1 + 1e-6)


def keep(layer: Any) -> Any:
    """A fit that leaves the weight."""
    return lambda *_: SimpleNamespace(dequantize=lambda: layer.array)


def test_the_damping_is_the_one_whose_fit_errs_least_on_new_examples() -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(4, 12))
    parts = [(x, weight @ x) for x in rng.normal(size=(2, 12, 50))]
    layer: Any = SimpleNamespace(array=weight.reshape(4, 12, 1, 1))
    best = DAMPINGS[1]

    def fit(_layer: Any, _plan: Any, _h: Any, _c: Any, solver: Solver) -> Any:
        wrong = abs(float(solver.damping or 0) - best)
        return SimpleNamespace(dequantize=lambda: layer.array + wrong)

    plan = LayerPlan("sd", None, 0, 0, "", None, 0)
    solver, facts = validated(
        layer, plan, [moments_of(*p) for p in parts], Solver(damping="auto"), fit, biased=False
    )
    assert solver.damping == best == facts["damping"]
    assert facts["ridge"] == RIDGE
    assert facts["held_out_error"] == pytest.approx(0, abs=1e-9)
    assert "warning" not in facts


def small_net() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(48, 32), torch.nn.ReLU(), torch.nn.Linear(32, 8)).eval()


def compressed(examples: int, recipe: Any = None) -> sd_tvm.CompressedModel:
    data = np.random.default_rng(1).normal(size=(examples, 48)).astype(np.float32)
    return sd_tvm.compress(
        small_net(),
        example_inputs=(torch.zeros(1, 48),),
        recipe=Recipe.from_dict(recipe or AUTO),
        calibration=data,
    )


def test_the_report_says_what_was_chosen_and_that_ten_examples_are_too_few(tmp_path: Any) -> None:
    model = compressed(10)
    for row in model.report:
        assert row["ridge"] in RIDGES
        assert row["damping"] in DAMPINGS
        assert row["held_out_error"] >= row["fit_error"]
    assert "too small" in model.report[0]["warning"]
    assert any("too small" in note for note in model.notes)
    model.save(tmp_path / "a.sd")
    compressed(10).save(tmp_path / "b.sd")
    assert (tmp_path / "a.sd").read_bytes() == (tmp_path / "b.sd").read_bytes()
    assert sd_tvm.load(tmp_path / "a.sd").recipe == Recipe.from_dict(AUTO)


def test_with_the_number_that_was_chosen_the_fit_is_the_same() -> None:
    chosen = compressed(40, {**AUTO, "solver": {"ridge": "auto"}})
    first = chosen.report[0]  # a later layer's inputs depend on the layers before
    plain = compressed(40, {**AUTO, "solver": {"ridge": first["ridge"]}})
    np.testing.assert_array_equal(
        chosen.weights[first["node"]].dequantize(), plain.weights[first["node"]].dequantize()
    )


def test_one_example_cannot_be_validated() -> None:
    model = compressed(1)
    assert all("nothing to cross-validate" in row["warning"] for row in model.report)


def test_without_examples_auto_is_refused_where_it_would_be_used() -> None:
    with pytest.raises(RecipeError, match="auto"):
        Solver(ridge="auto").strengths(1.0, 0.1)
