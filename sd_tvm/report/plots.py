"""Energy, cycles and bits per weight over the layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sd_tvm.report.groups import grouped
from sd_tvm.report.model import LayerRow, Report
from sd_tvm.report.style import PALETTE, STYLE, name_layers, svg_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Kinds of layers and their colour in the plots that are not split by component.
_KIND_COLOURS = {
    "conv": "#009E73",
    "depthwise": "#E69F00",
    "dense": "#CC79A7",
    "add": "#777777",
    "avg pool": "#56B4E9",
}


def plot_report(report: Report) -> str:
    """SVG element with energy, cycles and bits per weight over the layers (what the report has of them)."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    panels = [_bits] if not report.timed else [_energy, _cycles, _bits]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(12.0, 2.5 * len(panels) + 1.1), layout="constrained")
        axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for panel, axis in zip(panels, axes, strict=True):
            panel(axis, report)
        name_layers(axes[-1], report.layers)
        return svg_of(figure)


def _energy(axis: Axes, report: Report) -> None:
    base = [0.0] * len(report.layers)
    names = report.group_sums()
    for i, name in enumerate(names):
        values = [grouped(row.energy_fj).get(name, 0) / 1e9 for row in report.layers]
        axis.bar(range(len(values)), values, 0.8, bottom=base, label=name, color=PALETTE[i % len(PALETTE)])
        base = [a + b for a, b in zip(base, values, strict=True)]
    axis.set_ylim(0, 1.2 * max(*base, 1e-9))  # room for the legend
    axis.set_ylabel("energy, µJ")
    axis.legend(ncols=max(1, len(names)), frameon=False, fontsize=8, loc="upper right")


def _cycles(axis: Axes, report: Report) -> None:
    _bars(axis, report.layers, [(row.cycles or 0) / 1e3 for row in report.layers])
    axis.set_ylabel("thousand cycles")
    right: Any = axis.twinx()
    right.plot(
        range(len(report.layers)),
        [100 * (row.utilisation or 0.0) if row.macs else float("nan") for row in report.layers],
        color="#222222", marker=".", markersize=4, linestyle="none",
    )  # fmt: skip
    right.set_ylim(0, 105)
    right.set_ylabel("array utilisation, % (dots)")
    right.grid(visible=False)


def _bits(axis: Axes, report: Report) -> None:
    _bars(axis, report.layers, [row.bits_per_weight or 0.0 for row in report.layers])
    axis.axhline(8.0, color="#222222", linewidth=0.7, linestyle=":")
    axis.set_ylabel("bits per weight")


def _bars(axis: Axes, rows: tuple[LayerRow, ...], values: list[float]) -> None:
    colours = [_KIND_COLOURS.get(row.kind, "#0072B2") for row in rows]
    axis.bar(range(len(values)), values, 0.8, color=colours)
    axis.set_ylim(0, 1.2 * max(*values, 1e-9))  # room for the legend
    shown = {row.kind: colour for row, colour in zip(rows, colours, strict=True)}
    handles = [axis.bar([0], [0], color=colour, label=kind) for kind, colour in shown.items()]
    axis.legend(handles=handles, ncols=max(1, len(handles)), frameon=False, fontsize=8, loc="upper right")
