"""Every row of the kernel table against the NumPy golden model, to the bit; what a missing feature does.

SD_CPU_CASES=10000 runs so many cases, an equal share of each row (nightly); SD_SEED repeats a run.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Any

import kernelcases as cases
import layergen
import neonrun
import numpy as np
import pytest

from sd_tvm._tvm import ir_builder, tirx, tvm
from sd_tvm.errors import UnsupportedCPUError
from sd_tvm.ffi_errors import register_errors
from sd_tvm.layers import ConvLayer
from sd_tvm.numerics import golden
from sd_tvm.numerics.qp import pack_qp
from sd_tvm.schedules.cpu import taps, vec
from sd_tvm.schedules.cpu.guard import AARCH64_BITS, FEATURE_BITS, guarded
from sd_tvm.schedules.cpu.isa import AVX2, AVX512_VNNI, ISAS, NEON_DOT, Isa, available
from sd_tvm.schedules.cpu.laid import LaidTaps
from sd_tvm.schedules.cpu.operand import Operand
from sd_tvm.schedules.cpu.scaling import ANY, Scaling
from sd_tvm.schedules.cpu.table import KERNELS, Kernel, choose, ranked
from sd_tvm.schedules.cpu.taps import TapUnits
from sd_tvm.schedules.cpu.vec import i64, t
from sd_tvm.weights.tensor import WeightForm

register_errors()
SEED = int(os.environ.get("SD_SEED", np.random.SeedSequence().entropy % 2**32))  # type: ignore[operator]
CASES = -(-int(os.environ.get("SD_CPU_CASES", 0)) // len(KERNELS))
SECONDS = 1.0


def host_features() -> set[str]:
    found = tvm.get_global_func("tvm.codegen.llvm.GetHostCPUFeatures")()
    return {str(name) for name, has in found.items() if has}


def check(
    kernel: Kernel,
    layer: ConvLayer,
    seed: int,
    *,
    extreme: bool,
    relu: bool = False,
    scaling: Scaling | None = None,
) -> None:
    operands = layergen.operands_of(layer, seed, extreme=extreme)
    if relu:
        operands = cases.with_relu(layer, operands, np.random.default_rng(seed))
    if kernel.isa is not NEON_DOT and not set(kernel.isa.features) <= host_features():
        with pytest.raises(UnsupportedCPUError, match=kernel.isa.features[-1]):
            cases.run(kernel, layer, operands, scaling=scaling)
        return
    want = layergen.valid_lanes(layer, golden.run_layer(layer, operands))
    got = cases.run(kernel, layer, operands, scaling=scaling)
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want, err_msg=f"{kernel.name} SD_SEED={SEED} {layer} {seed} {extreme}")


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.name)
def test_golden(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cases at least, one of them at the ends of all ranges; then as many as fit the time.

    Every third on all threads, of kernels that run here. Every other is requantised by a float32 multiply-add
    if it is requantised at all, every fifth as if multipliers were any.
    """
    print(f"SD_SEED={SEED}")
    rng = np.random.default_rng([SEED, KERNELS.index(kernel)])
    end, done = time.monotonic() + SECONDS, 0
    while done < 2 or (done < CASES if CASES else time.monotonic() < end):
        layer = cases.random_layer(rng, kernel)
        threads = done % 3 == 1 and kernel.isa is not NEON_DOT
        monkeypatch.setattr(vec, "PARALLEL_MACS", 0 if threads else 1 << 62)
        scaling = ANY if done % 5 == 4 else None
        relu, extreme = done % 2 == 1 and layer.out == "q8", done % 4 in (0, 3)
        check(kernel, layer, int(rng.integers(2**31)), extreme=extreme, relu=relu, scaling=scaling)
        done += 1
    print(f"{kernel.name}: {done} cases")


