"""Decompose: float32 weights of convolutions and dense layers become SD form or int8, in the graph.

The graph stays float32 and runs anywhere: a weight is now the result of a PrimFunc that rebuilds it from
its compressed operands (:mod:`sd_tvm.relay_passes._weights`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sd_tvm._tvm import relax, tvm
from sd_tvm.errors import RecipeError
from sd_tvm.recipe import LayerPlan, Recipe
from sd_tvm.relay_passes._fit import fit_layer
from sd_tvm.relay_passes._rewrite import Expr, IRModule, Rewriter, rewrite, set_attr
from sd_tvm.relay_passes._weights import WeightedLayer, identifier, weight_call, weighted_layers
from sd_tvm.weights.tensor import SDWeight, Weight

_LOG = logging.getLogger(__name__)

#: Module attribute: JSON list of :class:`Decision`. Its presence says that the module is decomposed.
DECOMPOSITION_ATTR = "sd.decomposition"


@dataclass(frozen=True)
class Decision:
    """What Decompose did with one layer.

    Attributes
    ----------
    name, op, shape
        The layer, as the recipe sees it.
    kind
        ``sd``, ``int8`` or ``skip``.
    reason
        The rule that won, and the bytes it compared.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    kind: str
    reason: str


def decisions(mod: IRModule) -> list[Decision]:
    """What Decompose recorded in a module, in graph order (empty if it never ran)."""
    if mod.attrs is None or DECOMPOSITION_ATTR not in mod.attrs:
        return []
    rows = json.loads(str(mod.attrs[DECOMPOSITION_ATTR]))
    return [Decision(**{**row, "shape": tuple(row["shape"])}) for row in rows]


def is_decomposed(mod: IRModule) -> bool:
    """Whether Decompose ran on a module."""
    return mod.attrs is not None and DECOMPOSITION_ATTR in mod.attrs


@tvm.transform.module_pass(opt_level=0, name="sd.Decompose")
class Decompose:
    """Replace float32 weights by compressed ones; usable in any ``tvm.transform.Sequential``.

    Parameters
    ----------
    recipe
        Which layer takes which form; None is ``Recipe.default()``.
    moments
        Layer name -> input statistics of a calibrated fit; None fits the weights alone.
    weights
        Layer name -> weight that is already fitted (a loaded ``.sd`` file). Layers it does not name
        stay float32; the recipe is not consulted.

    Raises
    ------
    RecipeError
        If a rule by name matches nothing, or ``weights`` names a layer that does not exist or fit.
    """

    def __init__(
        self,
        recipe: Recipe | None = None,
        moments: Mapping[str, Any] | None = None,
        weights: Mapping[str, Weight] | None = None,
    ) -> None:
        self.recipe = recipe or Recipe.default()
        self.moments = moments
        self.weights = weights

    def transform_module(self, mod: IRModule, _context: Any) -> IRModule:
        """The pass."""
        layers = weighted_layers(mod)
        if self.weights is None:
            weights, rows = self._fit(layers)
        else:
            weights, rows = _given(layers, self.weights)
        by_var = {(layer.function, layer.var): layer for layer in layers}
        for function in sorted({layer.function for layer in layers}):

            def rule(ctx: Rewriter, var: Expr, value: Expr, function: str = function) -> Expr | None:
                layer = by_var.get((function, str(var.name)))
                if layer is None or layer.info.name not in weights:
                    return None
                return _with_weight(ctx, layer, value, weights[layer.info.name])

            mod = rewrite(mod, rule, function)
        return set_attr(mod, DECOMPOSITION_ATTR, [asdict(row) for row in rows])

    def _fit(self, layers: list[WeightedLayer]) -> tuple[dict[str, Weight], list[Decision]]:
        plans = self.recipe.plan([layer.info for layer in layers])
        weights: dict[str, Weight] = {}
        for layer in layers:
            plan = plans[layer.info.name]
            if plan.kind != "skip":
                weights[layer.info.name] = fit_layer(layer, plan, self.recipe, self.moments)
        return weights, [_decision(layer, plans[layer.info.name]) for layer in layers]


def _decision(layer: WeightedLayer, plan: LayerPlan) -> Decision:
    return Decision(layer.info.name, layer.info.op, layer.info.shape, plan.kind, plan.reason)


def _given(
    layers: list[WeightedLayer], weights: Mapping[str, Weight]
) -> tuple[dict[str, Weight], list[Decision]]:
    names = {layer.info.name for layer in layers}
    unknown = sorted(set(weights) - names)
    if unknown:
        raise RecipeError(
            f"weights of layers that the graph does not have: {unknown[:5]}",
            expected=f"names among {sorted(names)[:8]}",
            fix="use the graph that the weights were made for",
        )
    rows = []
    for layer in layers:
        weight = weights.get(layer.info.name)
        if weight is None:
            kind = "skip"
        else:
            kind = "sd" if isinstance(weight, SDWeight) else "int8"
            if weight.shape != layer.array.shape:
                raise RecipeError(
                    f"weight of {layer.info.name!r} has shape {weight.shape}",
                    expected=str(layer.array.shape),
                    fix="use the graph that the weights were made for",
                )
        rows.append(Decision(layer.info.name, layer.info.op, layer.info.shape, kind, "given"))
    return dict(weights), rows


def _with_weight(ctx: Rewriter, layer: WeightedLayer, call: Expr, weight: Weight) -> Expr:
    """The layer's call with its weight rebuilt from compressed operands."""
    name = identifier(layer.info.name)
    rebuilt = ctx.emit(weight_call(ctx.builder, layer.info.name, weight), f"{name}_weight")
    if layer.info.op == "dense":
        m, k = layer.info.shape
        matrix = ctx.emit(relax.op.reshape(rebuilt, (m, k)), f"{name}_matrix")
        rebuilt = ctx.emit(relax.op.permute_dims(matrix, [1, 0]), f"{name}_weight_t")
    elif len(layer.info.shape) == 3:
        rebuilt = ctx.emit(relax.op.reshape(rebuilt, layer.info.shape), f"{name}_weight_1d")
    return relax.Call(call.op, [call.args[0], rebuilt], call.attrs, call.ty_args, call.span)
