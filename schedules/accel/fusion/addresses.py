"""Addresses of buffers with known lifetimes."""

from __future__ import annotations

from collections.abc import Sequence


def place(sizes: Sequence[int], lives: Sequence[tuple[int, int]]) -> list[int]:
    """First word of each buffer, so that buffers that live at the same time do not overlap.

    Large buffers first, each at the lowest address that is free for all its life.

    Parameters
    ----------
    sizes
        Words of each buffer.
    lives
        First and last step (both included) of each buffer.
    """
    starts = [0] * len(sizes)
    placed: list[int] = []
    for i in sorted(range(len(sizes)), key=lambda i: (-sizes[i], lives[i], i)):
        first, last = lives[i]
        at = 0
        others = [j for j in placed if lives[j][0] <= last and first <= lives[j][1]]
        for j in sorted(others, key=lambda j: starts[j]):
            if at + sizes[i] <= starts[j]:
                break
            at = max(at, starts[j] + sizes[j])
        starts[i] = at
        placed.append(i)
    return starts
