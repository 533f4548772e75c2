"""The search against all assignments."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from sd_tvm.tradeoff.model import frontier
from sd_tvm.tradeoff.search import choose, choose_within

# Integers as errors: their sums do not depend on the order.
POINTS = st.lists(
    st.tuples(st.integers(0, 400), st.integers(0, 60).map(float)), min_size=1, max_size=4, unique=True
)
LAYERS = st.lists(POINTS, min_size=1, max_size=4)


def total(layers: list[list[tuple[int, float]]], choice: tuple[int, ...] | list[int]) -> tuple[int, float]:
    picked = [points[i] for points, i in zip(layers, choice, strict=True)]
    return sum(b for b, _ in picked), sum(e for _, e in picked)


def best(layers: list[list[tuple[int, float]]], limit: int) -> float | None:
    every = [total(layers, c) for c in itertools.product(*(range(len(p)) for p in layers))]
    return min((error for nbytes, error in every if nbytes <= limit), default=None)


@given(LAYERS, st.integers(0, 1600))
def test_least_error_of_all_assignments(layers: list[list[tuple[int, float]]], limit: int) -> None:
    choice = choose(layers, limit)
    wanted = best(layers, limit)
    assert (choice is None) == (wanted is None)
    if choice is not None:
        nbytes, error = total(layers, choice)
        assert nbytes <= limit
        assert error == wanted
        assert choose(layers, limit) == choice


@given(LAYERS, st.integers(0, 1600), st.integers(2, 20))
def test_a_table_too_small_stays_within_the_limit(
    layers: list[list[tuple[int, float]]], limit: int, states: int
) -> None:
    choice = choose(layers, limit, max_states=states)
    wanted = best(layers, limit)
    assert (choice is None) == (wanted is None)
    if choice is not None and wanted is not None:
        nbytes, error = total(layers, choice)
        assert nbytes <= limit
        assert error >= wanted


@settings(max_examples=30)
@given(st.integers(2, 40), st.randoms(use_true_random=False))
def test_more_bytes_never_give_more_error(n: int, random: object) -> None:
    layers = [
        [(16 * random.randint(1, 9000), float(random.randint(0, 1000))) for _ in range(5)]  # type: ignore[attr-defined]
        for _ in range(n)
    ]
    least = sum(min(points)[0] for points in layers)
    errors = [total(layers, choose(layers, least + extra) or [])[1] for extra in (0, 5_000, 50_000, 10**7)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] == sum(min(e for _, e in points) for points in layers)


@given(POINTS)
def test_frontier_is_what_some_price_makes_best(points: list[tuple[int, float]]) -> None:
    hull = frontier(points)
    sizes, errors = [points[i][0] for i in hull], [points[i][1] for i in hull]
    assert sizes == sorted(set(sizes))
    assert errors == sorted(set(errors), reverse=True)
    for price in (0.0, 1e-3, 0.01, 0.1, 1.0, 10.0, 1e4):
        cost = [e + price * b for b, e in points]
        assert min(cost[i] for i in hull) <= min(cost) + 1e-9


THREE = st.lists(
    st.tuples(st.integers(0, 300), st.integers(0, 300), st.integers(0, 60).map(float)),
    min_size=1,
    max_size=3,
    unique=True,
)


@settings(max_examples=40)
@given(st.lists(THREE, min_size=1, max_size=3), st.integers(0, 700), st.integers(0, 700))
def test_what_is_chosen_under_two_limits_is_within_both(
    layers: list[list[tuple[int, int, float]]], first: int, second: int
) -> None:
    costs = [[[option[k] for option in own] for own in layers] for k in (0, 1)]
    errors = [[option[2] for option in own] for own in layers]
    choice = choose_within(costs, errors, [first, second])
    sums = [
        [sum(own[i][k] for own, i in zip(layers, c, strict=True)) for k in range(3)]
        for c in itertools.product(*(range(len(own)) for own in layers))
    ]
    fitting = [error for a, b, error in sums if a <= first and b <= second]
    if choice is None:
        return  # a price may miss what is tight
    a, b, error = (sum(own[i][k] for own, i in zip(layers, choice, strict=True)) for k in range(3))
    assert a <= first
    assert b <= second
    assert error >= min(fitting)
    alone = choose_within(costs[:1], errors, [first])
    assert alone == choose([[(o[0], o[2]) for o in own] for own in layers], first)
    if sum(own[i][1] for own, i in zip(layers, alone or [], strict=True)) <= second:
        assert choice == alone  # the second limit does not bind
