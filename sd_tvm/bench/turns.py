"""Contestants in turns, in one process: cold (memory read between calls) and warm.

Time is the process's user + system time: on a machine with other work a call of milliseconds is interrupted,
and wall time says more about the interruptions than about the code. With several threads it is wall time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np

from sd_tvm.bench.contestant import Contestant

#: Read between cold calls: three times the largest last-level cache we know of.
FLUSH_BYTES = 96 << 20
#: Warm calls before the one that is timed.
WARM = 2
#: Turns that are taken whatever time they need.
_LEAST = 3


class Flush:
    """Empties the caches by reading more than they hold."""

    def __init__(self) -> None:
        self._memory = np.ones(FLUSH_BYTES // 8, dtype=np.uint64)

    def __call__(self) -> None:
        """Read all of it."""
        self._memory.sum()


def take_turns(
    contestants: list[Contestant],
    turns: int,
    flush: Flush | None = None,
    *,
    seconds: float = 60.0,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """A round: time all contestants, one after the other, ``turns`` times, every other turn backwards.

    Parameters
    ----------
    contestants
        Get a new list in ``warm``, and in ``cold``.
    turns
        How many; after ``seconds`` no more than three.
    flush
        Empties the caches before cold calls; None: warm calls only.
    seconds
        Longest time.
    progress
        Called with (turns taken, turns).

    Returns
    -------
    int
        Turns that were taken.
    """
    for c in contestants:
        c.call()
        c.warm.append([])
        if flush is not None:
            c.cold.append([])
    end = time.monotonic() + seconds
    for turn in range(turns):
        if turn >= _LEAST and time.monotonic() > end:
            return turn
        for c in contestants if turn % 2 == 0 else contestants[::-1]:
            if flush is not None:
                flush()
                c.cold[-1].append(_timed(c.call))
            for _ in range(WARM):
                c.call()
            c.warm[-1].append(_timed(c.call))
        if progress is not None:
            progress(turn + 1, turns)
    return turns


def threads() -> int:
    """Threads of every contestant: TVM_NUM_THREADS, 1 without it."""
    return int(os.environ.get("TVM_NUM_THREADS", "1"))


def _timed(call: Callable[[], object]) -> float:
    clock = time.process_time if threads() == 1 else time.perf_counter
    start = clock()
    call()
    return clock() - start
