"""Layers whose weights do not fit run in parts of their input channels, with the same integers."""

from __future__ import annotations

from typing import Any

import layergen
import layerrun
import numpy as np
import pytest
from layerrun import config
from passes.nets import Net
from passes.running import calibrated, inputs, run

from sd_tvm._tvm import relax
from sd_tvm.layers import SumLayer
from sd_tvm.numerics import golden
from sd_tvm.numerics.qp import pack_qp
from sd_tvm.recipe import Recipe
from sd_tvm.relay_passes import Decompose, LowerToCPU, Offload, Partition, node_reports
from sd_tvm.schedules.cpu import schedule_cpu
from sd_tvm.schedules.ops import build_primfunc


def recipe(pattern: str) -> Recipe:
    if pattern == "int8":
        return Recipe.named("int8")
    rule = {"op": "*", "kind": "sd", "form": {"pattern": pattern}, "even_if_larger": True}
    return Recipe.from_dict({"version": 1, "rules": [rule]})


def wide(kernel: int, channels: int) -> Any:
    net = Net((1, channels, 5, 4))
    y = net.relu(net.conv(net.x, 32, kernel, "big", padding=kernel // 2))
    return net.module(net.conv(y, 4, 1, "last"))


@pytest.mark.parametrize(
    ("pattern", "kernel", "channels"),
    [("int8", 3, 160), ("int8", 1, 640), ("4:16", 3, 512), ("16:16", 3, 128), ("16:16", 1, 1536)],
)
def test_in_parts(pattern: str, kernel: int, channels: int) -> None:
    mod = calibrated(wide(kernel, channels), n=1)
    result = Partition()(Decompose(recipe(pattern))(mod))
    tiny = config("tiny")
    small = tiny.model_copy(update={"sram": tiny.sram.model_copy(update={"code_kb": 8})})
    placed = Offload(small)(result)
    rows = {row.node: row for row in node_reports(placed)}
    assert {row.target for row in rows.values()} == {"sd_accel"}
    assert "parts" in rows["big"].reason
    x = inputs(mod, 1, seed=4)[0]
    on_chip, on_cpu = run(LowerToCPU()(placed), x)[0], run(LowerToCPU()(result), x)[0]
    np.testing.assert_array_equal(on_chip, on_cpu)


def test_512_filters_of_512_channels_on_edge() -> None:
    net = Net((1, 512, 4, 4))
    mod = calibrated(net.module(net.relu(net.conv(net.x, 512, 3, "big", padding=1))), n=1)
    placed = Offload("edge")(Partition()(Decompose(recipe("int8"))(mod)))
    assert {row.target for row in node_reports(placed)} == {"sd_accel"}
    relax.analysis.well_formed(placed)


@pytest.mark.parametrize("name", ["tiny", "edge"])
@pytest.mark.parametrize(
    "layer",
    [
        SumLayer("s", 1, 32, (5, 4), 3),
        SumLayer("s", 2, 40, (9, 7), 2, "int8"),
        SumLayer("s", 1, 16, (1, 1), 9),
    ],
)
def test_sums(layer: SumLayer, name: str) -> None:
    rng = np.random.default_rng(1)
    blocks = -(-layer.channels // 16)
    shape = (layer.batch, layer.parts * blocks, *layer.hw, 16)
    sums = rng.integers(-(2**20), 2**20, shape).astype(np.int32)
    low = -100 if layer.out_dtype == "int8" else 3
    m0 = rng.integers(2**30, 2**31, blocks * 16)
    qp = pack_qp(np.zeros_like(m0), m0, np.full_like(m0, -13), 10, low, 100)
    want = layergen.valid_lanes(layer, golden.run_layer(layer, [sums, qp]))
    assert len(np.unique(want)) > 4
    func = build_primfunc(layer, "f")
    for got in (
        layerrun.run_llvm(schedule_cpu(func), [sums, qp]),
        layerrun.run_accel(func, [sums, qp], name)[0],
    ):
        np.testing.assert_array_equal(layergen.valid_lanes(layer, got), want)
