"""The HTML page of a sweep: plots, Pareto front, all points. No scripts, no requests."""

from __future__ import annotations

from importlib import resources

from sd_tvm.explore.area import BLOCKS, UNCERTAINTY_PERCENT
from sd_tvm.explore.model import Exploration
from sd_tvm.explore.plot import plot_exploration
from sd_tvm.report import units


def render_exploration(found: Exploration) -> str:
    """HTML text; the same sweep gives the same text."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        energy=units.energy,
        count=units.count,
        nbytes=units.nbytes,
        time=lambda ps: units.seconds(ps * 1e-12),
    )
    source = resources.files("sd_tvm.explore").joinpath("page.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source).render(
        found=found,
        front={point.index for point in found.front},
        plots=plot_exploration(found),
        blocks=BLOCKS.values(),
        uncertainty=UNCERTAINTY_PERCENT,
    )
