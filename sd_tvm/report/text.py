"""Reports on the terminal (rich)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sd_tvm.report import units
from sd_tvm.report.bands import Band, row_band, total_band
from sd_tvm.report.groups import grouped
from sd_tvm.report.model import Report
from sd_tvm.report.page import metric_text

if TYPE_CHECKING:
    from rich.table import Table

#: Columns that one table with everything needs.
WIDE = 230


def layer_tables(report: Report, width: int = WIDE) -> list[Table]:
    """Per-layer tables with totals.

    Parameters
    ----------
    report
        The report; cycles and energies are shown only if the run was timed.
    width
        Columns of the terminal; when everything does not fit, energies by component get their own table.
    """
    columns, energies = _columns(report), _energies(report)
    if not energies:
        return [_table(report.title, columns)]
    if width >= WIDE:
        return [_table(report.title, [*columns, *energies[1:]])]
    return [_table(report.title, columns), _table("Energy by component, µJ", [columns[0], *energies])]


Column = tuple[str, list[str], str]  # heading, cells, total


def _columns(report: Report) -> list[Column]:
    rows, sums = report.layers, report.sums()
    bits = [row.bits_per_weight for row in rows]
    all_bits = f"{8 * sums['weight_bytes'] / sums['weights']:.2f}" if sums["weights"] else ""
    columns: list[Column] = [
        ("layer", [row.name for row in rows], "total"),
        ("kind", [row.kind for row in rows], ""),
        ("shape", [row.shape for row in rows], ""),
        ("bits/w", ["" if b is None else f"{b:.2f}" for b in bits], all_bits),
        ("MACs", [units.count(row.macs) for row in rows], units.count(sums["macs"])),
    ]
    if report.timed:
        used = sums["macs"] / sums["peak_macs"] if sums["peak_macs"] else None
        columns += [
            ("cycles", [f"{row.cycles:,}" for row in rows], f"{sums['cycles']:,}"),
            (
                "util.",
                [units.percent(row.utilisation) if row.macs else "" for row in rows],
                units.percent(used),
            ),
            ("bound", [row.bound for row in rows], ""),
            ("µJ", [_uj(row.energy_total_fj or 0) for row in rows], _uj(sums["energy_total_fj"])),
        ]
    return columns


def _energies(report: Report) -> list[Column]:
    """Total and energy by group, in microjoules; empty without time."""
    if not report.timed:
        return []
    rows, sums = report.layers, report.sums()
    columns: list[Column] = [
        ("µJ", [_uj(row.energy_total_fj or 0) for row in rows], _uj(sums["energy_total_fj"]))
    ]
    whole = total_band(report)
    if whole is not None:
        columns.append(("[low, high]", [_ends(row_band(row, report.prices)) for row in rows], _ends(whole)))
    for name, total in report.group_sums().items():
        columns.append((name, [_uj(grouped(row.energy_fj).get(name, 0)) for row in rows], _uj(total)))
    return columns


def _table(title: str, columns: list[Column]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title=escape(title), show_footer=True, pad_edge=False, box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for i, (name, _, footer) in enumerate(columns):
        left = i == 0 or name in ("kind", "shape")
        table.add_column(
            escape(name), escape(footer), justify="left" if left else "right", no_wrap=name != "shape"
        )
    for cells in zip(*(cells for _, cells, _ in columns), strict=True):
        table.add_row(*map(escape, cells))
    return table


def _uj(femtojoules: int) -> str:
    return f"{femtojoules / 1e9:.2f}"


def _ends(band: Band | None) -> str:
    return "" if band is None else f"[{band.low / 1e9:.2f}, {band.high / 1e9:.2f}]"


def metric_table(report: Report) -> Table:
    """Headline metrics, one a row."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for metric in report.metrics:
        table.add_row(escape(metric.name), escape(metric_text(metric)))
    return table
