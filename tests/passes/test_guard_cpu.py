"""Integer layers through ``tvm.compile(target=llvm)``: kernels by target, processors that cannot run them."""

from __future__ import annotations

import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import neonrun
import numpy as np
import pytest
from passes import nets
from passes.running import QUICK, inputs, run
from passes.test_partition import ALL_SD, integer

from sd_tvm import backend
from sd_tvm._tvm import relax, tvm
from sd_tvm.errors import OptionError, UnsupportedCPUError
from sd_tvm.execute import Runner, compile_module, load_executable, open_model
from sd_tvm.relay_passes.guard_cpu import GUARD, GuardCPU
from sd_tvm.relay_passes.lower_cpu import LowerToCPU, required_features
from sd_tvm.relay_passes.report import node_reports
from sd_tvm.schedules.cpu.guard import AARCH64_BITS
from sd_tvm.schedules.cpu.isa import AVX2, AVX512_VNNI

backend.register()
HOST = tvm.target.Target(
    {"kind": "llvm", "mcpu": tvm.get_global_func("tvm.codegen.llvm.GetHostCPUName")(), "opt-level": 0}
)
#: No processor that these tests have run on has matrix tiles; if one has, name a newer feature.
NEWER = tvm.target.Target({"kind": "llvm", "mattr": ["+sse4.2", "+amx-tile"], "opt-level": 0})


@cache
def network() -> tuple[Any, np.ndarray]:
    mod = nets.classifier()
    return integer(mod, ALL_SD)[1], inputs(mod, 1)[0]


def test_kernels_give_the_same_integers_and_are_named() -> None:
    mod, x = network()
    lowered = LowerToCPU(HOST)(mod)
    said = {r.node: r.reason for r in node_reports(lowered) if r.layer and "fused" not in r.reason}
    assert sum("kernel " in why for why in said.values()) == 2, said
    np.testing.assert_array_equal(run(relax.get_pipeline("zero")(lowered), x, HOST)[0], run(mod, x)[0])


def test_reason_of_the_portable_schedule() -> None:
    mod, _ = network()
    lowered = LowerToCPU()(mod)
    reasons = [r.reason for r in node_reports(lowered) if "portable" in r.reason]
    assert reasons
    assert all(
        "portable schedule: the target has none of avx2 (fma, avx2), avx512vnni (" in r for r in reasons
    )
    assert required_features(lowered) == []


def test_plain_compile_chooses_kernels() -> None:
    """``tvm.compile`` of a module whose integer layers have no schedule, for a target with features."""
    mod, x = network()
    executable = tvm.compile(mod, target=HOST)
    asm = executable.mod.imports[0].inspect_source("ll") if hasattr(executable, "mod") else ""
    assert GUARD in asm
    got = relax.VirtualMachine(executable, tvm.cpu())["main"](tvm.runtime.tensor(x)).numpy()
    np.testing.assert_array_equal(got, run(mod, x)[0])


def test_kernels_for_another_target_are_refused() -> None:
    mod, _ = network()
    lowered = LowerToCPU(tvm.target.Target(AVX512_VNNI.target))(mod)
    assert set(required_features(lowered)) >= {"avx512vnni"}
    with pytest.raises(UnsupportedCPUError, match="avx512vnni, which the target lacks"):
        GuardCPU(tvm.target.Target(AVX2.target))(lowered)


def test_library_for_a_newer_processor(tmp_path: Path) -> None:
    """It is compiled and exported here; running it is the typed error, also for plain TVM."""
    mod, x = network()
    path = tmp_path / "newer.so"
    tvm.compile(mod, target=NEWER).export_library(str(path))
    runner = Runner(load_executable(path))
    with pytest.raises(UnsupportedCPUError, match=r"the module was compiled .*Expected: .*amx-tile"):
        runner(x)


def test_target_names_a_processor() -> None:
    mod, _ = network()
    compiled = compile_module(mod, "llvm/x86-64-v3")
    assert set(compiled.requires) >= {"avx2", "fma"}
    assert "avx512f" not in compiled.requires
    assert any("avx2" in row.reason for row in compiled.nodes)
    with pytest.raises(OptionError, match=r"unknown processor 'x86-64-v9'.*Expected: .*x86-64-v3"):
        compile_module(mod, "llvm/x86-64-v9")


def test_library_for_another_architecture(tmp_path: Path) -> None:
    """Its kernels are NEON's and are named; it is exported as object files, and asks for what it needs."""
    mod, _ = network()
    compiled = compile_module(mod, "llvm/cortex-a76")
    assert "dotprod" in compiled.requires
    assert sum("neondot" in row.reason for row in compiled.nodes) == 2
    compiled.executable.export_library(str(tmp_path / "arm.tar"))
    with tarfile.open(tmp_path / "arm.tar") as archive:
        member = archive.extractfile("lib0.o")
        assert member is not None
        code = member.read()
    neonrun.Machine(code).call(GUARD, [])
    with pytest.raises(neonrun.CodeError, match=r"the module was compiled .*Expected: .*dotprod"):
        neonrun.Machine(code, AARCH64_BITS["dotprod"]).call(GUARD, [])
    with pytest.raises(OptionError, match=r"target 'llvm/cortex-a76' on this machine"):
        open_model(mod, "llvm/cortex-a76")


def test_nothing_changes_without_features() -> None:
    mod, _ = network()
    lowered = LowerToCPU()(mod)
    assert GuardCPU(tvm.target.Target(QUICK))(lowered).same_as(lowered)
    again = GuardCPU(HOST)(GuardCPU(HOST)(lowered))
    tvm.ir.assert_structural_equal(again, GuardCPU(HOST)(lowered))
