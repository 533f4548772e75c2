"""The HTML page of a report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib import resources

from sd_tvm.report import units
from sd_tvm.report.bands import Band, row_band, total_band
from sd_tvm.report.bounds import BOUNDS
from sd_tvm.report.groups import grouped
from sd_tvm.report.model import LayerRow, Metric, Report
from sd_tvm.report.plots import plot_report
from sd_tvm.report.plots_time import plot_occupancy, plot_queues
from sd_tvm.report.roofline import plot_roofline
from sd_tvm.report.style import PALETTE


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
        energy=units.energy, count=units.count, nbytes=units.nbytes, percent=units.percent
    )
    environment.filters.update(metric=lambda m: metric_text(replace(m, low=None)), ends=_metric_ends)
    source = resources.files("sd_tvm.report").joinpath("page.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source).render(
        report=report,
        sums=report.sums(),
        shares=energy_shares(report),
        plot=plot_report(report) if report.layers else "",
        roofline=plot_roofline(report) if report.timed else "",
        queues=plot_queues(report),
        occupancy=plot_occupancy(report),
        unused=[o.memory for o in report.occupancy if not o.peak_bytes],
        date=date,
        groups=report.group_sums(),
        energy_cells=energy_cells,
        bounds=_bounds(report),
        bands=[_ends(row_band(row, report.prices)) for row in report.layers],
        whole_band=_ends(total_band(report)) if report.timed else "",
        disassembly=_disassembly(report),
    )


@dataclass(frozen=True)
class Part:
    """A section of the disassembly: heading, way back, lines and how many there are."""

    title: str
    chain: str
    counts: str
    lines: tuple[str, ...]
    total: int


def _disassembly(report: Report) -> list[Part]:
    """Sections of the disassembly, in the order of the layers' rows."""
    parts = []
    for section, row in zip(report.sections, _rows_of_sections(report), strict=True):
        chain = {
            "TensorIR": row.function if row else "",
            "Relax": ", ".join(row.nodes) if row else "",
            "model": ", ".join(row.sources) if row else "",
        }
        parts.append(
            Part(
                row.name if row else f"layer {section.layer}",
                "; ".join(f"{key}: {text}" for key, text in chain.items() if text),
                ", ".join(f"{n} {name}" for name, n in section.counts.items()),
                section.lines,
                section.total,
            )
        )
    return parts


def _rows_of_sections(report: Report) -> list[LayerRow | None]:
    """Row of each section: rows are in the order of the calls and, inside one, of the layer ids."""
    first: dict[int, int] = {}
    sizes: dict[int, int] = {}
    for section in report.sections:
        sizes[section.call] = max(sizes.get(section.call, 0), section.layer + 1)
    start = 0
    for call in sorted(sizes):
        first[call] = start
        start += sizes[call]
    rows = [first[s.call] + s.layer for s in report.sections]
    return [report.layers[i] if i < len(report.layers) else None for i in rows]


def _bounds(report: Report) -> list[tuple[str, str, int, float]]:
    """Bound, what it means, how many layers and which part of the cycles they take."""
    whole = sum(row.cycles or 0 for row in report.layers) or 1
    out = []
    for name, meaning in BOUNDS.items():
        rows = [row for row in report.layers if row.bound == name]
        if rows:
            out.append((name, meaning, len(rows), 100 * sum(row.cycles or 0 for row in rows) / whole))
    return out


def _metric_ends(metric: Metric) -> str:
    if metric.low is None or metric.high is None:
        return ""
    return f" [{units.number(metric.low)}, {units.number(metric.high)}] {metric.unit}"


def _ends(band: Band | None) -> str:
    return "" if band is None else f"[{units.energy(band.low)}, {units.energy(band.high)}]"


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
