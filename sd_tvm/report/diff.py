"""Two reports side by side: totals, layers, configuration; integers, and ratios of after over before.

Layers are matched by name; a layer that is called several times is matched call by call.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sd_tvm.report.bands import Band, Prices, corner_energies, ratio_band
from sd_tvm.report.model import LayerRow, Report

if TYPE_CHECKING:
    from rich.table import Table

#: Of the JSON form; raised when a field changes its meaning or goes away.
DIFF_SCHEMA_VERSION = 1

#: What is compared for each layer, in order.
LAYER_NUMBERS = ("cycles", "energy_total_fj", "dram_bytes", "weight_bytes", "macs", "instructions")
_TIMED = ("cycles", "peak_macs", "energy_total_fj")


@dataclass(frozen=True)
class Change:
    """A number before and after; None where the run did not have it.

    ``band`` is the ratio's uncertainty where it has one: both reports at the same corner of their tables.
    """

    name: str
    before: int | None
    after: int | None
    band: Band | None = None

    @property
    def ratio(self) -> float | None:
        """After over before; None if one is missing or before is zero."""
        if self.after is None or not self.before:
            return None
        return self.after / self.before

    @property
    def changed(self) -> bool:
        """Whether the two differ."""
        return self.before != self.after


@dataclass(frozen=True)
class LayerChange:
    """Numbers of one layer call in both reports."""

    name: str
    numbers: tuple[Change, ...]

    @property
    def changed(self) -> bool:
        """Whether any number differs."""
        return any(change.changed for change in self.numbers)


@dataclass(frozen=True)
class Diff:
    """What differs between two reports.

    Attributes
    ----------
    before, after
        Titles of the reports.
    totals
        Sums over all layers of each report.
    layers
        Layer calls that both reports have, in the first one's order.
    only_before, only_after
        Names of the layer calls that one report has alone.
    config
        Keys whose values differ: (before, after); None where a configuration does not have the key.
    """

    before: str
    after: str
    totals: tuple[Change, ...]
    layers: tuple[LayerChange, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    config: dict[str, tuple[Any, Any]]


def diff_reports(before: Report, after: Report) -> Diff:
    """Compare two reports."""
    a, b = _calls(before.layers), _calls(after.layers)
    prices = (before.prices, after.prices)
    keys = dict.fromkeys((*before.config, *after.config))
    config = {key: (before.config.get(key), after.config.get(key)) for key in keys}
    return Diff(
        before=before.title,
        after=after.title,
        totals=_changes(_totals(before), _totals(after), _ratio_band(before.layers, after.layers, prices)),
        layers=tuple(
            LayerChange(
                _shown(call),
                _changes(_numbers(row), _numbers(b[call]), _ratio_band([row], [b[call]], prices)),
            )
            for call, row in a.items()
            if call in b
        ),
        only_before=tuple(_shown(call) for call in a if call not in b),
        only_after=tuple(_shown(call) for call in b if call not in a),
        config={key: pair for key, pair in config.items() if pair[0] != pair[1]},
    )


def diff_to_json(diff: Diff) -> str:
    """JSON text of a comparison: ``schema_version`` first, every number with its ratio, fixed order."""
    data = {
        "schema_version": DIFF_SCHEMA_VERSION,
        "before": diff.before,
        "after": diff.after,
        "totals": _records(diff.totals),
        "layers": [{"name": layer.name, **_records(layer.numbers)} for layer in diff.layers],
        "only_before": diff.only_before,
        "only_after": diff.only_after,
        "config": {key: {"before": a, "after": b} for key, (a, b) in diff.config.items()},
    }
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def total_table(diff: Diff) -> Table:
    """Totals of both reports with their ratio."""
    table = _table(f"{diff.before} -> {diff.after}", ("total",), ("before", "after", "ratio"))
    for change in diff.totals:
        table.add_row(change.name, _count(change.before), _count(change.after), _ratio(change))
    return table


def layer_table(diff: Diff) -> Table:
    """Layers whose numbers differ: cycles, energy and bytes of DRAM traffic with their ratios."""
    shown = LAYER_NUMBERS[:3]
    columns = [part for name in shown for part in (name.replace("_total", ""), "ratio")]
    table = _table("Layers that changed", ("layer",), columns)
    for layer in diff.layers:
        if layer.changed:
            numbers = {change.name: change for change in layer.numbers}
            cells = [c for n in shown for c in (_arrow(numbers[n]), _ratio(numbers[n]))]
            table.add_row(layer.name, *cells)
    return table


def config_table(diff: Diff) -> Table:
    """Keys of the configuration that differ."""
    table = _table("Configuration", ("key",), ("before", "after"))
    for key, (a, b) in diff.config.items():
        table.add_row(key, "–" if a is None else str(a), "–" if b is None else str(b))
    return table


_Call = tuple[str, int]


def _calls(rows: Iterable[LayerRow]) -> dict[_Call, LayerRow]:
    """Rows by name and how many-th call it is."""
    calls: dict[_Call, LayerRow] = {}
    seen: dict[str, int] = {}
    for row in rows:
        seen[row.name] = count = seen.get(row.name, 0) + 1
        calls[row.name, count] = row
    return calls


def _shown(call: _Call) -> str:
    name, count = call
    return name if count == 1 else f"{name} #{count}"


def _numbers(row: LayerRow) -> dict[str, int | None]:
    return {
        name: row.dram_read + row.dram_write if name == "dram_bytes" else getattr(row, name)
        for name in LAYER_NUMBERS
    }


def _totals(report: Report) -> dict[str, int | None]:
    sums: dict[str, int | None] = dict(report.sums())
    head: dict[str, int | None] = {name: sums.pop(name, None) for name in _TIMED}
    head["layers"] = len(report.layers)
    return head | sums


def _changes(
    a: Mapping[str, int | None], b: Mapping[str, int | None], energy: Band | None
) -> tuple[Change, ...]:
    return tuple(
        Change(name, a.get(name), b.get(name), energy if name == "energy_total_fj" else None)
        for name in dict.fromkeys((*a, *b))
    )


def _ratio_band(a: Sequence[LayerRow], b: Sequence[LayerRow], prices: tuple[Prices, Prices]) -> Band | None:
    return ratio_band(corner_energies(a, prices[0]), corner_energies(b, prices[1]))


def _records(changes: Iterable[Change]) -> dict[str, dict[str, int | float | None]]:
    return {
        c.name: {
            "before": c.before,
            "after": c.after,
            "ratio": None if c.ratio is None else round(c.ratio, 6),
            **({} if c.band is None else {"low": round(c.band.low, 6), "high": round(c.band.high, 6)}),
        }
        for c in changes
    }


def _table(title: str, left: Iterable[str], right: Iterable[str]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False)
    for name in left:
        table.add_column(name, overflow="fold")
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _arrow(change: Change) -> str:
    if not change.changed:
        return _count(change.before)
    return f"{_count(change.before)} -> {_count(change.after)}"


def _ratio(change: Change) -> str:
    if change.ratio is None:
        return "–"
    band = "" if change.band is None else f" [{change.band.low:.3f}, {change.band.high:.3f}]"
    return f"{change.ratio:.3f}x{band}" if change.changed else "="
