"""Both ways to requantise against the golden model, over all shifts and at ties; which one a layer gets."""

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
from sd_tvm.numerics.qp import pack_qp
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
