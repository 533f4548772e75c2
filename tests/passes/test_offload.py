"""Placement: the same integers on the CPU, with CPU schedules and on the simulated accelerator."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from passes import nets
from passes.running import QUICK, inputs, run
from passes.test_partition import ALL_SD, INT8, SPARSE, integer

import sd_tvm
from sd_tvm import backend
from sd_tvm._tvm import relax, tirx, tvm
from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.errors import ConfigError, ScheduleError
from sd_tvm.execute import Runner, compile_module
from sd_tvm.recipe import Recipe
from sd_tvm.relay_passes import offload
from sd_tvm.relay_passes.lower_cpu import LowerToCPU
from sd_tvm.relay_passes.offload import EXTERNAL_MODS, Offload
from sd_tvm.relay_passes.pipeline import accelerator_passes, to_integer
from sd_tvm.relay_passes.report import node_reports
from sd_tvm.schedules.ops import LAYER_ATTR
from sd_tvm.schedules.ops.tir import CPU_ATTR

backend.register()


def steps(mod: Any, passes: list[Any]) -> Any:
    for step in passes:
        mod = step(mod)
    return mod


@pytest.mark.parametrize("name", nets.NETS)
def test_bit_equal_on_cpu_and_accelerator(name: str) -> None:
    mod = nets.NETS[name]()
    _, result = integer(mod, ALL_SD)
    x = inputs(mod, 1)[0]
    scheduled = run(relax.get_pipeline("zero")(LowerToCPU()(result)), x)
    for a, b in zip(scheduled, run(result, x, "sd_accel"), strict=True):
        np.testing.assert_array_equal(a, b)
    placed = Offload()(result)
    assert {r.target for r in node_reports(placed) if r.layer} == {"sd_accel"}


@pytest.mark.parametrize("config", AcceleratorConfig.names())
@pytest.mark.parametrize("recipe", [INT8, SPARSE], ids=["int8", "8:16"])
def test_configurations_and_weights(config: str, recipe: Any) -> None:
    mod = nets.classifier()
    _, result = integer(mod, recipe)
    x = inputs(mod, 1)[0]
    np.testing.assert_array_equal(run(result, x)[0], run(result, x, f"sd_accel/{config}")[0])


def test_narrow_multipliers_take_narrow_weights_only() -> None:
    config = "smartexchange-28nm-narrow"
    bounded = Recipe.from_dict(ALL_SD.model_dump(mode="json") | {"solver": {"weight_bits": 10}})
    mod = nets.classifier()
    x = inputs(mod, 1)[0]
    _, narrow = integer(mod, bounded)
    assert {r.target for r in node_reports(Offload(config)(narrow)) if r.layer} == {"sd_accel"}
    np.testing.assert_array_equal(run(narrow, x)[0], run(narrow, x, f"sd_accel/{config}")[0])
    rows = node_reports(Offload(config)(integer(mod, ALL_SD)[1]))
    refused = {r.node: r.reason for r in rows if r.layer and r.target != "sd_accel"}
    assert {name for name, why in refused.items() if "need more than the 10 bits" in why} == {"stem", "fc"}, (
        refused
    )


@pytest.mark.parametrize("name", ["classifier", "conv1d"])
def test_dynamic(name: str) -> None:
    mod = nets.NETS[name]()
    _, result = integer(mod, ALL_SD, calibrate=False)
    x = inputs(mod, 1)[0]
    np.testing.assert_allclose(run(result, x)[0], run(result, x, "sd_accel")[0], rtol=1e-5, atol=1e-5)


def test_cpu_schedules_keep_the_record() -> None:
    result = LowerToCPU()(integer(nets.residual(), ALL_SD)[1])
    layers = [
        f for _, f in result.functions_items() if isinstance(f, tirx.PrimFunc) and LAYER_ATTR in f.attrs
    ]
    assert len(layers) == 3
    assert all(CPU_ATTR in f.attrs for f in layers)
    assert {r.target for r in node_reports(result)} == {"cpu-integer"}
    again = LowerToCPU()(result)
    tvm.ir.assert_structural_equal(again, result)
    assert {r.target for r in node_reports(Offload()(result))} == {"cpu-integer"}


def test_offloaded_functions_are_gone() -> None:
    result = Offload()(integer(nets.classifier(), ALL_SD)[1])
    assert not any(LAYER_ATTR in (f.attrs or {}) for _, f in result.functions_items())
    text = result.script()
    assert text.count("R.call_dps_packed(") == 1
    assert 'R.call_dps_packed("main_region0"' in text
    unfused = Offload(fuse=False)(integer(nets.classifier(), ALL_SD)[1]).script()
    for name in ("stem", "mean", "fc"):
        assert f'R.call_dps_packed("{name}"' in unfused
    (module,) = result.attrs[EXTERNAL_MODS]
    assert module.kind == "sd_accel"


def test_other_external_modules_stay() -> None:
    result = integer(nets.conv_relu(), ALL_SD)[1]
    other = tvm.compile(nets.conv_relu(), target=tvm.target.Target(QUICK)).mod
    placed = Offload()(result.with_attr(EXTERNAL_MODS, [other]))
    assert [m.kind for m in placed.attrs[EXTERNAL_MODS]] == [other.kind, "sd_accel"]


def test_a_layer_that_does_not_fit_stays(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    compile_layer, compile_region = offload.compile_layer, offload.compile_region

    def refuse(func: Any, config: Any) -> bytes:
        if '"name": "b"' in str(func.attrs[LAYER_ATTR]):
            raise ScheduleError("tile of b needs 9 MB", expected="8 MB", fix="a larger buffer")
        return compile_layer(func, config)

    def refuse_region(region: Any, *args: Any, **options: Any) -> Any:
        if any(node.layer.name == "b" for node in region.nodes):
            raise ScheduleError("the region", expected="less", fix="another one")
        return compile_region(region, *args, **options)

    monkeypatch.setattr(offload, "compile_layer", refuse)
    monkeypatch.setattr(offload, "compile_region", refuse_region)
    mod = nets.residual()
    _, result = integer(mod, ALL_SD)
    rows = {r.node: r for r in node_reports(Offload()(result))}
    assert rows["a"].target == "sd_accel"
    assert rows["b"].target == rows["b_bias"].target == "cpu-integer"
    assert "tile of b needs 9 MB" in rows["b"].reason
    assert rows["b_bias"].reason == "fused into b"
    assert "b stays on the CPU: tile of b needs 9 MB" in caplog.text
    x = inputs(mod, 1)[0]
    np.testing.assert_array_equal(run(result, x)[0], run(result, x, "sd_accel")[0])


def test_configuration_errors() -> None:
    with pytest.raises(ConfigError, match="nonsense"):
        Offload("nonsense")


def test_nothing_runs_twice() -> None:
    mod = nets.conv_relu()
    assert [p.info.name for p in to_integer(mod)][-2:] == ["sd.Decompose", "sd.Partition"]
    decomposed, result = integer(mod, ALL_SD)
    assert [p.info.name for p in to_integer(decomposed)] == ["sd.Partition"]
    assert to_integer(result) == []
    placed = steps(result, accelerator_passes(result))
    assert placed.attrs[EXTERNAL_MODS][0].kind == "sd_accel"
    assert steps(placed, accelerator_passes(placed)).attrs[EXTERNAL_MODS].same_as(placed.attrs[EXTERNAL_MODS])


FRESH = """
import sys
import numpy as np
import tvm
from tvm.runtime.vm import VirtualMachine
module, x, y = sys.argv[1:]
vm = VirtualMachine(tvm.runtime.load_module(module), tvm.cpu())
np.save(y, vm["main"](tvm.runtime.tensor(np.load(x))).numpy())
"""


def test_exported_module_in_a_fresh_process(tmp_path: Path) -> None:
    mod = nets.classifier()
    _, result = integer(mod, ALL_SD)
    x = inputs(mod, 1)[0]
    executable = tvm.compile(result, target="sd_accel")
    executable.export_library(str(tmp_path / "net.so"))
    np.save(tmp_path / "x.npy", x)
    for env in ({}, {"TVM_USE_RUNTIME_LIB": "1"}):
        args = [str(tmp_path / n) for n in ("net.so", "x.npy", "y.npy")]
        environment = {**os.environ, **env}
        subprocess.run([sys.executable, "-c", FRESH, *args], check=True, env=environment)
        np.testing.assert_array_equal(np.load(args[2]), run(result, x)[0])


def test_a_layer_named_like_a_kernel_of_the_host() -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cumsum = torch.nn.Conv2d(3, 16, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.cumsum(x).cumsum(1)

    x = np.random.default_rng(0).normal(size=(4, 3, 10, 10)).astype(np.float32)
    model = sd_tvm.compress(Net().eval(), example_inputs=(torch.zeros(1, 3, 10, 10),), calibration=x)
    results = [Runner(compile_module(model, target).executable)(x[:1])[0] for target in ("llvm", "sd_accel")]
    np.testing.assert_array_equal(*results)
