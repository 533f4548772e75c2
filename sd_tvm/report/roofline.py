"""Roofline: products a cycle against products a byte of DRAM, every layer with what bounds it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sd_tvm.report.bounds import BOUNDS
from sd_tvm.report.model import LayerRow, Report
from sd_tvm.report.style import BOUND_COLOURS, INK, STYLE, svg_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKS = {"depthwise": "s", "dense": "D"}
_TOGETHER = 4
_NUMBERED = 120  # more layers than this have no numbers


def layer_point(row: LayerRow) -> tuple[float, float] | None:
    """Products a byte, and products a cycle of its own time; None without products, bytes or time."""
    if not row.macs or not row.dram_bytes or not row.own_cycles:
        return None
    return row.macs / row.dram_bytes, row.macs / row.own_cycles


def plot_roofline(report: Report) -> str:
    """SVG element; empty if no layer has a point."""
    points = [(i, row, layer_point(row)) for i, row in enumerate(report.layers, start=1)]
    shown = [(i, row, point) for i, row, point in points if point is not None]
    if not shown:
        return ""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({**STYLE, "axes.grid.axis": "both"}):
        figure = Figure(figsize=(12.0, 5.2), layout="constrained")
        axis = figure.subplots()
        axis.set_xscale("log")
        axis.set_yscale("log")
        for bound in BOUNDS:
            for kind, mark in {"": "o", **_MARKS}.items():
                some = [p for _, r, p in shown if r.bound == bound and _MARKS.get(r.kind, "o") == mark]
                axis.scatter(
                    [x for x, _ in some], [y for _, y in some], s=34, marker=mark, alpha=0.85, zorder=3,
                    color=BOUND_COLOURS[bound], label=None if kind else bound,
                )  # fmt: skip
        if len(shown) <= _NUMBERED:
            for text, point in _labels([(i, point) for i, _, point in shown]):
                axis.annotate(text, point, (5, 3), textcoords="offset points", fontsize=7, color=INK)
        _roofs(axis, report, [x for _, _, (x, _) in shown])
        axis.set_xlabel("multiply-accumulates a byte of DRAM traffic")
        axis.set_ylabel("multiply-accumulates a cycle")
        axis.legend(title="bound by", loc="lower right", frameon=True, framealpha=0.9, edgecolor="none")
        return svg_of(figure, "roof-")


def _labels(points: Sequence[tuple[int, tuple[float, float]]]) -> list[tuple[str, tuple[float, float]]]:
    """Numbers of the points; those of points at the same place together."""
    places: dict[tuple[int, int], list[tuple[int, tuple[float, float]]]] = {}
    for i, (x, y) in points:
        places.setdefault((round(40 * math.log10(x)), round(30 * math.log10(y))), []).append((i, (x, y)))
    out = []
    for group in places.values():
        numbers = [str(i) for i, _ in group]
        text = ", ".join(numbers) if len(numbers) <= _TOGETHER else f"{', '.join(numbers[:_TOGETHER])}, …"
        out.append((text, group[0][1]))
    return out


def _roofs(axis: Axes, report: Report, xs: list[float]) -> None:
    """Peak of the array, and what one DRAM channel feeds."""
    row = next(r for r in report.layers if r.peak_macs and r.cycles)
    peak = (row.peak_macs or 0) / (row.cycles or 1)
    low, high = min(xs) / 1.5, max(xs) * 1.5
    axis.plot([low, high], [peak, peak], color=INK, linewidth=1)
    axis.annotate(
        f"array: {peak:,.0f} a cycle", (low, peak), (2, 3), textcoords="offset points", color=INK, fontsize=8
    )
    width, share = report.config.get("dram.bytes_per_cycle"), report.config.get("dram.efficiency_percent")
    if not isinstance(width, int) or not isinstance(share, int):
        return
    rate = width * share / 100
    end = min(high, 1.3 * peak / rate)
    if end > low:
        axis.plot([low, end], [rate * low, rate * end], color=INK, linewidth=1, linestyle="--")
    axis.annotate(
        f"one DRAM channel: {rate:g} B a cycle", (max(low, end / 40), rate * max(low, end / 40)), (6, -12),
        textcoords="offset points", color=INK, fontsize=8,
    )  # fmt: skip
    axis.set_xlim(low, high)
    axis.set_ylim(top=2 * peak)
