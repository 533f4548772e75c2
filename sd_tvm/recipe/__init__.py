r"""Recipes: which layer takes which form.

A recipe is a list of rules. Every rule selects layers (by name, regular expression or operator) and
says what becomes of them. **The last rule that matches a layer wins**; a layer that no rule matches is
treated as ``otherwise`` says. A rule by ``name`` or ``regex`` must match at least one layer (else
:class:`~sd_tvm.errors.RecipeError`): it names something in the model. A rule by ``op`` may match none:
it speaks of a class of layers.

    version: 1
    rules:
      - {op: '*', kind: sd, form: {pattern: '16:16', alphabet: two-term, basis: filter}}
      - {op: depthwise, kind: int8}
      - {name: 'blocks.1*.project', kind: sd, form: {pattern: '4:16'}}
      - {regex: 'head\..*', kind: skip}
"""

from __future__ import annotations

from sd_tvm.recipe.layer import Kind, LayerInfo, LayerPlan, Op
from sd_tvm.recipe.model import Activations, Form, Recipe, Rule, Solver
from sd_tvm.recipe.presets import PRESETS, RECIPE_VERSION

__all__ = [
    "PRESETS",
    "RECIPE_VERSION",
    "Activations",
    "Form",
    "Kind",
    "LayerInfo",
    "LayerPlan",
    "Op",
    "Recipe",
    "Rule",
    "Solver",
]
