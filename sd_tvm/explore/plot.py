"""Scatter plots of a sweep as inline SVG, written by hand: reproducible bytes, a tooltip a point."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from sd_tvm.explore.model import Exploration, Point
from sd_tvm.report import units

_W, _H = 390, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 12, 42
_FRONT, _OTHER = "#D55E00", "#0072B2"


@dataclass(frozen=True)
class Axis:
    """One objective: title, its value of a point, how a number is read."""

    title: str
    value: Callable[[Point], int]
    text: Callable[[float], str]


ENERGY = Axis("energy", lambda p: p.energy_fj, units.energy)
TIME = Axis("time", lambda p: p.time_ps, lambda ps: units.seconds(ps * 1e-12))
AREA = Axis("area proxy (estimate), GE", lambda p: p.area_total_ge, units.count)
PLOTS = ((TIME, ENERGY), (AREA, ENERGY), (AREA, TIME))


def plot_exploration(found: Exploration) -> list[str]:
    """One SVG a pair of objectives, logarithmic axes; points of the front are orange."""
    front = {point.index for point in found.front}
    return [_scatter(found.points, front, x, y) for x, y in PLOTS]


def point_text(point: Point) -> str:
    """One line: what the point is and what it takes."""
    values = ", ".join(f"{key} = {value}" for key, value in point.values.items())
    numbers = ", ".join(axis.text(axis.value(point)) for axis in (ENERGY, TIME))
    return f"#{point.index}: {values}; {numbers}, {units.count(point.area_total_ge)} GE"


def ticks(low: float, high: float) -> list[float]:
    """Round numbers (1, 2, 5 times a power of ten) between two positive ones; their ends if too few."""
    found = [
        digit * 10.0**power
        for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for digit in (1, 2, 5)
        if low <= digit * 10.0**power <= high
    ]
    if len(found) > 6:
        found = [t for t in found if f"{t:e}".startswith("1")]
    return found if len(found) > 1 else [low, high]


def _scatter(points: Sequence[Point], front: set[int], x: Axis, y: Axis) -> str:
    to_x, x_ticks = _scale([x.value(p) for p in points], _LEFT, _W - _RIGHT)
    to_y, y_ticks = _scale([y.value(p) for p in points], _H - _BOTTOM, _TOP)
    label = escape(f"{y.title} over {x.title}")
    out = [f'<svg viewBox="0 0 {_W} {_H}" role="img" aria-label="{label}" font-size="10">']
    for tick in x_ticks:
        at = f"{to_x(tick):.2f}"
        out.append(f'<line x1="{at}" x2="{at}" y1="{_TOP}" y2="{_H - _BOTTOM}" stroke="#e3e3e3"/>')
        out.append(f'<text x="{at}" y="{_H - _BOTTOM + 14}" text-anchor="middle">{x.text(tick)}</text>')
    for tick in y_ticks:
        at = f"{to_y(tick):.2f}"
        out.append(f'<line x1="{_LEFT}" x2="{_W - _RIGHT}" y1="{at}" y2="{at}" stroke="#e3e3e3"/>')
        out.append(f'<text x="{_LEFT - 5}" y="{at}" dy="3" text-anchor="end">{y.text(tick)}</text>')
    middle = (_LEFT + _W - _RIGHT) / 2
    out.append(
        f'<text x="{middle:g}" y="{_H - 8}" text-anchor="middle" font-size="11">{escape(x.title)}</text>'
    )
    half = (_TOP + _H - _BOTTOM) / 2
    turn = f'transform="rotate(-90 11 {half:g})"'
    out.append(
        f'<text x="11" y="{half:g}" {turn} text-anchor="middle" font-size="11">{escape(y.title)}</text>'
    )
    for point in sorted(points, key=lambda p: (p.index in front, p.index)):  # the front is drawn last
        best = point.index in front
        style = f'r="4" fill="{_FRONT}"' if best else f'r="3" fill="{_OTHER}" fill-opacity="0.45"'
        place = f'cx="{to_x(x.value(point)):.2f}" cy="{to_y(y.value(point)):.2f}"'
        out.append(f"<circle {place} {style}><title>{escape(point_text(point))}</title></circle>")
    return "\n".join([*out, "</svg>"])


def _scale(values: Sequence[int], start: int, end: int) -> tuple[Callable[[float], float], list[float]]:
    low, high = max(1, min(values, default=1)) / 1.05, max(1, max(values, default=1)) * 1.05
    span = math.log(high / low)

    def place(value: float) -> float:
        return start + (end - start) * math.log(max(value, low) / low) / span

    return place, ticks(low, high)
