"""Writing a sweep: JSON and one self-contained HTML page; the same sweep gives the same bytes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sd_tvm.explore.area import BLOCKS, UNCERTAINTY_PERCENT
from sd_tvm.explore.model import EXPLORE_SCHEMA_VERSION, Exploration, Point


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

    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    (target / "explore.json").write_text(exploration_to_json(found), encoding="utf-8", newline="")
    page = target / "explore.html"
    page.write_text(render_exploration(found), encoding="utf-8", newline="")
    return page


def _point(point: Point) -> dict[str, Any]:
    return asdict(point) | {"area_total_ge": point.area_total_ge}
