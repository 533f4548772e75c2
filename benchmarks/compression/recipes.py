"""The recipes that are compared, as plain data."""

from __future__ import annotations

from typing import Any

from sd_tvm.recipe import Recipe

Rule = dict[str, Any]
FILTER: Rule = {"pattern": "16:16"}
CODEBOOK: Rule = {"pattern": "16:16", "basis": "codebook", "bases": 64}
SOLVER = {"ridge": 1.0, "damping": 0.1}
#: Layers that stay int8 in every SD row.
ALWAYS: list[Rule] = [
    {"op": "depthwise", "kind": "int8"},
    {"op": "conv2d", "position": "first", "kind": "int8"},
]
#: Forms of the peers; of these only the pattern counts and, by alphabet, the width (integers.py).
INT8: Rule = {}
INT4: Rule = {"pattern": "16:16", "basis": "codebook", "bases": 1}
INT3: Rule = {**INT4, "alphabet": "levels7"}
INT2: Rule = {**INT4, "alphabet": "ternary"}
SPARSE: Rule = {**INT4, "pattern": "4:16"}


def _sd(name: str | list[str], form: Rule) -> list[Rule]:
    names = [name] if isinstance(name, str) else name
    return [{"name": n, "kind": "sd", "form": form} for n in names]


def _recipe(rules: list[Rule]) -> Recipe:
    return Recipe.from_dict({"version": 1, "rules": rules, "solver": SOLVER})


def _conv(block: int, part: str) -> str:
    return f"_blocks.{block}._{part}_conv"


def efficientnet_7x() -> Recipe:
    """Two-term, a basis for each filter; nine levels in the classifier; small layers in int8."""
    small: Rule = {"op": "*", "max_weights": 6000, "kind": "int8"}
    rules = [{"op": "*", "kind": "sd", "form": FILTER}, *_sd("_fc", {**FILTER, "alphabet": "levels9"})]
    return _recipe([*rules, *ALWAYS, small])


def efficientnet_7x_entropy() -> Recipe:
    """Two-term, a basis for each filter; layers of at most 60,000 weights in int8."""
    return Recipe.named("sd-small8")


def efficientnet_10x_entropy() -> Recipe:
    """Five levels in the last four blocks, head and classifier, two-term before them; small layers int8."""
    five = [_conv(i, part) for i in range(12, 16) for part in ("expand", "project")]
    return _recipe(
        [
            {"op": "*", "kind": "sd", "form": CODEBOOK},
            *_sd([*five, "_conv_head", "_fc"], {**CODEBOOK, "alphabet": "levels5"}),
            *ALWAYS,
            {"op": "*", "max_weights": 24_000, "kind": "int8"},
        ]
    )


def efficientnet_8x() -> Recipe:
    """Nine levels everywhere, a basis for each filter; small layers int8."""
    return _recipe(
        [
            {"op": "*", "kind": "sd", "form": {**FILTER, "alphabet": "levels9"}},
            *ALWAYS,
            {"op": "*", "max_weights": 24_000, "kind": "int8"},
        ]
    )


def minilm_7x() -> Recipe:
    """Two-term, a basis for each filter, in all linear layers."""
    return _recipe([{"op": "*", "kind": "sd", "form": FILTER}])


def minilm_10x() -> Recipe:
    """Seven levels, in the widening layers five; codebooks of 64."""
    wide: Rule = {"name": "*intermediate*", "kind": "sd", "form": {**CODEBOOK, "alphabet": "levels5"}}
    return _recipe([{"op": "*", "kind": "sd", "form": {**CODEBOOK, "alphabet": "levels7"}}, wide])
