"""What lies between the integer layers, in vectors: whole modules compute what TVM's own code computes."""

from __future__ import annotations

from typing import Any

import numpy as np
from passes.running import QUICK, arrays, calibrated, inputs, run
from passes.test_attention import INT8, attention

from sd_tvm import backend
from sd_tvm._tvm import relax, tirx, tvm
from sd_tvm.relay_passes import VectorizeInjective
from sd_tvm.relay_passes._rewrite import bindings_of, is_call
from sd_tvm.relay_passes.decompose import Decompose
from sd_tvm.relay_passes.lower_cpu import LowerToCPU
from sd_tvm.relay_passes.partition import Partition
from sd_tvm.relay_passes.pipeline import accelerator_passes
from sd_tvm.schedules.ops.tir import CPU_ATTR
from sd_tvm.target import for_cpu

backend.register()


def functions(mod: Any) -> dict[str, Any]:
    return {str(g.name_hint): f for g, f in mod.functions_items() if isinstance(f, tirx.PrimFunc)}


def test_a_whole_module() -> None:
    """Fused and in vectors against fused alone."""
    mod = Partition()(Decompose(INT8)(calibrated(attention(1, 20, 2, 8))))
    theirs = relax.pipeline.PIPELINE_MAP["default"].sd_tvm_original()
    fused = relax.get_pipeline("zero")(LowerToCPU()(mod))
    executable = tvm.compile(fused, target=tvm.target.Target(QUICK), relax_pipeline=theirs)
    x = inputs(mod, 1)[0]
    (want,) = arrays(relax.VirtualMachine(executable, tvm.cpu())["main"](tvm.runtime.tensor(x)))
    for given in (mod, fused):  # as a user may hand it to tvm.compile
        np.testing.assert_array_equal(run(given, x)[0], want)


def test_reached_by_a_plain_compile() -> None:
    """The step in TVM's default pipeline fuses what is not fused yet, and leaves no scalar loops."""
    mod = Partition()(Decompose(INT8)(calibrated(attention(1, 16, 2, 16))))
    with tvm.target.Target("llvm"):
        made = for_cpu(mod)
    fused = {name: f for name, f in functions(made).items() if name.startswith("fused_")}
    assert len(fused) > 1
    assert all(CPU_ATTR in f.attrs for f in fused.values())
    assert all(
        is_call(v, "relax.call_tir") for _, v in bindings_of(made["main"]) if hasattr(v, "args") and v.args
    )
    tvm.ir.assert_structural_equal(VectorizeInjective()(made), made)


def test_on_the_host_of_the_accelerator() -> None:
    mod = Partition()(Decompose(INT8)(calibrated(attention(1, 16, 2, 16))))
    for step in accelerator_passes(mod, "edge"):
        mod = step(mod)
    fused = {name: f for name, f in functions(mod).items() if name.startswith("fused_")}
    assert fused
    assert all(CPU_ATTR in f.attrs for f in fused.values())
