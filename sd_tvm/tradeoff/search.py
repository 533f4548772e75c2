"""One option for each layer: least sum of errors under a sum of bytes.

A multiple-choice knapsack. Packed sizes of a layer differ by multiples of 16 bytes, so dynamic programming
over bytes is exact as long as the table stays small; beyond that costs are rounded up (never over the limit)
and what the rounding leaves is spent greedily.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

#: (bytes, error) of one option.
Point = tuple[int, float]
MAX_STATES = 1 << 18
#: With several limits: states of the table, and searches for the prices of the others.
_STATES, _SEARCHES = 1 << 14, 24


def choose_within(
    costs: Sequence[Sequence[Sequence[int]]], errors: Sequence[Sequence[float]], limits: Sequence[int]
) -> list[int] | None:
    """Index of the option of each layer, with several costs limited at once.

    With one limit this is :func:`choose`. With more, the first is kept by :func:`choose` and the others by a
    price that is added to the errors and searched by bisection: what is found is within all limits, but need
    not be the best, and something tight may be missed.

    Parameters
    ----------
    costs
        For each limit, for each layer, the costs of its options.
    errors
        For each layer the errors of its options.
    limits
        Largest sum of each cost.
    """

    def found(price: float, **options: int) -> list[int] | None:
        points = []
        for i, own in enumerate(errors):
            extra = [
                sum(max(c[i][j], 0) / max(limit, 1) for c, limit in zip(costs[1:], limits[1:], strict=True))
                for j in range(len(own))
            ]
            points.append([(costs[0][i][j], own[j] + price * extra[j]) for j in range(len(own))])
        return choose(points, limits[0], **options)

    def within(choice: Sequence[int]) -> bool:
        return all(
            sum(own[j] for own, j in zip(cost, choice, strict=True)) <= limit
            for cost, limit in zip(costs[1:], limits[1:], strict=True)
        )

    if len(limits) == 1:
        return found(0.0)
    best, low, high = None, 0.0, max((max(own) - min(own) for own in errors), default=0.0) or 1.0
    for turn in range(_SEARCHES):
        price = 0.0 if turn == 0 else high if best is None else (low + high) / 2
        choice = found(price, max_states=_STATES)
        if choice is None:
            return None
        if within(choice):
            best, high = choice, price
            if turn == 0:  # the others do not bind
                exact = found(0.0)
                return exact if exact is not None and within(exact) else choice
        else:
            low = price
            high = high if best is not None else max(high, price) * (4 if turn else 1)
    return best


def choose(
    layers: Sequence[Sequence[Point]], limit: int, *, max_states: int = MAX_STATES
) -> list[int] | None:
    """Index of the option of each layer, None if even the smallest options exceed the limit.

    The sum of errors is the least possible if the bytes between the smallest choice and the limit, counted in
    the greatest common divisor of the differences, are fewer than ``max_states``. The same input gives the
    same choice.

    Parameters
    ----------
    layers
        Options of each layer as (bytes, error).
    limit
        Bytes that the choice may take together.
    max_states
        Size of the table.
    """
    orders = [sorted(range(len(points)), key=lambda i: (*points[i], i)) for points in layers]
    least = [points[order[0]][0] for points, order in zip(layers, orders, strict=True)]
    slack = limit - sum(least)
    if slack < 0:
        return None
    extras = [
        [points[i][0] - low for i in order] for points, order, low in zip(layers, orders, least, strict=True)
    ]
    errors = [[points[i][1] for i in order] for points, order in zip(layers, orders, strict=True)]
    slack = min(slack, sum(extra[-1] for extra in extras))
    unit = math.gcd(*(e for extra in extras for e in extra)) or 1
    if slack // unit >= max_states:
        unit = -(-slack // (max_states - 1))
    picked = _table(extras, errors, slack, unit)
    _spend(picked, extras, errors, slack)
    return [order[i] for order, i in zip(orders, picked, strict=True)]


def _table(
    extras: Sequence[Sequence[int]], errors: Sequence[Sequence[float]], slack: int, unit: int
) -> list[int]:
    """Dynamic programming over slack // unit states; places in the sorted options."""
    states = slack // unit + 1
    best = np.zeros(states)
    picks = []
    for extra, error in zip(extras, errors, strict=True):
        new = np.full(states, np.inf)
        pick = np.zeros(states, dtype=np.int16)
        for j, (cost, loss) in enumerate(zip(extra, error, strict=True)):
            steps = -(-cost // unit)
            if steps >= states:
                continue
            found = best[: states - steps] + loss
            better = found < new[steps:]
            new[steps:][better] = found[better]
            pick[steps:][better] = j
        best = new
        picks.append(pick)
    state, picked = states - 1, []
    for pick, extra in zip(reversed(picks), reversed(extras), strict=True):
        j = int(pick[state])
        picked.append(j)
        state -= -(-extra[j] // unit)
    return picked[::-1]


def _spend(
    picked: list[int], extras: Sequence[Sequence[int]], errors: Sequence[Sequence[float]], slack: int
) -> None:
    """Take the largest improvements that still fit, in place."""
    left = slack - sum(extra[i] for extra, i in zip(extras, picked, strict=True))
    while True:
        moves = [
            (layer, j)
            for layer, i in enumerate(picked)
            for j in range(len(extras[layer]))
            if errors[layer][j] < errors[layer][i] and extras[layer][j] - extras[layer][i] <= left
        ]
        if not moves:
            return
        layer, j = max(moves, key=lambda m: errors[m[0]][picked[m[0]]] - errors[m[0]][m[1]])
        left -= extras[layer][j] - extras[layer][picked[layer]]
        picked[layer] = j
