"""Products of two activations: the weight as the kernel wants it, which layers get one, the same integers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import kernelcases as cases
import layergen
import neonrun
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from passes.running import calibrated, inputs, run
from passes.test_attention import INT8, attention

from sd_tvm._tvm import tirx, tvm
from sd_tvm.layers import ConvLayer
from sd_tvm.relay_passes.decompose import Decompose
from sd_tvm.relay_passes.lower_cpu import KERNEL_ATTR, LowerToCPU
from sd_tvm.relay_passes.partition import Partition
from sd_tvm.relay_passes.report import node_reports
from sd_tvm.schedules.cpu.dense import pack_dense
from sd_tvm.schedules.cpu.isa import AVX2, ISAS, NEON_DOT, available
from sd_tvm.schedules.cpu.product import PAIRED, build_pairs, paired_shape, product_kernel
from sd_tvm.schedules.cpu.weights import weight_of

HOST = tvm.target.Target(
    {"kind": "llvm", "mcpu": tvm.get_global_func("tvm.codegen.llvm.GetHostCPUName")(), "opt-level": 0}
)
ANY_ARM = {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a53"}


def product(groups: int, rows: int, blocks: tuple[int, int]) -> ConvLayer:
    """Of ``groups`` matrices of ``rows`` rows; blocks of sixteen of K and of columns."""
    channels, filters = (16 * groups * b for b in blocks)
    return ConvLayer("p", 1, channels, (1, rows), filters, (1, 1), groups=groups, in_dtype="int8")


@pytest.mark.parametrize("where", ["here", "emulator"])
@settings(max_examples=4)
@given(st.integers(1, 3), st.tuples(st.integers(1, 3), st.integers(1, 3)), st.integers(0, 2**31))
def test_pairs(where: str, groups: int, blocks: tuple[int, int], seed: int) -> None:
    layer = product(groups, 1, blocks)
    _, *operands = layergen.operands_of(layer, seed, extreme=True)
    target = {"kind": "llvm"} if where == "here" else ANY_ARM
    func = build_pairs(layer, "f").with_attr("global_symbol", "f")
    library = tvm.compile(tvm.IRModule({"f": func}), target=tvm.target.Target(target))
    arrays = [np.ascontiguousarray(operands[0]), np.full(paired_shape(layer), 85, PAIRED)]
    if where == "emulator":
        got = neonrun.Machine(cases.object_file(library)).call("f", arrays)[-1]
    else:
        tensors = [tvm.runtime.tensor(a) for a in arrays]
        library["f"](*tensors)
        got = tensors[-1].numpy()
    np.testing.assert_array_equal(got, pack_dense(layer, weight_of(layer, operands).integer()))


def test_which_layers() -> None:
    layer = product(3, 5, (2, 1))
    for isa in ISAS:
        kernel, why = product_kernel(layer, [isa])
        assert kernel is not None
        assert (kernel.operation, kernel.isa, why) == ("conv", isa, "")
    assert product_kernel(layer, [])[1].endswith("the target has no kernel")
    for other in (
        replace(layer, kernel=(1, 2)),
        replace(layer, in_channels=90),
        replace(layer, out_channels=45),
    ):
        assert product_kernel(other, [AVX2, NEON_DOT])[0] is None


def test_attention() -> None:
    """The bits of the portable schedule; kernels where this processor has any."""
    mod: Any = calibrated(attention(2, 21, 1, 24))
    mod = Partition()(Decompose(INT8)(mod))
    x = inputs(mod, 1)[0]
    lowered = LowerToCPU(HOST)(mod)
    reasons = {row.node: row.reason for row in node_reports(lowered)}
    kernels = [
        f for _, f in lowered.functions_items() if isinstance(f, tirx.PrimFunc) and KERNEL_ATTR in f.attrs
    ]
    assert len(kernels) == (6 if available(HOST) else 0)
    for node in ("scores", "mixed"):
        assert ("laid out at run time" in reasons[node]) == bool(available(HOST))
        assert ("the target has no kernel" in reasons[node]) != bool(available(HOST))
    np.testing.assert_array_equal(run(lowered, x, HOST)[0], run(LowerToCPU()(mod), x, HOST)[0])
