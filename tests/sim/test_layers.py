"""Hand-made programs of whole layers against the golden model, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import layergen
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sim import handmade

from sd_tvm.layers import Layer
from sd_tvm.numerics.golden import run_layer

SEED = st.integers(0, 2**32 - 1)


def _check(layer: Layer, seed: int, lower: Any) -> None:
    operands = layergen.operands_of(layer, seed)
    expected = run_layer(layer, operands)
    result = np.zeros_like(expected)
    lower(layer, operands, result).run()
    np.testing.assert_array_equal(layergen.valid_lanes(layer, result), layergen.valid_lanes(layer, expected))


@pytest.mark.parametrize("pattern", ["raw", "16:16", "8:16", "4:16", "2:16", "shared"])
def test_conv(pattern: str) -> None:
    @settings(max_examples=30)
    @given(layer=layergen.convs(patterns=(pattern,)), seed=SEED)
    def check(layer: Any, seed: int) -> None:
        _check(layer, seed, handmade.conv)

    check()


@settings(max_examples=40)
@given(layer=layergen.convs(patterns=("raw", "4:16")), channels=st.integers(1, 4), seed=SEED)
def test_conv_of_packed_pixels(layer: Any, channels: int, seed: int) -> None:
    """EXPAND4: rows of any width, any padding and stride."""
    layer = replace(layer, in_channels=channels, groups=1)
    if layer.form is not None:
        layer = replace(layer, n_bases=layer.out_channels * layer.form.n_slices(layer.geometry))
    _check(layer, seed, handmade.packed_conv)


@settings(max_examples=25)
@given(layer=layergen.adds(), seed=SEED)
def test_add(layer: Any, seed: int) -> None:
    _check(layer, seed, handmade.add)


@settings(max_examples=25)
@given(layer=layergen.pools(), seed=SEED)
def test_pool(layer: Any, seed: int) -> None:
    _check(layer, seed, handmade.pool)


@settings(max_examples=25)
@given(layer=layergen.requants(), seed=SEED)
def test_requant(layer: Any, seed: int) -> None:
    _check(layer, seed, handmade.requant)
