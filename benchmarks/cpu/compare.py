"""Whether two runs agree: every ratio within the spread that both state."""

from __future__ import annotations

from typing import Any

Ratio = dict[str, Any]


def disagreements(one: dict[str, Any], other: dict[str, Any]) -> tuple[int, list[str]]:
    """How many ratios both runs have, and those whose ranges do not overlap, in words."""
    first, second = _ratios(one), _ratios(other)
    both = sorted(first.keys() & second.keys())
    out = []
    for key in both:
        a, b = first[key], second[key]
        if a["high"] < b["low"] or b["high"] < a["low"]:
            spans = " and ".join(f"{r['low']:.2f} to {r['high']:.2f}" for r in (a, b))
            out.append(f"{key[0]}: {key[1]} against {key[2]}: {spans}")
    return len(both), out


def _ratios(document: dict[str, Any]) -> dict[tuple[str, str, str], Ratio]:
    return {
        (row["key"], r["ours"], r["peer"]): r
        for row in document["rows"]
        for r in row["ratios"]
        if "high" in r
    }
