"""Contestants in turns, in one process: cold (memory read between calls) and warm.

Time is the process's user + system time: on a machine with other work a call of milliseconds is interrupted,
and wall time says more about the interruptions than about the code. With several threads it is wall time.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

#: Read between cold calls: three times the largest last-level cache we know of.
_FLUSH_BYTES = 96 << 20
#: Warm calls before the one that is timed.
_WARM = 2


@dataclass
class Contestant:
    """One library on one workload.

    Attributes
    ----------
    name
        Library and number format.
    kind
        ``ours``, ``fp32``, ``int8`` or ``int4``.
    call
        Runs the workload once.
    weight_bytes
        Bytes of weights that a call reads, 0 if unknown.
    cold, warm
        Seconds of processor time of every turn.
    """

    name: str
    kind: str
    call: Callable[[], object]
    weight_bytes: int = 0
    cold: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)

    def row(self) -> dict[str, object]:
        """JSON of what was measured, microseconds."""
        out: dict[str, object] = {"name": self.name, "kind": self.kind, "weight_bytes": self.weight_bytes}
        for mode, seconds in (("cold", self.cold), ("warm", self.warm)):
            if seconds:
                micro = sorted(1e6 * s for s in seconds)
                quarter = len(micro) // 4
                out[mode] = {
                    "best": round(micro[0], 1),
                    "median": round(statistics.median(micro), 1),
                    "low": round(micro[quarter], 1),
                    "high": round(micro[-1 - quarter], 1),
                }
        return out


class Flush:
    """Empties the caches by reading more than they hold."""

    def __init__(self) -> None:
        self._memory = np.ones(_FLUSH_BYTES // 8, dtype=np.uint64)

    def __call__(self) -> None:
        """Read all of it."""
        self._memory.sum()


def take_turns(
    contestants: list[Contestant], turns: int, flush: Flush, *, cold: bool = True, seconds: float = 60.0
) -> int:
    """Time all contestants, one after the other, ``turns`` times; after ``seconds`` no more than three.

    Returns
    -------
    int
        Turns that were taken.
    """
    for c in contestants:
        c.call()
    end = time.monotonic() + seconds
    for turn in range(turns):
        if turn >= 3 and time.monotonic() > end:
            return turn
        order = contestants if turn % 2 == 0 else contestants[::-1]
        for c in order:
            if cold:
                flush()
                c.cold.append(_timed(c.call))
            for _ in range(_WARM):
                c.call()
            c.warm.append(_timed(c.call))
    return turns


def threads() -> int:
    """Threads of every contestant: TVM_NUM_THREADS."""
    return int(os.environ.get("TVM_NUM_THREADS", "1"))


def _timed(call: Callable[[], object]) -> float:
    clock = time.process_time if threads() == 1 else time.perf_counter
    start = clock()
    call()
    return clock() - start


def ratios(ours: Contestant, peer: Contestant, mode: str) -> dict[str, float]:
    """Peer's time over ours, turn by turn: lower quartile, median, upper quartile."""
    pairs = sorted(p / o for p, o in zip(getattr(peer, mode), getattr(ours, mode), strict=True))
    quarter = len(pairs) // 4
    return {"low": pairs[quarter], "median": statistics.median(pairs), "high": pairs[-1 - quarter]}
