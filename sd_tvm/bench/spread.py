"""What is said of values that were measured in rounds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def spread(rounds: Sequence[Sequence[float]]) -> dict[str, float]:
    """Best, median, and a range that holds the quartiles of all values and the median of every round.

    Quartiles alone say how turns differ that follow each other; a machine that others use is another one some
    minutes later, which the medians of rounds see.

    Parameters
    ----------
    rounds
        Values of each round; not empty.
    """
    values = sorted(v for turns in rounds for v in turns)
    medians = [statistics.median(turns) for turns in rounds]
    quarter = len(values) // 4
    return {
        "best": values[0],
        "median": statistics.median(values),
        "low": min(values[quarter], *medians),
        "high": max(values[-1 - quarter], *medians),
    }


def ratios(ours: Sequence[Sequence[float]], peer: Sequence[Sequence[float]]) -> dict[str, float]:
    """The peer's time over ours, turn by turn: low, median and high end (:func:`spread`)."""
    pairs = [
        [p / o for p, o in zip(theirs, mine, strict=True)] for mine, theirs in zip(ours, peer, strict=True)
    ]
    found = spread(pairs)
    return {key: found[key] for key in ("low", "median", "high")}
