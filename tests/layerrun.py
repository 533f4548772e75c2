"""Running one integer layer on LLVM and on the simulator, to compare with the golden model."""

from __future__ import annotations

from functools import cache
from typing import Any

import layergen
import numpy as np

from sd_tvm._tvm import tvm
from sd_tvm.accelerator.codegen import compile_layer
from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.simulator import run_program
from sd_tvm.layers import Layer
from sd_tvm.numerics import golden
from sd_tvm.schedules.cpu import schedule_cpu
from sd_tvm.schedules.ops import build_primfunc

#: Buffers of the ``tiny`` configuration, in KB: almost every layer is cut into several tiles.
TINY = {
    "inp_kb": 16, "code_kb": 24, "basis_kb": 16, "idx_kb": 1, "qp_kb": 2, "lut_kb": 1, "acc_kb": 8,
    "out_kb": 2,
}  # fmt: skip


@cache
def config(name: str) -> AcceleratorConfig:
    """A shipped configuration, or ``tiny``."""
    if name != "tiny":
        return AcceleratorConfig.load(name)
    edge = AcceleratorConfig.load("edge")
    return edge.model_copy(update={"name": "tiny", "sram": edge.sram.model_copy(update=TINY)})


@cache
def target(optimised: bool) -> Any:
    """LLVM target: this machine's processor as in production, or quick to compile for."""
    if not optimised:
        return tvm.target.Target({"kind": "llvm", "opt-level": 0})
    cpu = tvm.get_global_func("tvm.codegen.llvm.GetHostCPUName")()
    return tvm.target.Target({"kind": "llvm", "mcpu": cpu})


def result_like(func: Any) -> np.ndarray:
    """Array for the result of a PrimFunc, filled with a value that no test expects."""
    result = func.params[-1]
    return np.full([int(d) for d in result.shape], 85, dtype=str(result.dtype))


def run_llvm(func: Any, operands: list[np.ndarray], *, optimised: bool = False) -> np.ndarray:
    """Result of a PrimFunc built for LLVM."""
    module = tvm.compile(tvm.IRModule({"f": func.with_attr("global_symbol", "f")}), target=target(optimised))
    out = tvm.runtime.tensor(result_like(func))
    module["f"](*[tvm.runtime.tensor(np.ascontiguousarray(o)) for o in operands], out)
    return out.numpy()


def run_accel(
    func: Any, operands: list[np.ndarray], name: str, *, mode: str = "functional"
) -> tuple[np.ndarray, dict[str, Any]]:
    """Result of a PrimFunc compiled for the accelerator, and the simulator's statistics."""
    out = result_like(func)
    stats = run_program(compile_layer(func, config(name)), config(name), [*operands, out], mode)
    return out, stats


def compare(layer: Layer, seed: int, name: str, *, optimised: bool = False) -> dict[str, Any]:
    """Golden == LLVM == simulator, bit for bit; returns the simulator's statistics."""
    operands = layergen.operands_of(layer, seed)
    want = layergen.valid_lanes(layer, golden.run_layer(layer, operands))
    func = build_primfunc(layer, "f")
    on_chip, stats = run_accel(func, operands, name)
    assert on_chip.dtype == want.dtype
    np.testing.assert_array_equal(layergen.valid_lanes(layer, on_chip), want, err_msg="simulator")
    on_cpu = run_llvm(schedule_cpu(func), operands, optimised=optimised)
    assert on_cpu.dtype == want.dtype
    np.testing.assert_array_equal(layergen.valid_lanes(layer, on_cpu), want, err_msg="LLVM")
    return stats
