"""``fit_in_order`` with another way to fit a layer and to compute operators: what comparisons need."""

from __future__ import annotations

from typing import Any

import numpy as np
from tradeoff import small

from sd_tvm.calibration.ops import evaluate
from sd_tvm.calibration.sequential import fit_in_order, fit_int8
from sd_tvm.frontends import load_model
from sd_tvm.recipe import LayerPlan, Recipe, Solver
from sd_tvm.relay_passes._weights import WeightedLayer
from sd_tvm.relay_passes.pipeline import simplify
from sd_tvm.weights.tensor import RawWeight


def test_another_fit_gets_what_the_solver_gets() -> None:
    mod = load_model(*small.model())
    for step in simplify():
        mod = step(mod)
    seen: dict[str, tuple[str, Any, Any]] = {}
    operators: set[str] = set()

    def fit(layer: WeightedLayer, plan: LayerPlan, hessian: Any, cross: Any, solver: Solver) -> RawWeight:
        seen[layer.info.name] = (plan.kind, hessian, cross)
        return fit_int8(layer, hessian, cross, solver.ridge or 1.0)

    def watched(call: Any, args: Any) -> Any:
        operators.add(call.op.name)
        return evaluate(call, args)

    data = small.data(4)
    found = fit_in_order(mod, data, Recipe.default(), fit=fit, evaluate=watched)
    wanted = fit_in_order(mod, data, Recipe.named("int8"))
    assert list(found.weights) == list(wanted.weights) == list(seen)
    for name, weight in wanted.weights.items():
        np.testing.assert_array_equal(found.weights[name].integer(), weight.integer())
    assert found.errors == wanted.errors
    assert "sd" in {kind for kind, _, _ in seen.values()}
    for (_, hessian, cross), weight in zip(seen.values(), wanted.weights.values(), strict=True):
        assert hessian.shape[1] == hessian.shape[2] == cross.shape[1]
        assert cross.shape[0] == weight.shape[0]
        np.testing.assert_array_equal(hessian, hessian.transpose(0, 2, 1))
    assert {"relax.nn.conv2d", "relax.matmul"} <= operators
