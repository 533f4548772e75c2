"""Energies with their uncertainty: nominal [low, high] over the corners of the energy table.

A corner takes one end of all DRAM entries, one of all SRAM entries and one of all logic entries. A ratio is
formed corner by corner, both sides at the same one: what the two share cancels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sd_tvm.accelerator.config.events import NOMINAL, energy_of

if TYPE_CHECKING:
    from sd_tvm.report.model import LayerRow, Report

Prices = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Band:
    """A number at the table's values, and its extremes over the corners."""

    nominal: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.nominal:.3g} [{self.low:.3g}, {self.high:.3g}]"


def corner_energies(rows: Iterable[LayerRow], prices: Prices) -> dict[str, int]:
    """Femtojoules of rows at every corner; empty if a row has no events or there are no prices.

    Parameters
    ----------
    rows
        Rows of a timed run.
    prices
        Corner -> event -> fJ (:func:`sd_tvm.accelerator.config.events.event_prices`).
    """
    total: dict[str, int] = dict.fromkeys(prices, 0)
    for row in rows:
        if row.events is None:
            return {}
        for corner, table in prices.items():
            total[corner] += energy_of(row.events, table)
    return total


def band(values: Mapping[str, float]) -> Band | None:
    """Band of a number that is known at every corner; None if it is known at none."""
    if NOMINAL not in values:
        return None
    return Band(values[NOMINAL], min(values.values()), max(values.values()))


def row_band(row: LayerRow, prices: Prices) -> Band | None:
    """Energy of one row in fJ."""
    return band(corner_energies([row], prices))


def total_band(report: Report) -> Band | None:
    """Energy of a report in fJ."""
    return band(corner_energies(report.layers, report.prices)) if report.timed else None


def ratio_band(before: Mapping[str, int], after: Mapping[str, int]) -> Band | None:
    """After over before at the corners that both have; None if there is no nominal one."""
    return band({c: after[c] / before[c] for c in before if c in after and before[c]})
