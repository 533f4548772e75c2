"""What has no kernel of ours on AArch64: the schedules for any processor, in the emulator."""

from __future__ import annotations

from typing import Any

import kernelcases as cases
import layergen
import neonrun
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layerrun import result_like

from sd_tvm._tvm import ir_builder, tvm
from sd_tvm.numerics import golden
from sd_tvm.schedules.cpu import schedule_cpu
from sd_tvm.schedules.cpu.vec import i64, t
from sd_tvm.schedules.ops import build_primfunc

#: The first of its architecture's processors: no dot product.
TARGET = {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a53"}
KINDS = {
    "conv": layergen.convs(),
    "add": layergen.adds(),
    "pool": layergen.pools(),
    "requant": layergen.requants(),
    "lut": layergen.luts(),
    "mul": layergen.muls(),
    "concat": layergen.concats(),
    "interleave": layergen.interleaves(),
    "resize": layergen.resizes(),
}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=2, deadline=None, derandomize=True)
@given(data=st.data(), seed=st.integers(0, 2**31))
def test_golden(kind: str, data: Any, seed: int) -> None:
    layer = data.draw(KINDS[kind])
    operands = layergen.operands_of(layer, seed)
    func = schedule_cpu(build_primfunc(layer, "f")).with_attr("global_symbol", "f")
    library = tvm.compile(tvm.IRModule({"f": func}), target=tvm.target.Target(TARGET))
    arrays = [np.ascontiguousarray(o) for o in operands]
    got = neonrun.Machine(cases.object_file(library)).call("f", [*arrays, result_like(func)])[-1]
    want = golden.run_layer(layer, operands)
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(layergen.valid_lanes(layer, got), layergen.valid_lanes(layer, want))


@pytest.mark.parametrize("count", [2, 7])
def test_parallel_loop(count: int) -> None:
    """The emulator's threads: every turn of a loop, once."""
    with ir_builder.IRBuilder() as frame, t.prim_func(s_tir=True):
        t.func_name("f")
        out = t.arg("out", t.Buffer((i64(count),), "int64"))
        with t.parallel(i64(count)) as i:
            t.buffer_store(out, out[i] + i, [i])
    func = frame.get().with_attr("global_symbol", "f")
    library = tvm.compile(tvm.IRModule({"f": func}), target=tvm.target.Target(TARGET))
    got = neonrun.Machine(cases.object_file(library)).call("f", [np.arange(count)])[0]
    np.testing.assert_array_equal(got, 2 * np.arange(count))
