"""Where the queues' time goes, and how full the memories are over time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from sd_tvm.report.model import Report
from sd_tvm.report.style import INK, STYLE, name_layers, svg_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

QUEUES = ("LD", "GE", "AL", "ST")
QUEUE_TITLES = {"LD": "load", "GE": "rebuild + array", "AL": "ALU", "ST": "store"}
#: Cause -> (words, colour), in the order of the bars.
CAUSES = {
    "busy": ("busy", "#0072B2"),
    "token.LD": ("waits for load", "#E69F00"),
    "token.GE": ("waits for array", "#CC79A7"),
    "token.AL": ("waits for ALU", "#009E73"),
    "token.ST": ("waits for store", "#D55E00"),
    "token": ("waits for a signal", "#E69F00"),
    "dispatch": ("no instruction yet", "#999999"),
    "idle": ("finished", "#e3e3e3"),
}


def plot_queues(report: Report) -> str:
    """SVG element: time of each queue by cause, over the run and over the layers; empty without times."""
    if not report.queues:
        return ""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    queues = [q for q in QUEUES if q in report.queues]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(12.0, 2.3 + 1.35 * len(queues) + 1.2), layout="constrained")
        axes = figure.subplots(1 + len(queues), 1, height_ratios=[1.5] + [1.0] * len(queues))
        _run(axes[0], report, queues)
        for axis, queue in zip(axes[1:], queues, strict=True):
            axis.sharex(axes[1])
            axis.tick_params(labelbottom=False)
            _layers(axis, report, queue)
        axes[-1].tick_params(labelbottom=True)
        name_layers(axes[-1], report.layers)
        return svg_of(figure, "queues-")


def _causes(counts: Mapping[str, int]) -> dict[str, int]:
    """Counts by the causes that are shown: the token cycles by signaller where that is known."""
    split = any(name.startswith("token.") for name in counts)
    return {c: counts[c] for c in CAUSES if counts.get(c) and not (split and c == "token")}


def _run(axis: Axes, report: Report, queues: list[str]) -> None:
    present = {cause for queue in queues for cause in _causes(report.queues[queue])}
    for text, colour in (CAUSES[cause] for cause in CAUSES if cause in present):
        axis.barh([0], [0], color=colour, label=text)
    for i, queue in enumerate(queues):
        left = 0.0
        whole = sum(report.queues[queue][c] for c in ("busy", "token", "dispatch", "idle")) or 1
        for cause, count in _causes(report.queues[queue]).items():
            _, colour = CAUSES[cause]
            share = 100 * count / whole
            axis.barh(i, share, 0.72, left=left, color=colour)
            if share > 4:
                pale = cause in ("idle", "token.LD", "token")
                axis.text(left + share / 2, i, f"{share:.0f}%", ha="center", va="center", fontsize=8,
                          color=INK if pale else "white")  # fmt: skip
            left += share
    axis.set_yticks(range(len(queues)), [f"{q}  {QUEUE_TITLES[q]}" for q in queues])
    axis.invert_yaxis()
    axis.set_xlim(0, 100)
    axis.grid(visible=False)
    axis.set_xlabel("% of the run's cycles")
    axis.legend(ncols=8, frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0))


def _layers(axis: Axes, report: Report, queue: str) -> None:
    base = np.zeros(len(report.layers))
    for cause, (_, colour) in CAUSES.items():
        values = np.array([_of_layer(row.busy, row.stall, row.waits, queue, cause) for row in report.layers])
        if values.any():
            axis.bar(range(len(base)), values / 1e3, 0.8, bottom=base, color=colour)
            base = base + values / 1e3
    axis.set_ylabel(f"{queue}, k cycles")


def _of_layer(
    busy: Mapping[str, int] | None,
    stall: Mapping[str, int] | None,
    waits: Mapping[str, int] | None,
    queue: str,
    cause: str,
) -> int:
    if cause == "busy":
        return (busy or {}).get(queue, 0)
    if cause.startswith("token."):
        return (waits or {}).get(f"{queue}.{cause.removeprefix('token.')}", 0)
    if cause == "token" and waits is not None:
        return 0
    return (stall or {}).get(f"{queue}.{cause}", 0)


def plot_occupancy(report: Report) -> str:
    """SVG element: live bytes of each memory over time; memories that are never used are left out."""
    used = [o for o in report.occupancy if o.peak_bytes]
    if not used:
        return ""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        rows = -(-len(used) // 2)
        figure = Figure(figsize=(12.0, 1.55 * rows + 0.5), layout="constrained")
        axes = figure.subplots(rows, 2, sharex=True, squeeze=False)
        for axis, memory in zip(axes.flat, used, strict=False):
            kb = np.array(memory.live_bytes) / 1024
            times = np.arange(len(kb) + 1) * memory.step_cycles / 1e3
            axis.stairs(kb, times, fill=True, color="#56B4E9")
            capacity = memory.capacity_bytes / 1024
            axis.axhline(capacity, color="#D55E00", linewidth=1, linestyle="--")
            axis.set_ylim(0, 1.22 * capacity)
            peak = memory.peak_bytes / 1024
            title = (
                f"{memory.memory}: at most {peak:,.4g} of {capacity:,.0f} KB ({100 * peak / capacity:.0f}%)"
            )
            axis.set_title(title, loc="left", fontsize=9)
            axis.set_ylabel("KB")
            axis.set_xlim(0, times[-1])
        for axis in axes.flat[len(used) :]:
            axis.set_visible(False)
        for axis in list(axes.flat)[max(0, len(used) - 2) : len(used)]:  # the lowest of each column
            axis.tick_params(labelbottom=True)
            axis.set_xlabel("thousand cycles")
        return svg_of(figure, "memory-")
