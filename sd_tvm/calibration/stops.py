"""Where the walk keeps the values of all examples, and where it computes them again.

Fitting a layer needs its inputs on every example. They can be computed from any earlier place whose values
were kept: the network's inputs always, other places at the price of memory or disk. Networks are wide inside
of their blocks and narrow between them: it is best to keep narrow places and to compute the wide ones again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

Place = Literal["memory", "disk"]
#: Seconds a byte, of a common disk: only the choice depends on it, no result.
_WRITE, _READ, _COPY = 1 / 250e6, 1 / 500e6, 1 / 10e9


@dataclass(frozen=True)
class Limits:
    """What kept values may take, bytes for all examples together.

    Attributes
    ----------
    memory
        Places up to this size stay in memory.
    disk
        Places up to this size may go to temporary files.
    """

    memory: int
    disk: int


def choose_stops(
    costs: Sequence[float], nbytes: Sequence[int], examples: int, limits: Limits
) -> list[Place | None]:
    """For each layer to fit, in order, whether the values before it are kept and where.

    Least time, by dynamic programming over the last place that is kept: every layer's pass starts from there.

    Parameters
    ----------
    costs
        Seconds an example from the place before (or the network's inputs) to that layer.
    nbytes
        Bytes an example at each layer.
    examples
        Their number.
    limits
        What may be used.
    """
    n = len(costs)
    reached = [0.0, *accumulate(costs)]  # from the inputs to the place before layer i: reached[i + 1]
    places = [_place(size * examples, limits) for size in nbytes]
    best, previous = [0.0] + [float("inf")] * n, [0] * (n + 1)
    # state j: the last kept place is that of layer j - 1 (0: the inputs), and all layers up to it are fitted
    final, last = float("inf"), 0
    for j in range(n + 1):
        read = 0.0 if j == 0 else nbytes[j - 1] * (_COPY if places[j - 1] == "memory" else _READ)
        total = best[j]
        for i in range(j, n):
            total += read + reached[i + 1] - reached[j]
            kept = places[i]
            if kept is not None:
                with_store = total + nbytes[i] * (_COPY if kept == "memory" else _WRITE)
                if with_store < best[i + 1]:
                    best[i + 1], previous[i + 1] = with_store, j
        if total < final:
            final, last = total, j
    chosen: list[Place | None] = [None] * n
    while last > 0:
        chosen[last - 1] = places[last - 1]
        last = previous[last]
    return chosen


def _place(total: int, limits: Limits) -> Place | None:
    if total <= limits.memory:
        return "memory"
    return "disk" if total <= limits.disk else None
