"""Writing a sweep: JSON and one self-contained HTML page; the same sweep gives the same bytes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sd_tvm.explore.area import BLOCKS, UNCERTAINTY_PERCENT
from sd_tvm.explore.model import EXPLORE_SCHEMA_VERSION, Exploration, Point
from sd_tvm.report.artefacts import write_pair


def exploration_to_json(found: Exploration) -> str:
    """JSON text: ``schema_version`` first, exact integers, fixed order; ``front``: places in the space."""
    front = {point.index for point in found.front}
    data: dict[str, Any] = {
        "schema_version": EXPLORE_SCHEMA_VERSION,
        "title": found.title,
        "space": found.space.model_dump(mode="json"),
        "notes": found.notes,
        "versions": found.versions,
        "model": {
            "calls": found.calls,
            "instructions": found.instructions,
            "compiled_for": found.compiled_for,
        },
        "area_estimate": {
            "unit": "GE",
            "uncertainty_percent": UNCERTAINTY_PERCENT,
            "blocks": {name: asdict(block) for name, block in BLOCKS.items()},
        },
        "front": [point.index for point in found.front],
        "points": [_point(point) | {"on_front": point.index in front} for point in found.points],
        "refused": [asdict(refusal) for refusal in found.refused],
    }
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_exploration(found: Exploration, folder: str | Path) -> Path:
    """Write ``explore.json`` and ``explore.html`` into a folder, which is made; returns the page's path."""
    from sd_tvm.explore.page import render_exploration

    return write_pair(folder, "explore", exploration_to_json(found), render_exploration(found))


def _point(point: Point) -> dict[str, Any]:
    return asdict(point) | {"area_total_ge": point.area_total_ge}
