"""The golden model against torch, which shares no code with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sd_tvm.errors import NumericsError
from sd_tvm.layers import AddLayer, ConvLayer, PoolLayer, RequantLayer, layer_from_json, layer_to_json
from sd_tvm.numerics import golden
from sd_tvm.numerics.bounds import accumulator_bound, check_bound, folded_bias
from sd_tvm.numerics.fixedpoint import quantize_multiplier
from sd_tvm.numerics.qp import pack_qp
from sd_tvm.weights.packing import pack_raw
from sd_tvm.weights.tensor import RawWeight


@st.composite
def conv_layers(draw: st.DrawFn) -> ConvLayer:
    groups = draw(st.integers(1, 3))
    kernel = (draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    dilation = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    span = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    return ConvLayer(
        name="conv",
        batch=draw(st.integers(1, 2)),
        in_channels=groups * draw(st.integers(1, 20)),
        in_hw=(span[0] + draw(st.integers(0, 5)), span[1] + draw(st.integers(0, 5))),
        out_channels=groups * draw(st.integers(1, 20)),
        kernel=kernel,
        stride=(draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        padding=tuple(draw(st.integers(0, 2)) for _ in range(4)),  # type: ignore[arg-type]
        dilation=dilation,
        groups=groups,
        in_dtype=draw(st.sampled_from(["uint8", "int8"])),
        in_zero_point=draw(st.integers(0, 127)),
        out="i32",
    )


@given(layer=conv_layers(), seed=st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_convolution_accumulators_equal_torch(layer: ConvLayer, seed: int) -> None:
    rng = np.random.default_rng(seed)
    info = np.iinfo(layer.in_dtype)
    shape = (layer.batch, layer.in_channels, *layer.in_hw)
    x = rng.integers(info.min, info.max + 1, shape).astype(layer.in_dtype)
    w = rng.integers(-127, 128, layer.weight_shape).astype(np.int8)
    bias = rng.integers(-1000, 1000, layer.out_channels)
    words = pack_qp(folded_bias(bias, w, layer.in_zero_point), 0 * bias, 0 * bias, 0, 0, 255)
    scale = np.ones(layer.out_channels, np.float32)
    got = golden.run_layer(layer, [golden.to_blocked(x), pack_raw(RawWeight(w, scale)), words])

    t, left, b, r = layer.padding
    centred = torch.from_numpy(x.astype(np.float64) - layer.in_zero_point)
    want = torch.nn.functional.conv2d(
        torch.nn.functional.pad(centred, (left, r, t, b)),
        torch.from_numpy(w.astype(np.float64)),
        torch.from_numpy(bias.astype(np.float64)),
        stride=layer.stride,
        dilation=layer.dilation,
        groups=layer.groups,
    )
    np.testing.assert_array_equal(
        golden.from_blocked(got, layer.out_channels), want.numpy().astype(np.int64)
    )


def test_requantised_convolution_is_within_one_step_of_the_real_value() -> None:
    rng = np.random.default_rng(3)
    layer = ConvLayer("c", 1, 8, (5, 5), 6, (3, 3), in_zero_point=7)
    x = rng.integers(0, 256, (1, 8, 5, 5)).astype(np.uint8)
    w = rng.integers(-127, 128, layer.weight_shape).astype(np.int8)
    real = rng.uniform(1e-4, 4e-3, 6)
    m0, shift = np.array([quantize_multiplier(v) for v in real]).T
    words = pack_qp(folded_bias(np.zeros(6, np.int64), w, 7), m0, shift, 100, 3, 250)
    scale = np.ones(6, np.float32)
    got = golden.run_layer(layer, [golden.to_blocked(x), pack_raw(RawWeight(w, scale)), words])
    acc = torch.nn.functional.conv2d(
        torch.from_numpy(x.astype(np.float64) - 7), torch.from_numpy(w.astype(np.float64))
    ).numpy()
    want = np.clip(100 + acc * real[None, :, None, None], 3, 250)
    assert np.abs(golden.from_blocked(got, 6) - want).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("mode", ["max", "avg"])
def test_pooling_equals_torch(mode: str) -> None:
    rng = np.random.default_rng(5)
    layer = PoolLayer("p", mode, 2, 19, (9, 8), (3, 2), (2, 1), (1, 0, 1, 1), in_zero_point=9)  # type: ignore[arg-type]
    x = rng.integers(0, 256, (2, 19, 9, 8)).astype(np.uint8)
    m0, shift = quantize_multiplier(1 / 6)
    words = pack_qp(np.zeros(1, np.int64), np.array([m0]), np.array([shift]), 9, 0, 255, pad_to_16=False)
    got = golden.from_blocked(golden.run_layer(layer, [golden.to_blocked(x), words]), 19)
    xt = torch.from_numpy(x.astype(np.float64))
    if mode == "max":
        padded = torch.nn.functional.pad(xt, (0, 1, 1, 1), value=0)
        want = torch.nn.functional.max_pool2d(padded, (3, 2), (2, 1)).numpy()
        np.testing.assert_array_equal(got, want)
    else:
        padded = torch.nn.functional.pad(xt, (0, 1, 1, 1), value=9)
        want = torch.nn.functional.avg_pool2d(padded, (3, 2), (2, 1)).numpy()
        assert np.abs(got - want).max() <= 0.5 + 1e-6


@given(
    sa=st.floats(1e-3, 1.0), sb=st.floats(1e-3, 1.0), so=st.floats(1e-3, 1.0), seed=st.integers(0, 99)
)
@settings(max_examples=50, deadline=None)
def test_addition_is_within_one_step_of_the_real_sum(sa: float, sb: float, so: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    layer = AddLayer("a", 1, 17, (3, 2), a_zero_point=11, b_zero_point=200)
    a, b = (rng.integers(0, 256, (1, 17, 3, 2)).astype(np.uint8) for _ in range(2))
    m = 2 * max(sa, sb)
    factors = (2**20 * sa / m, 2**20 * sb / m, m / (2**20 * so))
    m0, shift = np.array([quantize_multiplier(v) for v in factors]).T
    words = pack_qp(np.zeros(3, np.int64), m0, shift, 5, 0, 255, pad_to_16=False)
    got = golden.run_layer(layer, [golden.to_blocked(a), golden.to_blocked(b), words])
    want = np.clip(5 + ((a - 11.0) * sa + (b - 200.0) * sb) / so, 0, 255)
    assert np.abs(golden.from_blocked(got, 17) - want).max() <= 0.51 + 1e-3 * m / so


def test_requantisation_alone_clips_to_its_limits() -> None:
    layer = RequantLayer("r", 1, 3, (2, 2), in_zero_point=10, out_dtype="int8")
    x = np.arange(12, dtype=np.uint8).reshape(1, 3, 2, 2) * 20
    m0, shift = quantize_multiplier(0.5)
    words = pack_qp(np.zeros(1, np.int64), np.array([m0]), np.array([shift]), -4, -4, 60, pad_to_16=False)
    got = golden.from_blocked(golden.run_layer(layer, [golden.to_blocked(x), words]), 3)
    want = np.clip(-4 + (x.astype(np.int64) - 10) / 2, -4, 60)
    np.testing.assert_array_equal(got, want.astype(np.int8))


def test_bound_is_reached_and_refused() -> None:
    w = np.full((1, 4, 1, 1), 127, np.int32)
    bound = accumulator_bound(w, np.array([10]), "uint8")
    assert bound.tolist() == [10 + 255 * 4 * 127]
    check_bound(w, np.array([10]), "uint8")
    heavy = np.full((2, 3000, 1, 1), 3048, np.int32)
    heavy[0] = 1
    with pytest.raises(NumericsError, match="conv9: filter 1"):
        check_bound(heavy, np.zeros(2, np.int64), "uint8", name="conv9")
    with pytest.raises(NumericsError):
        check_bound(w, np.array([10]), "uint8", shift=np.array([20]))


@given(layer=conv_layers())
@settings(max_examples=20, deadline=None)
def test_layer_json_round_trip(layer: ConvLayer) -> None:
    assert layer_from_json(layer_to_json(layer)) == layer


def test_bound_itself_does_not_wrap() -> None:
    """2^34 shifted left by 30 is 0 in int64."""
    with pytest.raises(NumericsError, match="filter 0 can reach"):
        check_bound(np.zeros((1, 1, 1, 1)), np.array([2**34]), "uint8", shift=np.array([30]))
