"""The ways to requantise against the golden model, over all shifts and at ties; which one a layer gets."""

from __future__ import annotations

from dataclasses import replace

import kernelcases as cases
import layergen
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sd_tvm.layers import ConvLayer
from sd_tvm.numerics import golden
from sd_tvm.numerics.bounds import accumulator_range
from sd_tvm.numerics.qp import pack_qp, unpack_qp
from sd_tvm.numerics.single import single
from sd_tvm.schedules.cpu.isa import ISAS, Isa
from sd_tvm.schedules.cpu.scaling import ANY, BELOW_HALF, Scaling, scaling_of
from sd_tvm.schedules.cpu.table import KERNELS, Kernel

FILTERS = 2048
#: Of zero weights: a result is its scaled bias.
LAYER = ConvLayer("c", 1, 16, (1, 1), FILTERS, (1, 1))
LARGEST = 2**31 - 1


def kernel_of(isa: Isa) -> Kernel:
    (kernel,) = (k for k in KERNELS if (k.operation, k.isa) == ("conv", isa))
    return kernel


def words(rng: np.random.Generator, dtype: str, shift: tuple[int, int]) -> np.ndarray:
    """Quantisation words of sums that matter: near a tie, near the clip, small, and as large as can be."""
    e = rng.integers(*shift, FILTERS, endpoint=True)
    m0 = rng.choice([2**30, 2**30 + 1, LARGEST, 3 << 29], FILTERS)
    m0 = np.where(rng.random(FILTERS) < 0.5, rng.integers(2**30, 2**31, FILTERS), m0)
    ratio = m0 * np.exp2(e - 31.0)
    ties = np.rint((rng.integers(-300, 300, FILTERS) + 0.5) / ratio) + rng.integers(-1, 2, FILTERS)
    sums = np.where(rng.random(FILTERS) < 0.8, ties, rng.choice([0, 1, -1, LARGEST, -LARGEST], FILTERS))
    limit = LARGEST >> np.maximum(e, 0)
    sums = np.clip(sums, -limit, limit).astype(np.int64)
    m0[rng.random(FILTERS) < 0.05] = 0
    low, high = layergen.RANGE[dtype][0], layergen.RANGE[dtype][1] - 1
    lo, hi = sorted(int(v) for v in rng.integers(low, high + 1, 2)) if rng.random() < 0.5 else (low, high)
    return pack_qp(sums, m0, e, int(rng.integers(low, high + 1)), lo, hi)


def check(isa: Isa, dtype: str, qp: np.ndarray, scaling: Scaling) -> None:
    layer = replace(LAYER, out_dtype=dtype)
    operands = [*layergen.operands_of(layer, 0)[:-1], qp]
    operands[1] = np.zeros_like(operands[1])
    want = layergen.valid_lanes(layer, golden.run_layer(layer, operands))
    np.testing.assert_array_equal(cases.run(kernel_of(isa), layer, operands, scaling=scaling), want)


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
@settings(max_examples=4)
@given(seed=st.integers(0, 2**32 - 1), dtype=st.sampled_from(["uint8", "int8"]))
@example(seed=0, dtype="uint8")
@example(seed=1, dtype="int8")
def test_below_half(isa: Isa, seed: int, dtype: str) -> None:
    qp = words(np.random.default_rng(seed), dtype, (-31, -1))
    assert scaling_of(LAYER, qp) is BELOW_HALF
    check(isa, dtype, qp, BELOW_HALF)
    check(isa, dtype, qp, ANY)


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
@settings(max_examples=4)
@given(seed=st.integers(0, 2**32 - 1), dtype=st.sampled_from(["uint8", "int8"]))
@example(seed=0, dtype="uint8")
def test_any(isa: Isa, seed: int, dtype: str) -> None:
    qp = words(np.random.default_rng(seed), dtype, (-31, 30))
    assert scaling_of(LAYER, qp) is ANY
    check(isa, dtype, qp, ANY)


