"""Table lookups in vectors against the NumPy golden model, on every instruction set."""

from __future__ import annotations

import kernelcases as cases
import layergen
import neonrun
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layerrun import result_like, target

from sd_tvm._tvm import tvm
from sd_tvm.errors import UnsupportedCPUError
from sd_tvm.layers import LutLayer
from sd_tvm.numerics import golden
from sd_tvm.relay_passes.lower_cpu import LowerToCPU, required_features
from sd_tvm.schedules.cpu import schedule_cpu
from sd_tvm.schedules.cpu.isa import AVX2, ISAS, NEON_DOT, Isa, available
from sd_tvm.schedules.cpu.lookup import lookup_isa
from sd_tvm.schedules.ops import build_primfunc


def check(layer: LutLayer, isa: Isa, operands: list[np.ndarray]) -> None:
    func = schedule_cpu(build_primfunc(layer, "f"), isa).with_attr("global_symbol", "f")
    library = tvm.compile(tvm.IRModule({"f": func}), target=tvm.target.Target(isa.target))
    arrays = [*(np.ascontiguousarray(o) for o in operands), result_like(func)]
    if isa is NEON_DOT:
        got = neonrun.Machine(cases.object_file(library)).call("f", arrays)[-1]
    else:
        tensors = [tvm.runtime.tensor(a) for a in arrays]
        if isa not in available(target(optimised=True)):
            with pytest.raises(UnsupportedCPUError, match=isa.features[-1]):
                library["f"](*tensors)
            return
        library["f"](*tensors)
        got = tensors[-1].numpy()
    want = golden.run_layer(layer, operands)
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(layergen.valid_lanes(layer, got), layergen.valid_lanes(layer, want))


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_every_byte(isa: Isa, dtype: str) -> None:
    """All 256 bytes, each another result, and a vector that overlaps the one before."""
    layer = LutLayer("lut", 1, 16, (1, 17), "noise", dtype, "uint8")  # type: ignore[arg-type]
    x = np.arange(16 * 17, dtype=np.int64).astype(np.uint8).view(dtype).reshape(1, 1, 1, 17, 16)
    check(layer, isa, [x, np.random.default_rng(0).permutation(256).astype(np.uint8)])


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
@settings(max_examples=3, deadline=None)
@given(layer=layergen.luts(), seed=st.integers(0, 2**31))
def test_golden(isa: Isa, layer: LutLayer, seed: int) -> None:
    if lookup_isa(layer, [isa]) is not None:
        check(layer, isa, layergen.operands_of(layer, seed))


def test_who_gets_it() -> None:
    """No shorter tensor than a vector; what it needs of the processor is written down."""
    layer = LutLayer("lut", 1, 16, (1, 1))
    assert lookup_isa(layer, ISAS) is NEON_DOT
    assert lookup_isa(LutLayer("lut", 1, 16, (1, 2)), ISAS) is AVX2
    assert lookup_isa(layer, []) is None
    mod = tvm.IRModule({"lut": build_primfunc(LutLayer("lut", 1, 32, (4, 4)), "lut")})
    assert required_features(LowerToCPU(tvm.target.Target(AVX2.target))(mod)) == sorted(AVX2.features)
    assert required_features(LowerToCPU(tvm.target.Target({"kind": "llvm", "mcpu": "x86-64"}))(mod)) == []
