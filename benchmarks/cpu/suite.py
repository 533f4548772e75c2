"""All rows in rounds: each is measured several times, as far apart in time as the run is long."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sd_tvm.bench.contestant import Contestant, gather
from sd_tvm.bench.spread import ratios
from sd_tvm.bench.turns import Flush, take_turns

from .workloads import Workload


@dataclass
class Row:
    """A workload and what was measured of it.

    Attributes
    ----------
    workload
        The workload.
    ours, peers, missing
        Contestants, and who is none.
    turns
        Of each round.
    loads
        Load of the machine at the end of each round.
    seconds
        Time of building, and of the turns.
    """

    workload: Workload
    ours: list[Contestant] = field(default_factory=list)
    peers: list[Contestant] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    turns: list[int] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"building": 0.0, "turns": 0.0})

    def build(self) -> None:
        """Make the contestants, once: they stay in memory until the last round."""
        if self.ours:
            return
        start = time.monotonic()
        mine, others = self.workload.build()
        self.ours, broken = gather(mine)
        if broken:
            raise RuntimeError(f"{self.workload.key}: {broken}")
        self.peers, self.missing = gather(others)
        gc.collect()
        self.seconds["building"] += time.monotonic() - start

    def measure(self, turns: int, seconds: float, flush: Flush) -> None:
        """One round."""
        start = time.monotonic()
        cold = flush if self.workload.cold else None
        self.turns.append(take_turns([*self.ours, *self.peers], turns, cold, seconds=seconds))
        self.loads.append(os.getloadavg()[0])
        self.seconds["turns"] += time.monotonic() - start

    def document(self) -> dict[str, Any]:
        """JSON of the row."""
        mode = "cold" if self.workload.cold else "warm"
        return {
            "key": self.workload.key,
            "family": self.workload.family,
            "mode": mode,
            "macs": self.workload.macs(),
            "turns": self.turns,
            "loads": [round(load, 1) for load in self.loads],
            "seconds": {k: round(v, 1) for k, v in self.seconds.items()},
            "contestants": [c.row() for c in (*self.ours, *self.peers)],
            "missing": self.missing,
            "ratios": [
                {"ours": o.name, "peer": p.name, "kind": p.kind, **ratios(getattr(o, mode), getattr(p, mode))}
                for o in self.ours
                for p in self.peers
            ],
        }


def run(
    rows: list[Row],
    rounds: int,
    turns: int,
    seconds: float,
    flush: Flush,
    *,
    before: Callable[[], object],
    after: Callable[[Row], None],
) -> Iterator[tuple[int, Row]]:
    """Measure everything; yields (round, row) after each, when ``after`` was called.

    Parameters
    ----------
    rows
        The rows.
    rounds, turns, seconds
        Rounds; turns of a row in one, and their longest time.
    flush
        Empties the caches.
    before, after
        Called before a row's turns, and with the row after them.
    """
    for number in range(rounds):
        for row in rows:
            row.build()
            before()
            row.measure(turns, seconds, flush)
            after(row)
            yield number, row