def test_choice() -> None:
    m0, half = np.array([2**30, 2**30]), np.array([-1, -1])
    zero = np.zeros(2, dtype=np.int64)
    assert scaling_of(LAYER, pack_qp(zero, m0, half, 0, 0, 255)) is BELOW_HALF
    assert scaling_of(LAYER, pack_qp(zero, m0, np.add(half, [0, 1]), 0, 0, 255)) is ANY
    assert scaling_of(LAYER, pack_qp(zero, m0 * [1, 0], np.add(half, [0, 1]), 0, 0, 255)) is BELOW_HALF
    assert scaling_of(replace(LAYER, out="i32"), pack_qp(zero, m0, half, 0, 0, 255)) is ANY


#: Weights of every filter: any sum up to 486,030 is one of some bytes.
ROW = np.array([*[127] * 15, 1], dtype=np.int8)


def exact(filters: int) -> tuple[ConvLayer, list[np.ndarray]]:
    """A layer of such filters, its weight, and words with ReLU6."""
    layer = ConvLayer("c", 1, 16, (40, 40), filters, (1, 1))
    rng = np.random.default_rng(0)
    m0, shift = layergen.multipliers(np.exp(rng.uniform(np.log(1.2e-3), np.log(0.1), filters)))
    words = pack_qp(rng.integers(-9999, 0, filters), m0, shift, 0, 0, 255)
    raw = np.empty((filters // 16, 16, 16), dtype=np.int8)
    raw[:] = ROW[None, :, None]
    return layer, [raw, words]


def image(sums: np.ndarray) -> np.ndarray:
    """uint8 (1, 1, 40, 40, 16), a pixel for each sum of products."""
    x = np.zeros((1600, 16), dtype=np.int64)
    for i, s in enumerate(sums):
        full, rest = divmod(int(s) // 127, 255)
        x[i, :full] = 255
        x[i, full] = rest
        x[i, 15] = int(s) % 127
    return x.astype(np.uint8).reshape(1, 1, 40, 40, 16)


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_float32_at_its_exceptions(isa: Isa, dtype: str) -> None:
    """Sums around every filter's exception, where it has one, and around places where results change."""
    layer, (raw, words) = exact(64)
    layer = replace(layer, out_dtype=dtype)
    f = unpack_qp(words, "uint8")
    if dtype == "int8":
        words = pack_qp(f["bias"], f["m0"], f["shift"], -128, -128, 127)
    low, high = accumulator_range(np.tile(ROW, (64, 1)), f["bias"], "uint8")
    found = single(words, dtype, low, high)
    assert found is not None
    assert found.exception is not None
    scaling = scaling_of(layer, words, [raw])
    assert scaling not in (ANY, BELOW_HALF)
    has = (found.exception >= low) & (found.exception <= high)
    assert has.any()
    rng = np.random.default_rng(1)
    changes = (rng.integers(1, 256, 64) - 0.5) / (f["m0"] * np.exp2(f["shift"] - 31.0))
    around = np.where(has, found.exception, changes) - f["bias"]
    sums = np.concatenate([around + d for d in (-1, 0, 1)]).astype(np.int64)
    sums = np.concatenate([np.clip(sums, 0, 486_030), rng.integers(0, 90_000, 1600 - 3 * 64)])
    operands = [image(sums), raw, words]
    products = layergen.valid_lanes(layer, golden.run_layer(replace(layer, out="i32"), operands))
    np.testing.assert_array_equal(products[0, 0].ravel() - f["bias"][0], sums)
    want = layergen.valid_lanes(layer, golden.run_layer(layer, operands))
    np.testing.assert_array_equal(cases.run(kernel_of(isa), layer, operands, scaling=scaling), want)


def test_float32_of_no_sums_that_are_known() -> None:
    """A weight that is computed at run time."""
    layer, (raw, words) = exact(16)
    assert scaling_of(layer, words) is BELOW_HALF
    assert scaling_of(layer, words, [raw]) is not BELOW_HALF
