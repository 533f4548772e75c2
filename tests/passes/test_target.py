"""Target sd_accel: tags, the pipeline step, nothing changed for other targets, cheap registration."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
from passes import nets
from passes.running import GoldenGraph, calibrated, inputs, run
from passes.test_partition import ALL_SD

from sd_tvm import backend, target
from sd_tvm._tvm import relax, tvm
from sd_tvm.accelerator import DEFAULT_CONFIG
from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.errors import NumericsError, SDError
from sd_tvm.ffi_errors import error_classes
from sd_tvm.relay_passes.decompose import Decompose
from sd_tvm.relay_passes.partition import Partition

backend.register()


def original() -> Any:
    return relax.pipeline.PIPELINE_MAP["default"].sd_tvm_original


def test_tags() -> None:
    assert DEFAULT_CONFIG in target.configuration_names()
    assert target.configuration_names() == AcceleratorConfig.names()
    named = [(f"sd_accel/{n}", n) for n in AcceleratorConfig.names()]
    for tag, config in [("sd_accel", DEFAULT_CONFIG), *named]:
        found = tvm.target.Target(tag)
        assert list(found.keys) == ["sd_accel", "cpu"]
        assert found.kind.name == "llvm"
        assert found.attrs["model"] == config
        assert found.attrs["mcpu"] == tvm.get_global_func("tvm.codegen.llvm.GetHostCPUName")()


def test_registering_twice_wraps_once() -> None:
    before = relax.pipeline.PIPELINE_MAP["default"]
    backend.register()
    assert relax.pipeline.PIPELINE_MAP["default"] is before
    assert original() is relax.pipeline.default_build_pipeline


def test_registration_is_cheap() -> None:
    start = time.perf_counter()
    backend.register()
    assert time.perf_counter() - start < 0.05


@pytest.mark.parametrize("name", ["classifier", "softmax_between"])
@pytest.mark.parametrize("kind", ["llvm", "c", None])
def test_other_targets_see_no_change(name: str, kind: str | None) -> None:
    """The wrapped pipeline gives what TVM's own gives: the same IR text and the same structure."""
    mod = nets.NETS[name]()
    if kind is None:
        ours, theirs = relax.get_pipeline("default")(mod), original()()(mod)
    else:
        with tvm.target.Target(kind):
            ours, theirs = relax.get_pipeline("default")(mod), original()()(mod)
    assert ours.script(show_meta=True) == theirs.script(show_meta=True)
    tvm.ir.assert_structural_equal(ours, theirs)


def test_other_targets_call_the_original_with_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def fake(*args: Any, **kwargs: Any) -> Any:
        seen.append((args, kwargs))
        return lambda mod: mod

    monkeypatch.setitem(relax.pipeline.PIPELINE_MAP, "default", fake)
    target.wrap_pipeline()
    mod = nets.conv_relu()
    with tvm.target.Target("llvm"):
        assert relax.get_pipeline("default", flag=3)(mod).same_as(mod)
    assert seen == [((), {"flag": 3})]


def test_other_pipelines_are_untouched() -> None:
    table = relax.pipeline.PIPELINE_MAP
    assert table["zero"] is relax.pipeline.zero_pipeline
    assert table["default_build"] is relax.pipeline.default_build_pipeline


def test_errors_keep_their_type_across_the_ffi() -> None:
    for cls in error_classes():

        @tvm.transform.module_pass(opt_level=0)
        def fail(mod: Any, _: Any, cls: type[SDError] = cls) -> Any:
            raise cls("found", expected="expected", fix="fix")

        with pytest.raises(cls, match=r"found\. Expected: expected\. What to do: fix\.$") as caught:
            fail(nets.conv_relu())
        assert type(caught.value) is cls


def test_errors_of_passes_reach_the_user_of_compile() -> None:
    mod = nets.Net((1, 4, 4, 4))
    bad = np.full((4, 4, 1, 1), np.inf, np.float32)
    module = mod.module(mod.call(relax.op.nn.conv2d(mod.x, relax.const(bad)), "c"))
    with pytest.raises(NumericsError, match="'c' has values that are not finite"):
        tvm.compile(module, target="sd_accel")


def test_unknown_configuration() -> None:
    wrong = {**target.target_of("nonsense")}
    with pytest.raises(SDError, match="unknown accelerator configuration 'nonsense'"):
        tvm.compile(nets.conv_relu(), target=tvm.target.Target(wrong))


@pytest.mark.parametrize("stage", ["float32", "calibrated", "decomposed", "integer"])
def test_compile_starts_from_any_stage(stage: str) -> None:
    mod = nets.classifier()
    if stage != "float32":
        mod = calibrated(mod)
    if stage in ("decomposed", "integer"):
        mod = Decompose(ALL_SD)(mod)
    if stage == "integer":
        mod = Partition()(mod)
    x = inputs(mod, 1)[0]
    got, real = run(mod, x, "sd_accel")[0], GoldenGraph(nets.classifier())(x)[0]
    assert np.abs(got - real).max() < 0.25 * np.abs(real).max()


def test_bound_parameters() -> None:
    x = relax.Var("x", relax.TensorType((1, 16, 4, 4), "float32"))
    w = relax.Var("w", relax.TensorType((16, 16, 1, 1), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x, w]):
        with builder.dataflow():
            y = builder.emit_output(builder.emit(relax.op.nn.conv2d(x, w)))
        builder.emit_func_output(y)
    weight = np.random.default_rng(0).normal(size=(16, 16, 1, 1)).astype(np.float32)
    mod = relax.transform.BindParams("main", {"w": weight})(builder.get())
    value = np.random.default_rng(1).normal(size=(1, 16, 4, 4)).astype(np.float32)
    expected = np.einsum("mc,nchw->nmhw", weight[:, :, 0, 0], value)
    np.testing.assert_allclose(run(mod, value, "sd_accel")[0], expected, atol=0.05 * np.abs(expected).max())


def test_a_plain_import_registers_and_loads_no_torch_of_ours() -> None:
    """The entry point works in a fresh process, in a few milliseconds, also with TVM's runtime only."""
    code = (
        "import tvm, time; from sd_tvm import backend; backend.register(); t = time.perf_counter();"
        "backend.register(); assert time.perf_counter() - t < 0.05;"
        "import sys; assert 'pydantic' not in sys.modules;"
        "assert tvm.get_global_func('ffi.Module.load_from_bytes.sd_accel') is not None;"
        "assert tvm._RUNTIME_ONLY or tvm.target.Target('sd_accel').keys[0] == 'sd_accel'"
    )
    for runtime_only in ("0", "1"):
        env = {**os.environ, "TVM_USE_RUNTIME_LIB": runtime_only}
        subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], check=True, env=env)
