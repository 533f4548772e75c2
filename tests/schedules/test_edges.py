"""Host-edge conversions on LLVM against the NumPy golden model."""

from __future__ import annotations

import layergen
import numpy as np
import pytest
from layerrun import run_llvm

from sd_tvm.layers import ConvLayer
from sd_tvm.numerics import golden
from sd_tvm.schedules import ops
from sd_tvm.schedules.ops import edges
from sd_tvm.weights.tensor import WeightForm

SHAPES = [(2, 20, 5, 6), (3, 40), (1, 16, 3, 3), (2, 48), (2, 3, 4, 8), (1, 1, 28, 28), (2, 4, 16, 2)]
ACTS = [("uint8", 7), ("int8", -3)]
SCALE = 0.05


def nchw(x: np.ndarray) -> np.ndarray:
    return x.reshape(*x.shape, 1, 1) if x.ndim == 2 else x


def values(shape: tuple[int, ...]) -> np.ndarray:
    x = (np.random.default_rng(0).normal(size=shape) * 3).astype(np.float32)
    # Ties, and values far outside the range.
    x.flat[:6] = [SCALE * 2.5, SCALE * 3.5, -SCALE * 0.5, 1e30, -1e30, 0.15]
    return x


@pytest.mark.parametrize(("dtype", "zero_point"), ACTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_quantize(shape: tuple[int, ...], dtype: str, zero_point: int) -> None:
    x = values(shape)
    want = golden.to_blocked(golden.quantize(nchw(x), SCALE, zero_point, dtype))
    static = run_llvm(ops.build_quantize(shape, SCALE, zero_point, dtype, "f"), [x])
    np.testing.assert_array_equal(static, want)
    scale = np.array([SCALE], dtype=np.float32)
    dynamic = run_llvm(ops.build_quantize_dynamic(shape, zero_point, dtype, "f"), [x, scale])
    np.testing.assert_array_equal(dynamic, want)


@pytest.mark.parametrize(("dtype", "zero_point"), ACTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_dequantize(shape: tuple[int, ...], dtype: str, zero_point: int) -> None:
    rng = np.random.default_rng(1)
    q = layergen.random_act(rng, edges.blocked_shape(shape), dtype)
    got = run_llvm(ops.build_dequantize(shape, SCALE, zero_point, dtype, "f"), [q])
    assert got.shape == shape
    want = golden.dequantize(golden.from_blocked(q, shape[1]), SCALE, zero_point)
    np.testing.assert_array_equal(nchw(got), want)


@pytest.mark.parametrize("shape", SHAPES)
def test_dequantize_acc(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(2)
    acc = rng.integers(-(10**6), 10**6, edges.blocked_shape(shape)).astype(np.int32)
    s_x = np.array([0.03], dtype=np.float32)
    scale, bias = (rng.random(shape[1]).astype(np.float32) for _ in range(2))
    got = run_llvm(ops.build_dequantize_acc(shape, "f"), [acc, s_x, scale, bias])
    sums = golden.from_blocked(acc, shape[1]).astype(np.float32)
    want = sums * (s_x * scale)[None, :, None, None] + bias[None, :, None, None]
    np.testing.assert_allclose(nchw(got), want, rtol=1e-6)


@pytest.mark.parametrize("form", [None, WeightForm("4:16", "pow2-7", "codebook"), WeightForm()])
def test_rebuild_weight(form: WeightForm | None) -> None:
    n_bases = 0 if form is None else 5 if form.basis_kind == "codebook" else 21
    layer = ConvLayer("c", 1, 20, (8, 8), 21, (3, 3), form=form, n_bases=n_bases)
    rng = np.random.default_rng(3)
    operands, weight = layergen.random_weight(rng, layer)
    scale = rng.random(21).astype(np.float32)
    got = run_llvm(ops.build_rebuild_weight(layer.weight_shape, form, n_bases, "f"), [*operands, scale])
    want = (weight * scale[:, None, None, None].astype(np.float64)).astype(np.float32)
    np.testing.assert_array_equal(got, want)
