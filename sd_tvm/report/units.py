"""Numbers as people read them."""

from __future__ import annotations

_SI = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def number(value: float) -> str:
    """Four digits, without an exponent up to a million."""
    return f"{float(f'{value:.4g}'):,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.4g}"


def energy(femtojoules: float) -> str:
    """Femtojoules with a readable unit."""
    for size, unit in ((1e15, "J"), (1e12, "mJ"), (1e9, "µJ"), (1e6, "nJ"), (1e3, "pJ")):
        if abs(femtojoules) >= size:
            return f"{_short(femtojoules / size)} {unit}"
    return f"{femtojoules:.0f} fJ"


def count(value: float) -> str:
    """A count with an SI prefix."""
    for size, prefix in _SI:
        if abs(value) >= size:
            return f"{_short(value / size)} {prefix}"
    return f"{value:.0f}"


def nbytes(value: float) -> str:
    """Bytes with a decimal prefix."""
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f} B"


def seconds(value: float) -> str:
    """Seconds with a readable unit."""
    for size, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g} s"


def percent(fraction: float | None) -> str:
    """A fraction as a percentage; a dash for None."""
    return "–" if fraction is None else f"{100 * fraction:.1f}%"


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
