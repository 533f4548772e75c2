"""The TE definitions on LLVM against the NumPy golden model."""

from __future__ import annotations

import layergen
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layerrun import run_llvm

from sd_tvm.layers import Layer, layer_from_json
from sd_tvm.numerics import golden
from sd_tvm.schedules.cpu import schedule_cpu
from sd_tvm.schedules.ops import LAYER_ATTR, build_primfunc

SEEDS = st.integers(0, 2**31)


def check(layer: Layer, seed: int) -> None:
    operands = layergen.operands_of(layer, seed)
    func = build_primfunc(layer, "f")
    assert layer_from_json(func.attrs[LAYER_ATTR]) == layer
    want = golden.run_layer(layer, operands)
    for variant in (func, schedule_cpu(func)):
        assert variant.attrs[LAYER_ATTR] == func.attrs[LAYER_ATTR]
        got = run_llvm(variant, operands)
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(layergen.valid_lanes(layer, got), layergen.valid_lanes(layer, want))


@pytest.mark.parametrize("pattern", ["raw", "16:16", "8:16", "4:16", "2:16", "shared"])
@settings(max_examples=6, deadline=None, derandomize=True)
@given(data=st.data(), seed=SEEDS)
def test_conv(pattern: str, data: st.DataObject, seed: int) -> None:
    check(data.draw(layergen.convs(patterns=(pattern,))), seed)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(layer=st.one_of(layergen.adds(), layergen.pools(), layergen.requants()), seed=SEEDS)
def test_others(layer: Layer, seed: int) -> None:
    check(layer, seed)
