"""The layers of a report as CSV: one line a layer call, exact integers, columns that stay.

RFC 4180, except that a line ends with a line feed alone; UTF-8. A number that a run does not have (cycles of
a functional run) is an empty cell. Columns are never renamed, reordered or removed while the report's schema
version stays; new ones are added at the end.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

from sd_tvm.report.bands import Prices, row_band
from sd_tvm.report.groups import GROUP_OF
from sd_tvm.report.model import LayerRow, Report

_QUEUES = ("LD", "GE", "AL", "ST")
_STALLS = ("token", "dispatch")

Cell = int | str | None
Column = Callable[[LayerRow, Prices], Cell]


def _energy(component: str) -> Column:
    return lambda row, _: None if row.energy_fj is None else row.energy_fj.get(component, 0)


def _other_energy(row: LayerRow, _: Prices) -> Cell:
    if row.energy_fj is None:
        return None
    return sum(value for name, value in row.energy_fj.items() if name not in GROUP_OF)


def _band_end(end: str) -> Column:
    def cell(row: LayerRow, prices: Prices) -> Cell:
        band = row_band(row, prices)
        return None if band is None else int(getattr(band, end))

    return cell


def _busy(queue: str) -> Column:
    return lambda row, _: None if row.busy is None else row.busy.get(queue, 0)


def _stall(cause: str) -> Column:
    return lambda row, _: None if row.stall is None else row.stall.get(cause, 0)


#: Columns in order: name, and what it holds of a row. ``position`` (from 1) comes before them.
COLUMNS: dict[str, Column] = {
    "layer": lambda row, _: row.name,
    "kind": lambda row, _: row.kind,
    "shape": lambda row, _: row.shape,
    "form": lambda row, _: row.form,
    "weights": lambda row, _: row.weights,
    "weight_bytes": lambda row, _: row.weight_bytes,
    "macs": lambda row, _: row.macs,
    "macs_dense": lambda row, _: row.macs_dense,
    "instructions": lambda row, _: row.instructions,
    "dram_read_bytes": lambda row, _: row.dram_read,
    "dram_write_bytes": lambda row, _: row.dram_write,
    "cycles": lambda row, _: row.cycles,
    "peak_macs": lambda row, _: row.peak_macs,
    **{f"busy_{q.lower()}_cycles": _busy(q) for q in _QUEUES},
    **{f"stall_{q.lower()}_{c}_cycles": _stall(f"{q}.{c}") for q in _QUEUES for c in _STALLS},
    "energy_total_fj": lambda row, _: row.energy_total_fj,
    **{f"energy_{name}_fj": _energy(name) for name in GROUP_OF},
    "energy_other_fj": _other_energy,
    "corner_low_fj": _band_end("low"),
    "corner_high_fj": _band_end("high"),
    "bound": lambda row, _: row.bound,
    "function": lambda row, _: row.function,
    "nodes": lambda row, _: " ".join(row.nodes),
    "sources": lambda row, _: " ".join(row.sources),
}


def report_to_csv(report: Report) -> str:
    """CSV text of the layers; the columns are :data:`COLUMNS`.

    Raises
    ------
    FormatError
        If the rows do not add up to the run's totals.
    """
    report.check()
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["position", *COLUMNS])
    for position, row in enumerate(report.layers, start=1):
        cells = [column(row, report.prices) for column in COLUMNS.values()]
        writer.writerow([position, *("" if c is None else c for c in cells)])
    return out.getvalue()


def write_csv(report: Report, path: str | Path) -> Path:
    """Write the CSV form; returns the path.

    Raises
    ------
    FormatError
        If the rows do not add up to the run's totals.
    """
    target = Path(path)
    target.write_text(report_to_csv(report), encoding="utf-8", newline="")
    return target
