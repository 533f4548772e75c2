"""Every layer of EfficientNet-Lite0 with its real weights: golden == CPU == simulator, bit for bit.

The operands of each layer are the golden model's own results for a real photograph, so that one wrong
layer cannot hide behind another.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from passes.running import GoldenGraph

from sd_tvm._tvm import tvm
from sd_tvm.accelerator.codegen import compile_layer
from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.simulator import run_program
from sd_tvm.frontends import load_model
from sd_tvm.layers import layer_from_json
from sd_tvm.models import efficientnet_lite0
from sd_tvm.numerics.golden import from_blocked
from sd_tvm.recipe import Recipe
from sd_tvm.relay_passes._rewrite import is_call
from sd_tvm.relay_passes.calibrate import Calibrate
from sd_tvm.relay_passes.pipeline import simplify, to_integer
from sd_tvm.schedules.cpu import schedule_cpu
from sd_tvm.schedules.ops import LAYER_ATTR

#: 49 convolutions, 9 residual sums, the global average and the classifier.
N_LAYERS = 60
#: CPU code for this machine, as the command line's ``llvm`` target makes it.
HOST = {"kind": "llvm", "mcpu": tvm.get_global_func("tvm.codegen.llvm.GetHostCPUName")()}


def _integer(recipe: str) -> Any:
    mod = load_model("sd_tvm.models.efficientnet_lite0:model")
    for step in (*simplify(), Calibrate(efficientnet_lite0.calibration_images(2))):
        mod = step(mod)
    for step in to_integer(mod, Recipe.named(recipe)):
        mod = step(mod)
    return mod


def _cpu(func: Any, operands: list[np.ndarray], like: np.ndarray) -> np.ndarray:
    scheduled = schedule_cpu(func)
    library = tvm.compile(
        tvm.IRModule({"layer": scheduled.with_attr("global_symbol", "layer")}),
        target=tvm.target.Target(HOST),
    )
    out = tvm.runtime.tensor(np.zeros_like(like))
    library["layer"](*[tvm.runtime.tensor(o) for o in operands], out)
    return np.asarray(out.numpy())


class _Compared(GoldenGraph):
    """Runs each layer three ways and compares the bytes."""

    def __init__(self, mod: Any, config: AcceleratorConfig) -> None:
        super().__init__(mod)
        self.config = config
        self.kinds: list[str] = []

    def evaluate(self, var: Any, value: Any) -> Any:
        golden = super().evaluate(var, value)
        if not is_call(value, "relax.call_tir"):
            return golden
        func = self.mod[value.args[0]]
        if LAYER_ATTR not in (func.attrs or {}):
            return golden
        layer = layer_from_json(str(func.attrs[LAYER_ATTR]))
        operands = [np.ascontiguousarray(self.operand(f)) for f in value.args[1].fields]
        on_cpu = _cpu(func, operands, golden)
        on_accelerator = np.zeros_like(golden)
        run_program(compile_layer(func, self.config), self.config, [*operands, on_accelerator], "functional")
        channels = layer.out_channels if layer.kind == "conv" else layer.channels
        want = from_blocked(golden, channels)  # nothing defines the lanes beyond the channels
        np.testing.assert_array_equal(from_blocked(on_cpu, channels), want, f"{layer.name}: CPU")
        np.testing.assert_array_equal(
            from_blocked(on_accelerator, channels), want, f"{layer.name}: simulator"
        )
        self.kinds.append(layer.kind)
        return golden


@pytest.mark.parametrize(
    ("recipe", "config"), [("default", "smartexchange-28nm-parallel"), ("sd-4:16", "edge")]
)
def test_every_layer(recipe: str, config: str) -> None:
    run = _Compared(_integer(recipe), AcceleratorConfig.load(config))
    image = efficientnet_lite0.calibration_images(3)[2]
    logits = run(np.asarray(image, np.float32).reshape(1, 3, 224, 224))[0]
    assert logits.shape == (1, 1000)
    assert len(run.kinds) == N_LAYERS, run.kinds
