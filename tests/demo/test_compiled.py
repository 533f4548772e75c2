"""EfficientNet-Lite0 whole: every layer on the accelerator, the CPU's integers bit for bit, top-1."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from sd_tvm import backend
from sd_tvm._tvm import relax, tvm
from sd_tvm.data.samples import imagenet_samples
from sd_tvm.frontends import load_model
from sd_tvm.models import efficientnet_lite0
from sd_tvm.recipe import Recipe
from sd_tvm.relay_passes import Calibrate, Decompose, LowerToCPU, Offload, Partition, node_reports
from sd_tvm.relay_passes.pipeline import simplify

backend.register()


@cache
def images() -> tuple[np.ndarray, np.ndarray]:
    samples = imagenet_samples()
    return efficientnet_lite0.preprocess_all(s.image for s in samples), np.array([s.label for s in samples])


@cache
def calibrated() -> Any:
    mod = tvm.transform.Sequential(simplify())(load_model("sd_tvm.models.efficientnet_lite0:model"))
    return Calibrate(efficientnet_lite0.calibration_images(8))(mod)


def scores(executable: Any, n: int) -> np.ndarray:
    main = relax.VirtualMachine(executable, tvm.cpu())["main"]
    return np.concatenate([main(tvm.runtime.tensor(x[None])).numpy() for x in images()[0][:n]])


#: The accuracy of ``default`` needs the calibrated fit; test_demo.py has it.
@pytest.mark.parametrize(("preset", "n", "right"), [("int8", 20, 16), ("default", 2, None)])
def test_whole_network(preset: str, n: int, right: int | None) -> None:
    mod = Partition()(Decompose(Recipe.named(preset))(calibrated()))
    placed = Offload()(mod)
    rows = node_reports(placed)
    assert {row.target for row in rows} == {"sd_accel"}
    assert len({row.layer for row in rows}) == 49 + 9 + 1 + 1  # convolutions, additions, average, dense
    cpu = tvm.compile(relax.get_pipeline("zero")(LowerToCPU()(mod)), target="llvm")
    expected, got = scores(cpu, n), scores(tvm.compile(placed, target="sd_accel"), n)
    np.testing.assert_array_equal(got, expected)
    if right is not None:
        assert (got.argmax(1) == images()[1][:n]).sum() >= right
