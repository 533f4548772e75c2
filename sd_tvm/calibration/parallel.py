"""Examples side by side on several cores, with the results of one core."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

#: More would hold more activations at once than they save time.
MOST_WORKERS = 4


def workers() -> int:
    """Cores this process may use, at most :data:`MOST_WORKERS`."""
    return min(len(os.sched_getaffinity(0)), MOST_WORKERS)


def ordered_map(function: Callable[[T], R], items: Iterable[T], count: int | None = None) -> Iterator[R]:
    """``map`` with threads: results in the order of the items, so that sums of them always round alike.

    Parameters
    ----------
    function
        Called in another thread; NumPy lets others run while it computes.
    items
        Read in this thread, never more than one ahead of the workers.
    count
        Threads; None is :func:`workers`.
    """
    count = workers() if count is None else count
    if count < 2:
        yield from map(function, items)
        return
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(count) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
