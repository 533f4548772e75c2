"""What bounds the time of a layer: its busiest queue, and inside the array what binds most of its cycles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Bound -> what it means, in the order of legends.
BOUNDS: dict[str, str] = {
    "array": "multipliers, draining of sums, filling of the pipeline",
    "port": "input port of the array",
    "rebuild": "rebuild engines",
    "DRAM": "reading or writing external memory",
    "ALU": "vector unit",
}
_QUEUES = {"GE": "array", "LD": "DRAM", "ST": "DRAM", "AL": "ALU"}
_ARRAY = {"mac": "array", "drain": "array", "fill": "array", "port": "port", "rebuild": "rebuild"}


def bound_of(stats: Mapping[str, Any]) -> str:
    """Bound of a layer from its statistics; empty without times."""
    busy: Mapping[str, int] = stats.get("busy", {})
    known = [queue for queue in _QUEUES if busy.get(queue)]
    if not known:
        return ""
    bound = _QUEUES[max(known, key=lambda queue: busy[queue])]
    if bound != "array":
        return bound
    cycles: dict[str, int] = {}
    for cause, count in stats.get("array_cycles", {}).items():
        name = _ARRAY.get(cause, "array")
        cycles[name] = cycles.get(name, 0) + count
    return max(cycles, key=lambda name: cycles[name]) if any(cycles.values()) else bound
