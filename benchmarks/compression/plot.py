"""The frontier: size against agreement, SD form and its peers."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.figure import Figure

from sd_tvm.report.style import PALETTE, STYLE, svg_of

from .measure import Row, by_variant

FAMILIES = {
    "SD": ("o", PALETTE[0]),
    "int4": ("s", PALETTE[5]),
    "sparse int4": ("^", PALETTE[2]),
    "int8": ("D", PALETTE[7]),
}
#: Legend of a family.
NAMES = {"SD": "SD form", "int4": "int4 and narrower", "sparse int4": "sparse int4 (4:16)", "int8": "int8"}


def frontier(rows: Sequence[Row]) -> str:
    """SVG of EfficientNet-Lite0: means of the repeats, bars from the least to the largest."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axis = figure.add_subplot()
        for family, (marker, colour) in FAMILIES.items():
            points = sorted(
                _point(found)
                for variant, found in by_variant(list(rows), "EfficientNet-Lite0")
                if variant.family == family
            )
            if not points:
                continue
            size, mean, low, high = (list(column) for column in zip(*points, strict=True))
            below = [m - x for m, x in zip(mean, low, strict=True)]
            above = [x - m for m, x in zip(mean, high, strict=True)]
            axis.errorbar(
                size, mean, yerr=[below, above], marker=marker, color=colour, label=NAMES[family],
                linestyle="-" if len(points) > 1 else "none", linewidth=1, capsize=3,
            )  # fmt: skip
        axis.set_xlabel("float32 bytes over bytes of the file")
        axis.set_ylabel("same answer as float32, %")
        axis.set_title("EfficientNet-Lite0, 200 images that calibrated nothing")
        axis.legend(loc="lower left")
        return svg_of(figure)


def _point(rows: Sequence[Row]) -> tuple[float, float, float, float]:
    """Size, and mean, least and largest agreement."""
    agree = [row["samples"]["agree"] for row in rows]
    return rows[0]["ratio"], sum(agree) / len(agree), min(agree), max(agree)
