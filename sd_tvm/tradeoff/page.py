"""The HTML page of a sensitivity report. No scripts, no requests."""

from __future__ import annotations

from importlib import resources

from sd_tvm.report import units
from sd_tvm.tradeoff.model import SensitivityReport


def render_sensitivity(report: SensitivityReport) -> str:
    """HTML text; the same report gives the same text."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        count=units.count, percent=units.percent, short=lambda v: "–" if v is None else f"{v:.3g}"
    )
    source = resources.files("sd_tvm.tradeoff").joinpath("page.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source).render(report=report, warnings=list(report.warnings()))
