"""Additions as one linear form, alone and at the end of every kernel, against the golden model."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import kernelcases as cases
import layergen
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sd_tvm._tvm import tvm
from sd_tvm.errors import UnsupportedCPUError
from sd_tvm.ffi_errors import register_errors
from sd_tvm.layers import AddLayer
from sd_tvm.numerics import golden
from sd_tvm.numerics.qp import pack_qp
from sd_tvm.numerics.qparams import QParams
from sd_tvm.relay_passes._integer import NO_BOUNDS, add
from sd_tvm.schedules.cpu.elementwise import build_sum
from sd_tvm.schedules.cpu.epilogue import Residual
from sd_tvm.schedules.cpu.isa import ISAS, NEON_DOT, Isa, available
from sd_tvm.schedules.cpu.linear_sum import linear_sum
from sd_tvm.schedules.cpu.table import KERNELS, Kernel

register_errors()
SEED = int(os.environ.get("SD_SEED", np.random.SeedSequence().entropy % 2**32))  # type: ignore[operator]
HOST = tvm.target.Target({"kind": "llvm", "mcpu": tvm.get_global_func("tvm.codegen.llvm.GetHostCPUName")()})
EVERY = {"uint8": np.arange(256, dtype=np.uint8), "int8": np.arange(-128, 128).astype(np.int8)}


@st.composite
def tensors(draw: Any) -> QParams:
    """Scale, zero point and type of a tensor, often of a simple scale."""
    scale = draw(st.one_of(st.floats(0.01, 1.0), st.sampled_from([0.125, 0.25, 0.5, 1.0])))
    dtype = draw(layergen.ACT)
    return QParams(scale, draw(st.integers(0, 255)) - (128 if dtype == "int8" else 0), dtype)


def all_pairs(layer: AddLayer) -> tuple[AddLayer, list[np.ndarray]]:
    """The addition of every value of one side to every value of the other."""
    sides = np.meshgrid(EVERY[layer.a_dtype], EVERY[layer.b_dtype], indexing="ij")
    shape = (1, 16, 16, 16, 16)
    return replace(layer, batch=1, channels=256, hw=shape[2:4]), [s.reshape(shape) for s in sides]


@settings(max_examples=40, deadline=None)
@given(a=tensors(), b=tensors(), out=tensors(), ratio=st.floats(0.3, 3.0), data=st.data())
def test_form_is_exact(a: QParams, b: QParams, out: QParams, ratio: float, data: Any) -> None:
    """For all pairs of bytes, in the arithmetic of the kernels."""
    if data.draw(st.booleans()):  # of networks: the result's scale is about that of the sides
        out = replace(out, scale=max(a.scale, b.scale) * ratio)
    made = add("a", (1, 16, 1, 1), a, b, out)
    assert isinstance(made.layer, AddLayer)
    layer, sides = all_pairs(made.layer)
    form = linear_sum(layer, made.constants[0])
    if form is None:
        return
    want = golden.run_layer(layer, [*sides, made.constants[0]])
    for own in (0, 1):
        mine, other, offset, shift, low, high = form.words(own).astype(np.int64)
        total = sides[own] * mine + sides[1 - own] * other + offset
        assert total.min() >= -(2**31)
        assert total.max() < 2**31
        np.testing.assert_array_equal(np.clip(total >> shift, low, high), want)


@pytest.mark.parametrize("ratio", [0.6, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("sides", [(1.0, 1.0), (1.0, 0.5), (0.031, 0.043), (0.7, 0.2)])
def test_networks_have_the_form(sides: tuple[float, float], ratio: float) -> None:
    for zero, bounds in ((0, NO_BOUNDS), (117, NO_BOUNDS), (128, (0.0, np.inf)), (9, (0.0, 6.0))):
        out = QParams(max(sides) * ratio, zero, "uint8")
        a, b = QParams(sides[0], zero, "uint8"), QParams(sides[1], 3, "int8")
        made = add("a", (1, 16, 1, 1), a, b, out, bounds)
        assert isinstance(made.layer, AddLayer)
        assert linear_sum(made.layer, made.constants[0]) is not None


def test_roundings_that_show_have_no_form() -> None:
    """round(a / 2) + round(b / 2), as no pass makes it."""
    half, one = ((np.int64(1 << 30), np.int64(shift)) for shift in (0, 1))
    zero = np.zeros(1, np.int64)
    words = [pack_qp(zero, m[None], s[None], 0, 0, 255, pad_to_16=False) for m, s in (half, half, one)]
    assert linear_sum(AddLayer("a", 1, 16, (1, 1)), np.concatenate(words)) is None


@settings(max_examples=8, deadline=None, derandomize=True)
@given(layer=layergen.adds(), seed=st.integers(0, 2**31))
def test_alone(layer: AddLayer, seed: int) -> None:
    *sides, words = layergen.operands_of(layer, seed)
    form = linear_sum(layer, words)
    assert form is not None, "random words have the form; other ones take the three scalings"
    run = tvm.compile(tvm.IRModule({"f": build_sum(layer, "f")}), target=HOST)["f"]
    want = golden.run_layer(layer, [*sides, words])
    arrays = [tvm.runtime.tensor(a) for a in (*sides, form.words(0), np.zeros_like(want))]
    run(*arrays)
    np.testing.assert_array_equal(
        layergen.valid_lanes(layer, arrays[-1].numpy()), layergen.valid_lanes(layer, want)
    )


def check(kernel: Kernel, rng: np.random.Generator, own: Any, *, extreme: bool) -> None:
    """A random layer of a row with an addition at its end."""
    layer = replace(cases.random_layer(rng, kernel), out="q8")
    seed = int(rng.integers(2**31))
    operands = layergen.operands_of(layer, seed, extreme=extreme)
    if rng.random() < 0.5:
        operands = cases.with_relu(layer, operands, rng)
    result = golden.run_layer(layer, operands)
    dtypes = [str(rng.choice(["uint8", "int8"])) for _ in range(3)]
    dtypes[own] = layer.out_dtype
    zeros = [int(rng.integers(*layergen.RANGE[d])) for d in dtypes[:2]]
    added = AddLayer(
        "sum", layer.batch, layer.out_channels, layer.out_hw,
        dtypes[0], zeros[0], dtypes[1], zeros[1], dtypes[2],
    )  # fmt: skip
    form = None
    while form is None:
        *sides, words = layergen.operands_of(added, seed)
        form, seed = linear_sum(added, words), seed + 1
    other = sides[1 - own]
    if extreme:
        ends = layergen.RANGE[dtypes[1 - own]]
        other = np.where(rng.random(other.shape) < 0.5, ends[0], ends[1] - 1).astype(other.dtype)
    sides = [result, other] if own == 0 else [other, result]
    want = layergen.valid_lanes(layer, golden.run_layer(added, [*sides, words]))
    more = Residual(added, own), [other, form.words(own)]
    if kernel.isa is not NEON_DOT and kernel.isa not in available(HOST):
        with pytest.raises(UnsupportedCPUError, match=kernel.isa.features[-1]):
            cases.run(kernel, layer, operands, *more)
        return
    got = cases.run(kernel, layer, operands, *more)
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want, err_msg=f"{kernel.name} SD_SEED={SEED} {layer} {added}")


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.name)
def test_kernel_that_adds(kernel: Kernel) -> None:
    """Either side, both at the ends of their ranges in half of the cases."""
    print(f"SD_SEED={SEED}")
    rng = np.random.default_rng([SEED, KERNELS.index(kernel)])
    check(kernel, rng, int(rng.integers(2)), extreme=rng.random() < 0.5)


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
def test_products_of_32_bits(isa: Isa) -> None:
    """The point of the form."""
    mod = tvm.IRModule({"f": build_sum(AddLayer("a", 1, 16, (4, 4)), "f")})
    code = tvm.compile(mod, target=tvm.target.Target(isa.target)).mod.inspect_source("s")
    wide, narrow = ("smull", "mla") if isa is NEON_DOT else ("vpmuldq", "vpmulld")
    assert narrow in code
    assert wide not in code
