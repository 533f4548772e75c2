"""Whole networks: every layer on sd_accel or with a reason, the same outputs as LLVM, near float32."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from nets.models import MODELS, make
from passes.running import QUICK, arrays

from sd_tvm._tvm import relax, tvm
from sd_tvm.frontends.torch import from_module
from sd_tvm.recipe import Recipe
from sd_tvm.relay_passes import Calibrate, Decompose, LowerToCPU, Offload, Partition, node_reports
from sd_tvm.relay_passes.pipeline import simplify

#: Operators that stay in float32 on the host, by network; everything else runs on the accelerator.
ON_HOST: dict[str, set[str]] = {
    "bert_layer": {"relax.nn.softmax", "relax.nn.layer_norm"},
    "vit": {"relax.nn.softmax", "relax.nn.layer_norm", "relax.mean"},
}
#: Views whose 8-bit values the host orders anew.
MOVED: dict[str, int] = {}
#: Largest error against float32 in units of the output's range.
TOLERANCE = 0.12


def images(shape: tuple[int, ...], n: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) for _ in range(n)]


@cache
def integer(name: str) -> tuple[Any, Any]:
    """(torch model, integer module)."""
    model, shape = make(name)
    mod = from_module(model, (torch.zeros(shape),))
    for step in (*simplify(), Calibrate(images(shape, 4, 1), method="minmax")):
        mod = step(mod)
    return model, Partition()(Decompose(Recipe.named("int8"))(mod))


def execute(mod: Any, x: np.ndarray) -> list[np.ndarray]:
    executable = tvm.compile(relax.get_pipeline("zero")(mod), target=tvm.target.Target(QUICK))
    return arrays(relax.VirtualMachine(executable, tvm.cpu())["main"](tvm.runtime.tensor(x)))


@pytest.mark.parametrize("name", MODELS)
def test_network(name: str) -> None:
    model, mod = integer(name)
    shape = MODELS[name][1]
    placed = LowerToCPU()(Offload("smartexchange-28nm-parallel")(mod))
    rows = node_reports(placed)
    assert all(row.reason for row in rows if row.target != "sd_accel"), "a layer elsewhere has no reason"
    on_host = {row.op for row in rows if row.target == "cpu"}
    moved = [row for row in rows if row.target == "cpu-integer" and "no code" not in row.reason]
    problem = [(row.node, row.op, row.target, row.reason) for row in rows if row.target != "sd_accel"]
    assert on_host <= ON_HOST.get(name, set()), problem
    assert len(moved) == MOVED.get(name, 0), problem

    x = images(shape, 1, 2)[0]
    on_chip, on_cpu = execute(placed, x), execute(LowerToCPU()(mod), x)
    with torch.no_grad():
        real = model(torch.from_numpy(x))
    want = [r.numpy() for r in (real if isinstance(real, tuple) else (real,))]
    assert len(on_chip) == len(want)
    for a, b, c in zip(on_chip, on_cpu, want, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.shape == c.shape
        assert np.abs(a - c).max() <= TOLERANCE * (c.max() - c.min())
