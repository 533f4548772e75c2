"""What bounds the time of a layer.

The simulator says it where it can (``bound`` of a layer's times). Otherwise the busiest of the four queues is
taken, which does not tell the array's multipliers from its input port and its rebuild engines.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Bound -> what it means, in the order of legends.
BOUNDS: dict[str, str] = {
    "array": "the multipliers, or draining their sums",
    "port": "bytes that the input port of the array delivers a cycle",
    "rebuild": "rebuild engines",
    "DRAM": "reading or writing external memory",
    "ALU": "the vector unit",
}
_SPELLINGS = {name.lower(): name for name in BOUNDS} | {
    "drain": "array",
    "dram_read": "DRAM",
    "dram_write": "DRAM",
}
_QUEUES = {"GE": "array", "LD": "DRAM", "ST": "DRAM", "AL": "ALU"}


def bound_of(stats: Mapping[str, Any]) -> str:
    """Bound of a layer from its statistics; empty without times."""
    said = stats.get("bound")
    if isinstance(said, str) and said:
        return _SPELLINGS.get(said.lower(), said)
    busy: Mapping[str, int] = stats.get("busy", {})
    known = [queue for queue in _QUEUES if busy.get(queue)]
    return _QUEUES[max(known, key=lambda queue: busy[queue])] if known else ""
