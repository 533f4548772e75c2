"""Integer graphs: equal to the golden chain bit for bit, near float32, every node reported."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from passes import nets
from passes.running import GoldenGraph, calibrated, inputs, run

from sd_tvm._tvm import relax
from sd_tvm.recipe import Recipe
from sd_tvm.relay_passes._rewrite import bindings_of
from sd_tvm.relay_passes.decompose import Decompose
from sd_tvm.relay_passes.partition import Partition
from sd_tvm.relay_passes.report import NodeReport, node_reports
from sd_tvm.weights.tensor import RawWeight, SDWeight, WeightForm

ALL_SD = Recipe.from_dict({"version": 1, "rules": [{"op": "*", "kind": "sd", "even_if_larger": True}]})
INT8 = Recipe.named("int8")
SPARSE = Recipe.from_dict(
    {"version": 1, "rules": [{"op": "*", "kind": "sd", "form": {"pattern": "8:16"}, "even_if_larger": True}]}
)


def integer(mod: Any, recipe: Recipe, *, calibrate: bool = True) -> tuple[Any, Any]:
    """(decomposed, integer) module."""
    decomposed = Decompose(recipe)(calibrated(mod) if calibrate else mod)
    return decomposed, Partition()(decomposed)


def report(mod: Any) -> dict[str, NodeReport]:
    return {row.node: row for row in node_reports(mod)}


@pytest.mark.parametrize("name", nets.NETS)
@pytest.mark.parametrize("calibrate", [True, False], ids=["calibrated", "dynamic"])
def test_equals_the_golden_chain_and_is_near_float32(name: str, calibrate: bool) -> None:
    mod = nets.NETS[name]()
    decomposed, result = integer(mod, ALL_SD, calibrate=calibrate)
    relax.analysis.well_formed(result)
    x = inputs(mod, 1)[0]
    got, oracle, real = run(result, x), GoldenGraph(result)(x), GoldenGraph(decomposed)(x)
    assert len(got) == len(real) == len(oracle)
    for a, b, c in zip(got, oracle, real, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6)
        step = (c.max() - c.min()) / 255
        assert np.abs(a - c).max() <= 6 * step


@pytest.mark.parametrize("recipe", [INT8, SPARSE], ids=["int8", "8:16"])
@pytest.mark.parametrize("name", ["classifier", "residual", "grouped_dilated_asymmetric", "depthwise"])
def test_other_weights(name: str, recipe: Recipe) -> None:
    mod = nets.NETS[name]()
    _, result = integer(mod, recipe)
    x = inputs(mod, 1)[0]
    for a, b in zip(run(result, x), GoldenGraph(result)(x), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("name", nets.NETS)
@pytest.mark.parametrize("calibrate", [True, False], ids=["calibrated", "dynamic"])
def test_every_call_is_reported(name: str, calibrate: bool) -> None:
    mod = nets.NETS[name]()
    calls = [str(v.name) for v, value in bindings_of(mod["main"]) if isinstance(value, relax.Call)]
    _, result = integer(mod, ALL_SD, calibrate=calibrate)
    rows = node_reports(result)
    assert [row.node for row in rows] == calls
    for row in rows:
        assert (row.target == "cpu") <= bool(row.reason)
        assert (row.target == "cpu") <= (row.layer == "")


def test_layers_of_a_calibrated_network_are_integer() -> None:
    rows = report(integer(nets.classifier(), ALL_SD)[1])
    assert {row.target for row in rows.values()} == {"integer"}
    assert rows["clip"].layer == rows["stem_bias"].layer == rows["stem"].layer == "stem"
    assert rows["fc_bias"].layer == "fc"


def test_reasons() -> None:
    rows = report(integer(nets.softmax_between(), ALL_SD)[1])
    assert rows["soft"].target == "cpu"
    assert "softmax divides by a sum" in rows["soft"].reason
    rows = report(integer(nets.flatten_moves_data(), ALL_SD)[1])
    assert "moves data" in rows["flat"].reason
    rows = report(integer(nets.sigmoid_gate(), ALL_SD)[1])
    assert "a table: sigmoid, multiply" in rows["gate"].reason
    assert rows["silu"].layer == rows["gate"].layer


def test_what_the_recipe_leaves_out_stays_float32() -> None:
    recipe = Recipe.from_dict(
        {"version": 1, "rules": [{"op": "*", "kind": "int8"}, {"name": "a", "kind": "skip"}]}
    )
    mod = nets.batch_of_three()
    _, result = integer(mod, recipe)
    rows = report(result)
    assert rows["a"].target == "cpu"
    assert "rule 1 (name: a)" in rows["a"].reason
    assert rows["b"].target == "integer"
    x = inputs(mod, 1)[0]
    np.testing.assert_allclose(GoldenGraph(result)(x)[0], GoldenGraph(mod)(x)[0], atol=0.1)


def test_undecomposed_weights_stay_float32() -> None:
    mod = calibrated(nets.conv_relu())
    result = Partition()(mod)
    assert "Decompose did not run" in report(result)["c"].reason
    x = inputs(mod, 1)[0]
    np.testing.assert_allclose(GoldenGraph(result)(x)[0], GoldenGraph(mod)(x)[0], atol=0.05)


def test_missing_calibration_is_said(caplog: pytest.LogCaptureFixture) -> None:
    rows = report(integer(nets.residual(), ALL_SD, calibrate=False)[1])
    assert "2 layers have no calibrated input" in caplog.text
    assert "run time" in rows["a"].reason
    assert "no calibration" in rows["sum"].reason


def test_partition_leaves_no_dead_functions() -> None:
    _, result = integer(nets.classifier(), ALL_SD)
    used = {v.args[0].name_hint for _, v in bindings_of(result["main"]) if hasattr(v, "args")}
    assert {g.name_hint for g in result.get_global_vars()} == used | {"main"}


def test_a_nearly_dead_filter_with_a_bias() -> None:
    """The bias of a filter whose weights vanish is an integer too large for its scale."""
    net = nets.Net((1, 8, 4, 4))
    weight = net.rng.normal(size=(8, 8, 1, 1)).astype(np.float32)
    weight[3] *= 1e-12
    weight[5] = 0
    y = net.call(relax.op.nn.conv2d(net.x, relax.const(weight)), "c")
    bias = np.full((1, 8, 1, 1), 0.7, np.float32)
    mod = net.module(net.relu(net.call(relax.op.add(y, relax.const(bias)), "c_bias")))
    for recipe in (INT8, ALL_SD):
        _, result = integer(mod, recipe)
        assert report(result)["c"].target == "integer"
        x = inputs(mod, 1)[0]
        got = run(result, x)[0]
        np.testing.assert_allclose(got[0, [3, 5]], 0.7, atol=0.05)
        np.testing.assert_allclose(got, GoldenGraph(result)(x)[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("k", "form", "target", "reason"),
    [
        (3000, WeightForm(), "integer", "int8 instead of SD form: fc: filter 0 can reach"),
        (70000, None, "cpu", "fc: filter 0 can reach"),
    ],
    ids=["SD form becomes int8", "int8 stays float32"],
)
def test_sums_that_could_overflow(k: int, form: WeightForm | None, target: str, reason: str) -> None:
    """The largest weights there are, in a layer just too long for int32."""
    net = nets.Net((1, k))
    mod = net.module(net.dense(net.x, 2, "fc"))
    shape, scale = (2, k, 1, 1), np.full(2, 1e-4, np.float32)
    weight: Any = RawWeight(np.full(shape, 127, np.int8), scale)
    if form is not None:
        coef = np.full((2, k // 3, 3), 8, np.int8)
        weight = SDWeight(shape, form, coef, np.full((2, 3, 3), 127, np.int8), scale)
    decomposed = Decompose(weights={"fc": weight})(calibrated(mod))
    result = Partition()(decomposed)
    row = report(result)["fc"]
    assert row.target == target
    assert reason in row.reason
    x = inputs(mod, 1)[0]
    got, real = GoldenGraph(result)(x)[0], GoldenGraph(decomposed)(x)[0]
    assert np.abs(got - real).max() <= 0.02 * np.abs(weight.dequantize()).sum() * np.abs(x).max() / k**0.5
