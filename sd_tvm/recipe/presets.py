"""Named recipes, as plain data."""

from __future__ import annotations

from typing import Any

RECIPE_VERSION = 1
#: Weights of a layer that ``codebook64`` leaves in int8: such layers hold next to no bytes, and in a compact
#: network the first ones carry most of the damage (docs/accuracy.md).
SMALL_LAYER = 6000
#: The same for ``sd-small8``, whose file is to be entropy coded (docs/accuracy.md).
MEDIUM_LAYER = 60_000


def _preset(form: dict[str, Any], **rest: Any) -> dict[str, Any]:
    rules = [
        {"op": "*", "kind": "sd", "form": form},
        {"op": "depthwise", "kind": "int8"},
        {"op": "conv2d", "position": "first", "kind": "int8"},
    ]
    return {"version": RECIPE_VERSION, "rules": rules, **rest}


#: Presets. All but ``int8`` and ``fp32`` keep depthwise layers and the first convolution in int8.
PRESETS: dict[str, dict[str, Any]] = {
    "default": _preset({"pattern": "16:16"}),
    "sd-16:16": _preset({"pattern": "16:16"}),
    "sd-8:16": _preset({"pattern": "8:16"}),
    "sd-4:16": _preset({"pattern": "4:16"}),
    "sd-2:16": _preset({"pattern": "2:16"}),
    "sd-shared": _preset({"pattern": "shared", "kept": 0.5, "group_filters": 32}),
    "sd-codebook": _preset({"pattern": "16:16", "basis": "codebook", "bases": 16}),
    "codebook64": {
        "version": RECIPE_VERSION,
        "rules": [
            {"op": "*", "kind": "sd", "form": {"pattern": "16:16", "basis": "codebook", "bases": 64}},
            {"op": "depthwise", "kind": "int8"},
            {"op": "conv2d", "position": "first", "kind": "int8"},
            {"op": "*", "max_weights": SMALL_LAYER, "kind": "int8"},
        ],
        "solver": {"ridge": 1.0, "damping": 0.1},
    },
    "sd-small8": {
        "version": RECIPE_VERSION,
        "rules": [
            {"op": "*", "kind": "sd", "form": {"pattern": "16:16"}},
            {"op": "depthwise", "kind": "int8"},
            {"op": "conv2d", "position": "first", "kind": "int8"},
            {"op": "*", "max_weights": MEDIUM_LAYER, "kind": "int8"},
        ],
    },
    "smartdeal": _preset(
        {"pattern": "16:16", "alphabet": "pow2-7", "basis": "slice", "slice_rows": 192},
        solver={"method": "official"},
    ),
    "int8": {"version": RECIPE_VERSION, "rules": [{"op": "*", "kind": "int8"}]},
    "fp32": {"version": RECIPE_VERSION, "rules": [{"op": "*", "kind": "skip"}]},
}
