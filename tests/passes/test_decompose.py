"""Decompose: the graph keeps its function, weights are compressed operands, recipes and given weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from passes import nets
from passes.running import GoldenGraph, inputs, run
from passes.test_partition import ALL_SD, SPARSE

from sd_tvm._tvm import relax, tirx, tvm
from sd_tvm.errors import NumericsError, RecipeError
from sd_tvm.recipe import PRESETS, Recipe
from sd_tvm.relay_passes._rewrite import bindings_of, is_call, set_attr
from sd_tvm.relay_passes._weights import WEIGHT_ATTR, read_weight, weighted_layers
from sd_tvm.relay_passes.decompose import Decompose, decisions, is_decomposed
from sd_tvm.weights.tensor import RawWeight, SDWeight


def weights_of(mod: Any) -> dict[str, Any]:
    found = (read_weight(mod, value) for _, value in bindings_of(mod["main"]))
    return dict(w for w in found if w is not None)


def with_constants(mod: Any, weights: dict[str, Any]) -> Any:
    """The float32 network with dequantised weights, written by hand."""
    by_var = {layer.var: layer for layer in weighted_layers(mod)}
    bindings = []
    for var, value in bindings_of(mod["main"]):
        layer = by_var.get(str(var.name))
        if layer is not None:
            w = weights[layer.info.name].dequantize().reshape(layer.info.shape)
            w = w.T if layer.info.op == "dense" else w
            array = relax.const(np.ascontiguousarray(w))
            value = relax.Call(value.op, [value.args[0], array], value.attrs, value.ty_args)
        bindings.append(relax.VarBinding(var, relax.BlockBuilder().normalize(value)))
    func = mod["main"]
    body = relax.SeqExpr([relax.DataflowBlock(bindings)], func.body.body)
    new = relax.Function(list(func.params), body, func.ret_ty, True, func.attrs)
    return relax.transform.Normalize()(tvm.IRModule({"main": new}))


@pytest.mark.parametrize("recipe", [ALL_SD, SPARSE, Recipe.named("int8")], ids=["sd", "8:16", "int8"])
@pytest.mark.parametrize("name", ["classifier", "grouped_dilated_asymmetric", "conv1d"])
def test_runs_anywhere_and_equals_dequantised_weights(name: str, recipe: Recipe) -> None:
    mod = nets.NETS[name]()
    result = tvm.transform.Sequential([Decompose(recipe)])(mod)
    relax.analysis.well_formed(result)
    x = inputs(mod, 1)[0]
    oracle = run(with_constants(mod, weights_of(result)), x)
    for a, b in zip(run(result, x), oracle, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("preset", sorted(set(PRESETS) - {"fp32"}))
def test_presets(preset: str) -> None:
    mod = nets.classifier()
    result = Decompose(Recipe.named(preset))(mod)
    x = inputs(mod, 1)[0]
    a, b = GoldenGraph(result)(x)[0], GoldenGraph(mod)(x)[0]
    assert np.linalg.norm(a - b) < (0.1 if preset == "int8" else 1.0) * np.linalg.norm(b)
    # The net is so small that presets with a bound on the weights of a layer leave it in int8.
    expected = {"int8"} if preset in ("int8", "codebook64", "sd-small8") else {"int8", "sd"}
    assert {d.kind for d in decisions(result)} == expected


def test_weights_stay_compressed_and_named() -> None:
    result = Decompose(ALL_SD)(nets.classifier())
    text = result.script()
    for part in ("cls.rebuild_stem", "cls.rebuild_fc", "stem_weight", "fc_weight"):
        assert part in text
    assert not any(
        is_call(value, "relax.nn.conv2d", "relax.matmul") and not isinstance(value.args[1], relax.Var)
        for _, value in bindings_of(result["main"])
    )
    funcs = [f for _, f in result.functions_items() if isinstance(f, tirx.PrimFunc)]
    assert all(WEIGHT_ATTR in f.attrs for f in funcs)
    assert len(funcs) == 2


def test_fp32_recipe_changes_nothing_but_the_record() -> None:
    mod = nets.classifier()
    result = Decompose(Recipe.named("fp32"))(mod)
    tvm.ir.assert_structural_equal(result["main"], mod["main"])
    assert is_decomposed(result)
    assert {d.kind for d in decisions(result)} == {"skip"}


def test_names_of_the_users_model() -> None:
    mod = set_attr(nets.batch_of_three(), "sd.names", {"a": "blocks.0.conv", "b": "head/1x1"})
    result = Decompose(ALL_SD)(mod)
    assert set(weights_of(result)) == {"blocks.0.conv", "head/1x1"}
    assert "rebuild_blocks_0_conv" in result.script()
    assert "rebuild_head_1x1" in result.script()


def test_a_pattern_that_matches_nothing() -> None:
    recipe = Recipe.from_dict({"version": 1, "rules": [{"name": "stm", "kind": "int8"}]})
    with pytest.raises(RecipeError, match=r"did you mean 'stem'"):
        Decompose(recipe)(nets.classifier())


def test_given_weights() -> None:
    mod = nets.classifier()
    weights = weights_of(Decompose(ALL_SD)(mod))
    result = Decompose(weights={"fc": weights["fc"]})(mod)
    assert [d.kind for d in decisions(result)] == ["skip", "sd"]
    again = weights_of(result)["fc"]
    assert isinstance(again, SDWeight)
    np.testing.assert_array_equal(again.coef, weights["fc"].coef)
    np.testing.assert_array_equal(again.basis, weights["fc"].basis)
    np.testing.assert_array_equal(again.scale, weights["fc"].scale)


def test_given_weights_that_do_not_fit() -> None:
    mod = nets.classifier()
    raw = RawWeight(np.ones((10, 40, 1, 1), np.int8), np.ones(10, np.float32))
    with pytest.raises(RecipeError, match="does not have"):
        Decompose(weights={"nope": raw})(mod)
    with pytest.raises(RecipeError, match="has shape"):
        Decompose(weights={"stem": raw})(mod)


def test_not_finite() -> None:
    net = nets.Net((1, 4, 4, 4))
    bad = np.full((4, 4, 1, 1), np.nan, np.float32)
    mod = net.module(net.call(relax.op.nn.conv2d(net.x, relax.const(bad)), "c"))
    with pytest.raises(NumericsError, match="'c' has values that are not finite"):
        Decompose()(mod)


def test_layers_without_constant_weights_are_left_alone() -> None:
    x = relax.Var("x", relax.TensorType((1, 4, 4, 4), "float32"))
    w = relax.Var("w", relax.TensorType((4, 4, 1, 1), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x, w]):
        with builder.dataflow():
            y = builder.emit_output(builder.emit(relax.op.nn.conv2d(x, w)))
        builder.emit_func_output(y)
    mod = builder.get()
    result = Decompose()(mod)
    tvm.ir.assert_structural_equal(result["main"], mod["main"])
    bound = relax.transform.BindParams("main", {"w": np.ones((4, 4, 1, 1), np.float32)})(mod)
    assert len(weights_of(Decompose(ALL_SD)(bound))) == 1
