"""The HTML page of a report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources

from sd_tvm.report import units
from sd_tvm.report.groups import grouped
from sd_tvm.report.model import LayerRow, Metric, Report
from sd_tvm.report.plots import PALETTE, plot_report


@dataclass(frozen=True)
class Share:
    """One group of components' part of the energy."""

    name: str
    energy: str
    percent: float
    colour: str


def render_page(report: Report, *, date: str | None = None) -> str:
    """HTML text of the page; the same report gives the same text."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        energy=units.energy, count=units.count, nbytes=units.nbytes, percent=units.percent, metric=metric_text
    )
    source = resources.files("sd_tvm.report").joinpath("page.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source).render(
        report=report,
        sums=report.sums(),
        shares=energy_shares(report),
        plot=plot_report(report) if report.layers else "",
        date=date,
        groups=report.group_sums(),
        energy_cells=energy_cells,
    )


def metric_text(metric: Metric) -> str:
    """Value and unit of a metric as text."""
    value = metric.value
    if isinstance(value, str):
        text = value
    elif isinstance(value, int):
        text = f"{value:,}"
    else:
        text = units.number(value)
    if metric.low is not None and metric.high is not None:
        text += f" [{units.number(metric.low)}, {units.number(metric.high)}]"
    return f"{text}{'' if metric.unit in ('', '%', 'x') else ' '}{metric.unit}"


def energy_shares(report: Report) -> list[Share]:
    """Parts of the energy by component, zeros left out."""
    if not report.timed:
        return []
    groups = report.group_sums()
    total = sum(groups.values()) or 1
    return [
        Share(name, units.energy(value), 100 * value / total, PALETTE[i % len(PALETTE)])
        for i, (name, value) in enumerate(groups.items())
    ]


def energy_cells(groups: Iterable[str], row: LayerRow) -> list[str]:
    """Energy of a row by group, in the order of ``groups``."""
    parts = grouped(row.energy_fj)
    return [units.energy(parts.get(name, 0)) for name in groups]
