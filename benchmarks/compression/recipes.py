"""The recipes that are compared, as plain data."""

from __future__ import annotations

from typing import Any

from sd_tvm.recipe import Recipe

Rule = dict[str, Any]
FILTER: Rule = {"pattern": "16:16"}
CODEBOOK: Rule = {"pattern": "16:16", "basis": "codebook", "bases": 64}
SOLVER = {"ridge": 1.0, "damping": 0.1}
#: Forms of the peers; of these only the pattern counts and, by alphabet, the width (integers.py).
INT8: Rule = {}
INT4: Rule = {"pattern": "16:16", "basis": "codebook", "bases": 1}
INT3: Rule = {**INT4, "alphabet": "levels7"}
INT2: Rule = {**INT4, "alphabet": "ternary"}
SPARSE: Rule = {**INT4, "pattern": "4:16"}
WIDE, NARROW = (INT8, INT4), (INT8, INT4, INT3, INT2)


def _recipe(rules: list[Rule]) -> Recipe:
    return Recipe.from_dict({"version": 1, "rules": rules, "solver": SOLVER})


def minilm_7x() -> Recipe:
    """Two-term, a basis for each filter, in all linear layers."""
    return _recipe([{"op": "*", "kind": "sd", "form": FILTER}])


def minilm_10x() -> Recipe:
    """Seven levels, in the widening layers five; codebooks of 64."""
    wide: Rule = {"name": "*intermediate*", "kind": "sd", "form": {**CODEBOOK, "alphabet": "levels5"}}
    return _recipe([{"op": "*", "kind": "sd", "form": {**CODEBOOK, "alphabet": "levels7"}}, wide])


def cross_validated(recipe: Recipe) -> Recipe:
    """The recipe with ridge and damping by cross-validation."""
    known = recipe.to_dict()
    return Recipe.from_dict({**known, "solver": {**known["solver"], "ridge": "auto", "damping": "auto"}})
