"""Reports on the terminal (rich)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sd_tvm.report import units
from sd_tvm.report.model import LayerRow, Report
from sd_tvm.report.page import metric_text

if TYPE_CHECKING:
    from rich.table import Table


def layer_table(report: Report) -> Table:
    """Per-layer table with totals; time and energy only if the run was timed."""
    from rich.table import Table

    table = Table(title=report.title, show_footer=True, pad_edge=False, collapse_padding=True)
    sums = report.sums()
    left = ("layer", "kind", "shape")
    for name in left:
        table.add_column(name, "total" if name == "layer" else "", overflow="fold")
    footers = [
        ("b/w", f"{8 * sums['weight_bytes'] / sums['weights']:.2f}" if sums["weights"] else ""),
        ("MACs", units.count(sums["macs"])),
    ]
    if report.timed:
        utilisation = sums["macs"] / sums["peak_macs"] if sums["peak_macs"] else None
        footers += [
            ("cycles", f"{sums['cycles']:,}"),
            ("util.", units.percent(utilisation)),
            ("energy", units.energy(sums["energy_total_fj"])),
        ]
        footers += [(name, units.energy(sums[f"energy_fj.{name}"])) for name in report.components]
    for name, footer in footers:
        table.add_column(name, footer, justify="right", no_wrap=True)
    for row in report.layers:
        table.add_row(*_cells(report, row))
    return table


def _cells(report: Report, row: LayerRow) -> list[str]:
    bits = row.bits_per_weight
    cells = [row.name, row.kind, row.shape, "" if bits is None else f"{bits:.2f}", units.count(row.macs)]
    if report.timed:
        cells += [
            f"{row.cycles:,}",
            units.percent(row.utilisation) if row.macs else "",
            units.energy(row.energy_total_fj or 0),
        ]
        cells += [units.energy((row.energy_fj or {}).get(name, 0)) for name in report.components]
    return cells


def metric_table(report: Report) -> Table:
    """Headline metrics, one a row."""
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for metric in report.metrics:
        table.add_row(metric.name, metric_text(metric))
    return table
