"""Recipes of the retrained networks.

The first convolution (one input channel) stays in int8. Codebooks everywhere: a basis for each filter would
take more bytes than the codes of these small layers.
"""

from __future__ import annotations

from typing import Any

from sd_tvm.recipe import Recipe


def _sd(pattern: str, alphabet: str, bases: int = 4) -> dict[str, Any]:
    form = {"pattern": pattern, "alphabet": alphabet, "basis": "codebook", "bases": bases}
    return {"kind": "sd", "form": form}


def _recipe(*rules: dict[str, Any]) -> Recipe:
    first = {"op": "conv2d", "position": "first", "kind": "int8"}
    return Recipe.from_dict({"version": 1, "rules": [*rules, first]})


#: Network -> recipe name -> recipe.
RECIPES: dict[str, dict[str, Recipe]] = {
    "resnet20": {
        "4:16": _recipe({"op": "*", **_sd("4:16", "levels9")}),
        # What 20x leaves: 8:16 in the first stage, which has 5 % of the weights, and a dense classifier.
        "4:16, first stage 8:16": _recipe(
            {"op": "*", **_sd("4:16", "levels9")},
            {"regex": r"[123]\.(one|two)\.0", **_sd("8:16", "levels9")},
            {"name": "12", **_sd("16:16", "levels9")},
        ),
        "4:16-two-term": _recipe({"op": "*", **_sd("4:16", "two-term", 8)}),
    },
    "mobilenetv2-s": {
        # A depthwise filter has three rows: no pattern prunes it.
        "4:16": _recipe(
            {"op": "*", **_sd("4:16", "levels5")},
            {"op": "depthwise", **_sd("16:16", "levels7", 8)},
            {"regex": r"[4-6]\.(expand|project)\.0", **_sd("4:16", "ternary")},
        ),
        # What 20x leaves: 8:16 in the first two 1x1 convolutions, and a dense classifier.
        "4:16, first layers 8:16": _recipe(
            {"op": "*", **_sd("4:16", "levels5")},
            {"op": "depthwise", **_sd("16:16", "levels7", 8)},
            {"regex": r"[4-6]\.(expand|project)\.0", **_sd("4:16", "ternary")},
            {"regex": r"1\.project\.0|2\.expand\.0", **_sd("8:16", "levels5")},
            {"name": "10", **_sd("16:16", "levels5")},
        ),
    },
    "vgg-s": {
        # 40x leaves no more for the last convolution, which has half of all weights.
        "4:16": _recipe(
            {"op": "*", **_sd("4:16", "levels5", 8)},
            {"name": "9.0", **_sd("4:16", "ternary", 8)},
            {"name": "10.0", **_sd("2:16", "levels7", 8)},
        ),
    },
}
