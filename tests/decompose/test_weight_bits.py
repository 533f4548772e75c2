"""Bases that keep rebuilt weights within the width of an array's multipliers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sd_tvm.decompose.calibrated import fit_calibrated
from sd_tvm.decompose.fit import fit
from sd_tvm.errors import RecipeError
from sd_tvm.recipe import Recipe
from sd_tvm.weights.tensor import SDWeight, WeightForm

FORMS = (
    WeightForm("16:16"),
    WeightForm("4:16"),
    WeightForm("16:16", basis_kind="slice", slice_rows=16),
    WeightForm("16:16", basis_kind="codebook"),
    WeightForm("16:16", "pow2-5"),
)


def widest(fitted: SDWeight) -> int:
    """Largest magnitude that any codes of the alphabet could rebuild with these bases."""
    columns = np.abs(fitted.basis.astype(np.int64)).sum(axis=1).max()
    return int(columns) * max(fitted.form.table.magnitudes)


@given(
    st.sampled_from(FORMS),
    st.sampled_from([(4, 24, 1, 1), (3, 8, 3, 3), (2, 4, 5, 5), (2, 6, 1, 7)]),
    st.sampled_from([10, 11, 12, 13]),
    st.integers(0, 2**32 - 1),
)
def test_no_codes_rebuild_a_wider_weight(
    form: WeightForm, shape: tuple[int, int, int, int], bits: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    weight = (rng.standard_normal(shape) * rng.choice([1e-3, 1.0, 30.0])).astype(np.float32)
    fitted = fit(weight, form, weight_bits=bits)
    assert widest(fitted) < 2 ** (bits - 1)
    assert np.abs(fitted.basis).max() > 0


def test_calibrated_fit_keeps_to_it_and_stays_near() -> None:
    rng = np.random.default_rng(5)
    weight = rng.standard_normal((32, 48, 1, 1)).astype(np.float32)
    x = rng.standard_normal((48, 400)) * np.linspace(0.2, 3, 48)[:, None]
    moments = (x @ x.T / 400)[None]
    errors = []
    for bits in (None, 10):
        fitted = fit_calibrated(weight, FORMS[0], moments, weight_bits=bits)
        errors.append(np.square((fitted.dequantize() - weight)[:, :, 0, 0] @ x).mean())
        assert bits is None or widest(fitted) < 512
    assert errors[1] < 1.3 * errors[0]


def test_too_few_bits_are_refused() -> None:
    with pytest.raises(RecipeError, match="weight_bits 8"):
        fit(np.ones((2, 6, 1, 1), np.float32), WeightForm("16:16", "pow2-7"), weight_bits=8)


def test_recipe_passes_it_on_and_refuses_the_official_solver() -> None:
    rules = [{"op": "*", "kind": "sd", "form": {"pattern": "16:16"}}]
    recipe = Recipe.from_dict({"version": 1, "rules": rules, "solver": {"weight_bits": 10}})
    assert recipe.solver.weight_bits == 10
    with pytest.raises(RecipeError, match="weight_bits goes with"):
        Recipe.from_dict({"version": 1, "rules": rules, "solver": {"method": "official", "weight_bits": 10}})
