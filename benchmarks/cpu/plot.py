"""Pictures of the page: ratios to the best peer of each kind, and bytes a second of cold weights."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from sd_tvm.report.style import PALETTE, STYLE, svg_of

KINDS = {"fp32": PALETTE[7], "int8": PALETTE[0], "int4": PALETTE[5], "int2": PALETTE[3]}


def best_ratios(row: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """(form of the weights, kind of peer) -> ratio of our fastest variant to the kind's fastest peer."""
    times = {c["name"]: c[row["mode"]]["median"] for c in row["contestants"]}
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for ratio in row["ratios"]:
        key = (ratio["ours"].split(",")[0], ratio["kind"])
        known = found.get(key)
        rank = (times[ratio["ours"]], times[ratio["peer"]])
        if known is None or rank < (times[known["ours"]], times[known["peer"]]):
            found[key] = ratio
    return found


def ratio_bars(rows: list[dict[str, Any]]) -> str:
    """SVG: the peer's time over ours, median, line over the range that the page states."""
    entries = [
        (f"{row['key']}, {form}", kind, ratio)
        for row in rows
        for (form, kind), ratio in sorted(best_ratios(row).items())
    ]
    labels = list(dict.fromkeys(label for label, _, _ in entries))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 0.8 + 0.4 * len(labels)), layout="constrained")
        axis = figure.add_subplot()
        for offset, (kind, colour) in enumerate(KINDS.items()):
            mine = [(labels.index(label), r) for label, k, r in entries if k == kind]
            places = [at + 0.2 * (offset - 1.5) for at, _ in mine]
            medians = [r["median"] for _, r in mine]
            below = [max(0.0, r["median"] - r["low"]) for _, r in mine]
            above = [max(0.0, r["high"] - r["median"]) for _, r in mine]
            axis.barh(places, medians, 0.18, color=colour, label=f"best {kind}", xerr=[below, above])
        axis.axvline(1.0, color="black", linewidth=0.8)
        axis.set_xscale("log")
        axis.set_yticks(range(len(labels)), labels)
        axis.set_ylim(len(labels) - 0.4, -0.6)  # the first row on top
        axis.set_xlabel("time of the best peer over ours")
        axis.legend(loc="lower right")
        return svg_of(figure)


def cold_rates(rows: list[dict[str, Any]]) -> list[tuple[str, float, float]]:
    """(kind of contestant, megabytes of weights, GB/s of them, cold median)."""
    return [
        (c["kind"], c["weight_bytes"] / 1e6, c["weight_bytes"] / c["cold"]["median"] / 1e3)
        for row in rows
        if row["mode"] == "cold"
        for c in row["contestants"]
        if c["weight_bytes"]
    ]


def memory_roofline(rows: list[dict[str, Any]], roof: dict[str, float]) -> str:
    """SVG: bytes of weights a second of cold matrix-vector products against the memory roof."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axis = figure.add_subplot()
        marks = {"ours": ("o", PALETTE[0]), **{k: ("x", c) for k, c in KINDS.items()}}
        seen: set[str] = set()
        for kind, megabytes, rate in cold_rates(rows):
            marker, colour = marks[kind]
            label = None if kind in seen else "SD form" if kind == "ours" else kind
            seen.add(kind)
            axis.plot(megabytes, rate, marker, color=colour, label=label)
        axis.axhline(roof["best"], color="black", linewidth=0.8)
        axis.axhline(0.85 * roof["best"], color="black", linewidth=0.8, linestyle=":")
        axis.set_xscale("log")
        axis.set_xlabel("bytes of weights, MB")
        axis.set_ylabel("GB/s of weights, cold, median")
        axis.set_title("Lines: the fastest way to read memory that was found, and 85 % of it")
        axis.legend(loc="upper left")
        return svg_of(figure)