@pytest.mark.parametrize("isa", [AVX512_VNNI, AVX2], ids=lambda isa: isa.name)
def test_columns_of_a_few_rows_at_a_time(isa: Isa, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large image is laid out by parts, here a small one: of one row of the result, of two or three."""
    (kernel,) = (k for k in KERNELS if (k.operation, k.isa) == ("taps", isa))
    layer = ConvLayer(
        "c", 2, 20, (9, 11), 24, (3, 3), padding=(2, 1, 1, 2), form=WeightForm("4:16"), n_bases=24,
        in_zero_point=7,
    )  # fmt: skip
    for rows in (1, 2, 3):
        layer = replace(layer, stride=(rows, 1))
        row = LaidTaps(Operand(layer, isa.operand), isa, TapUnits(layer, isa).blocks).row
        monkeypatch.setattr(taps, "_LAID_BYTES", rows * row)
        check(kernel, layer, 1, extreme=False)


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("bias", [2**31 - 1, 1 - 2**31])
def test_zero_points_beside_the_largest_sums(isa: Isa, bias: int) -> None:
    """The result is clipped before the zero point is added, which int32 could not hold."""
    (kernel,) = (k for k in KERNELS if (k.operation, k.isa) == ("conv", isa))
    layer = ConvLayer("c", 1, 16, (1, 2), 16, (1, 1))
    ones = np.ones(16, dtype=np.int64)
    zero_point = 10 if bias > 0 else 250
    words = pack_qp(bias * ones, (2**31 - 1) * ones, 0 * ones, zero_point, 3, 252)
    operands = [*layergen.operands_of(layer, 0)[:-1], words]
    operands[1] = np.zeros_like(operands[1])
    want = layergen.valid_lanes(layer, golden.run_layer(layer, operands))
    assert set(want.ravel()) == {252 if bias > 0 else 3}
    np.testing.assert_array_equal(cases.run(kernel, layer, operands), want)


def test_names_differ() -> None:
    assert len({k.name for k in KERNELS}) == len(KERNELS)


@pytest.mark.parametrize(
    ("target", "names"),
    [
        ({"kind": "llvm"}, []),
        ({"kind": "llvm", "mcpu": "x86-64-v3"}, ["avx2"]),
        ({"kind": "llvm", "mcpu": "x86-64-v4"}, ["avx2"]),
        ({"kind": "llvm", "mcpu": "znver4"}, ["avx512vnni", "avx2"]),
        ({"kind": "llvm", "mtriple": "aarch64-linux-gnu"}, []),
        ({"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a72"}, []),
        ({"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "neoverse-n1"}, ["neondot"]),
        ({"kind": "llvm", "mtriple": "arm64-apple-darwin", "mcpu": "apple-m1"}, []),
        ({"kind": "llvm", "mtriple": "armv8a-linux-gnueabihf", "mattr": ["+neon", "+dotprod"]}, []),
    ],
)
def test_instruction_sets_of_targets(target: dict[str, object], names: list[str]) -> None:
    assert [isa.name for isa in available(tvm.target.Target(target))] == names


def test_choice() -> None:
    dense = ConvLayer("d", 1, 96, (1, 1), 32, (1, 1), form=WeightForm("4:16"), n_bases=32)
    grouped = ConvLayer("g", 1, 32, (4, 4), 32, (3, 3), groups=2)
    packed = replace(grouped, packed_input=True)
    best, _ = choose(dense, ISAS)
    assert best is not None
    assert (best.operation, best.isa) == ("gemv", AVX512_VNNI)
    second, _ = choose(dense, [AVX2])
    assert second is not None
    assert (second.operation, second.isa) == ("gemv", AVX2)
    kernel, why = choose(packed, ISAS)
    assert kernel is None
    assert "conv: its input is packed for the accelerator" in why
    groups = [choose(case, [AVX512_VNNI])[0] for case in (grouped, replace(grouped, groups=32), dense)]
    assert [k and k.operation for k in groups] == ["conv8", "depthwise", "gemv"]
    conv = ConvLayer("c", 1, 64, (4, 4), 32, (3, 3), form=WeightForm("4:16"), n_bases=32)
    sliced = replace(conv, form=WeightForm("4:16", basis_kind="slice", slice_rows=16), n_bases=32 * 12)
    picked = [choose(case, ISAS)[0] for case in (conv, sliced, replace(conv, in_channels=2))]
    assert [k and k.operation for k in picked] == ["taps", "sparse", "conv"]
    kernel, why = choose(dense, [])
    assert kernel is None
    assert why.startswith("the target has none of avx2 (fma, avx2), avx512vnni (avx512f, ")


@pytest.mark.parametrize("isa", [AVX512_VNNI, AVX2], ids=lambda isa: isa.name)
def test_shifts_instead_of_products(isa: Isa) -> None:
    """``shiftadd`` multiplies by no code, and is never the estimate's choice."""
    layer = ConvLayer("d", 1, 96, (1, 1), 32, (1, 1), form=WeightForm("4:16"), n_bases=32)
    kernel = ranked(layer, isa)[-1]
    assert kernel.operation == "shiftadd"
    code = cases.compiled(kernel, layer).mod.inspect_source("s")
    assert "vpsllvd" in code
    assert not [name for name in ("vpmadd", "vpdp", "vpmullw") if name in code]


def test_code_for_another_processor_refuses_to_run() -> None:
    """A function that needs what this processor lacks raises; one that needs what it has runs."""
    has = host_features()
    lacks = sorted(set(FEATURE_BITS) - has)
    assert lacks, "a processor with everything: add a feature that it lacks to FEATURE_BITS"

    for features in ([f for f in FEATURE_BITS if f in has], []):
        out = tvm.runtime.tensor(np.zeros(1, np.int32))
        asking(features, "x86_64")["f"](out)
        assert out.numpy()[0] == 1
    for feature in lacks:
        out = tvm.runtime.tensor(np.zeros(1, np.int32))
        with pytest.raises(UnsupportedCPUError, match=f"the layer was compiled .*{feature}"):
            asking([feature], "x86_64")["f"](out)
        assert out.numpy()[0] == 0


def asking(features: list[str], platform: str) -> Any:
    """A library whose function asks for features and then writes 1."""
    with ir_builder.IRBuilder() as frame, t.prim_func(s_tir=True):
        t.func_name("f")
        out = t.arg("out", t.Buffer((i64(1),), "int32"))
        with guarded(features, "the layer", platform):
            t.buffer_store(out, tirx.const(1, "int32"), [0])
    func = frame.get().with_attr("global_symbol", "f")
    target = "llvm" if platform == "x86_64" else {"kind": "llvm", "mtriple": f"{platform}-gnu"}
    return tvm.compile(tvm.IRModule({"f": func}), target=tvm.target.Target(target))


def test_code_for_another_aarch64_processor_refuses_to_run() -> None:
    """The same in the emulator, whose system says what it has."""
    code, out = cases.object_file(asking(sorted(AARCH64_BITS), "aarch64-linux")), np.zeros(1, np.int32)
    assert neonrun.Machine(code).call("f", [out])[0][0] == 1
    for lacks in AARCH64_BITS.values():
        with pytest.raises(neonrun.CodeError, match=r"sd_tvm.UnsupportedCPUError.*the layer .*dotprod"):
            neonrun.Machine(code, lacks).call("f", [out])
