"""A page and its data, side by side in a folder."""

from __future__ import annotations

from pathlib import Path


def write_pair(folder: str | Path, name: str, data: str, page: str) -> Path:
    """Write ``NAME.json`` and ``NAME.html`` into a folder, which is made; returns the page's path."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    (target / f"{name}.json").write_text(data, encoding="utf-8", newline="")
    html = target / f"{name}.html"
    html.write_text(page, encoding="utf-8", newline="")
    return html
