"""Raised scales: the bias fits, live filters stay, the rounding error is bounded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from weights.reference import random_weight

from sd_tvm.decompose.scale_floor import MAX_BIAS, least_scale, raise_scales
from sd_tvm.weights.packing import pack_sd
from sd_tvm.weights.tensor import RawWeight, SDWeight, WeightForm

FORMS = (
    WeightForm(),
    WeightForm(pattern="4:16"),
    WeightForm(basis_kind="slice", slice_rows=16),
    WeightForm(basis_kind="codebook"),
)


def weight_of(form: WeightForm | None, seed: int) -> SDWeight | RawWeight:
    generator = np.random.default_rng(seed)
    if form is None:
        values = generator.integers(-127, 128, (20, 9, 3, 3)).astype(np.int8)
        return RawWeight(values, np.ones(20, np.float32))
    return random_weight((20, 96, 1, 1), form, 6, seed)


@given(st.sampled_from((None, *FORMS)), st.integers(0, 1000), st.floats(1e-6, 10.0))
def test_bias_fits_and_error_is_bounded(form: WeightForm | None, seed: int, input_scale: float) -> None:
    weight = weight_of(form, seed)
    generator = np.random.default_rng(seed)
    bias = generator.normal(size=20) * 10.0 ** generator.uniform(-12, 12, 20) * input_scale
    least = least_scale(bias, input_scale)
    raised = raise_scales(weight, least)
    assert np.abs(bias / (input_scale * raised.scale.astype(np.float64))).max() <= MAX_BIAS * (1 + 1e-6)
    live = weight.scale >= least
    np.testing.assert_array_equal(raised.scale[live], weight.scale[live])
    np.testing.assert_array_equal(raised.integer()[live], weight.integer()[live])
    if form is not None and form.basis_kind == "codebook":
        assert isinstance(raised, SDWeight)
        assert not raised.coef[~live].any()
        return
    error = np.abs(raised.dequantize().astype(np.float64) - weight.dequantize()).reshape(20, -1).max(axis=1)
    units = 0.5 if form is None else 0.5 * 3 * 8  # half a unit an element; three codes of at most 8
    assert (error <= raised.scale * units * (1 + 1e-3)).all()


@pytest.mark.parametrize("form", FORMS)
def test_result_packs(form: WeightForm) -> None:
    weight = weight_of(form, 3)
    assert isinstance(weight, SDWeight)
    raised = raise_scales(weight, weight.scale * np.where(np.arange(20) % 3 == 0, 1e5, 0.1))
    assert isinstance(raised, SDWeight)
    assert pack_sd(raised)["codes"].shape == pack_sd(weight)["codes"].shape


def test_nothing_to_do_returns_the_same() -> None:
    weight = weight_of(WeightForm(), 1)
    assert raise_scales(weight, np.zeros(20)) is weight
