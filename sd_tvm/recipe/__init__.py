r"""Recipes: which layer takes which form.

A recipe is a list of rules. Every rule selects layers (by name, regular expression or operator, and by
size) and says what becomes of them. **The last rule that matches a layer wins**; a layer that no rule
matches is treated as ``otherwise`` says. A rule by name or regular expression must match at least one layer
(else :class:`~sd_tvm.errors.RecipeError`): it names something in the model. A rule by operator may match
none: it speaks of a class of layers. So does a size: what a name matches may all be too small or too large.

    version: 1
    rules:
      - {op: '*', kind: sd, form: {pattern: '16:16', alphabet: two-term, basis: filter}}
      - {op: depthwise, kind: int8}
      - {op: '*', max_weights: 6000, kind: int8}
      - {name: 'blocks.1*.project', kind: sd, form: {pattern: '4:16'}}
      - {regex: 'head\..*', kind: skip}

``target`` writes the same selectors in one word: ``target: type:depthwise``, ``target: 're:head\..*'``,
``target: 'blocks.1*.project'``.
"""

from __future__ import annotations

from sd_tvm.recipe.form import Form
from sd_tvm.recipe.layer import Kind, LayerInfo, LayerPlan, Op
from sd_tvm.recipe.model import Activations, Recipe, Solver
from sd_tvm.recipe.presets import PRESETS, RECIPE_VERSION
from sd_tvm.recipe.rule import Rule

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
