"""Looks of the plots, and figures as inline SVG with reproducible bytes."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sd_tvm.report.model import LayerRow

#: Okabe and Ito's palette, distinguishable with colour-vision deficiencies; then lighter repeats.
PALETTE = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00",
    "#F0E442", "#777777", "#99C7E0", "#F5D899", "#99D8C7", "#EBC9DC",
)  # fmt: skip
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "sd-tvm",  # element ids
    "svg.fonttype": "none",  # text stays text
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#e3e3e3",
}
#: Colour of each bound (:mod:`sd_tvm.report.bounds`).
BOUND_COLOURS = {
    "array": "#0072B2",
    "port": "#56B4E9",
    "rebuild": "#CC79A7",
    "DRAM": "#D55E00",
    "ALU": "#009E73",
}
INK = "#222222"
_LONGEST_NAME = 34


def svg_of(figure: Figure, prefix: str = "") -> str:
    """SVG element of a figure; the same figure gives the same text.

    Parameters
    ----------
    figure
        The figure.
    prefix
        Put before every element id, so that several figures can share a page.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    if prefix:
        text = re.sub(r'\bid="', f'id="{prefix}', text)
        text = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}", text)
    return text


def name_layers(axis: Axes, rows: Sequence[LayerRow]) -> None:
    """Positions and names of the layers below an axis."""
    names = [f"{shortened(row.name)}  {i}" for i, row in enumerate(rows, start=1)]
    axis.set_xlim(-0.7, len(rows) - 0.3)
    axis.set_xticks(range(len(rows)), names, rotation=90, fontsize=7 if len(rows) <= 80 else 5)


def shortened(name: str) -> str:
    """A name that fits a plot: its end, which tells layers apart."""
    return name if len(name) <= _LONGEST_NAME else "…" + name[1 - _LONGEST_NAME :]
