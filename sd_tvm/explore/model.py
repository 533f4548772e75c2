"""What a sweep gives: points, refused candidates, the Pareto front; all sums are integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from sd_tvm.explore.space import Assignment, Space

#: Raised when a field of the JSON form changes its meaning or goes away.
EXPLORE_SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Point:
    """One configuration that runs the model.

    Attributes
    ----------
    index
        Place in the space, from 0.
    values
        The swept keys.
    cycles, energy_fj
        Sums over all layer calls.
    time_ps
        Picoseconds of these cycles at the configuration's clock, rounded up.
    dram_bytes
        Bytes read from and written to DRAM, instructions included.
    area_ge
        Area proxy by part, gate equivalents; an estimate (:mod:`sd_tvm.explore.area`).
    """

    index: int
    values: Assignment
    cycles: int
    time_ps: int
    energy_fj: int
    dram_bytes: int
    area_ge: dict[str, int]

    @property
    def area_total_ge(self) -> int:
        """Area proxy."""
        return sum(self.area_ge.values())

    @property
    def objectives(self) -> tuple[int, int, int]:
        """What the Pareto front minimises: energy, time, area."""
        return (self.energy_fj, self.time_ps, self.area_total_ge)


@dataclass(frozen=True)
class Refusal:
    """A candidate that is no configuration, or that cannot run the programs, and why."""

    index: int
    values: Assignment
    reason: str


@dataclass(frozen=True)
class Exploration:
    """Result of a sweep.

    Attributes
    ----------
    title
        Heading.
    space
        What was swept.
    points, refused
        In the order of the space; together they are all of it.
    compiled_for
        Capacity of each on-chip memory that the programs were compiled for, KiB.
    calls, instructions
        Layer calls of the model, and instructions of all of them.
    notes
        Sentences a reader must know.
    versions
        Versions of what made the result.
    """

    title: str
    space: Space
    points: tuple[Point, ...]
    refused: tuple[Refusal, ...]
    compiled_for: dict[str, int]
    calls: int
    instructions: int
    notes: tuple[str, ...]
    versions: dict[str, str]

    @cached_property
    def front(self) -> tuple[Point, ...]:
        """Points that no other point beats in energy, time and area at once, by rising energy."""
        best = pareto_front([p.objectives for p in self.points])
        return tuple(sorted((self.points[i] for i in best), key=lambda p: (*p.objectives, p.index)))


def pareto_front(objectives: Sequence[tuple[int, ...]]) -> list[int]:
    """Indices that are not dominated, all objectives minimised; equal ones stay together.

    One dominates another if it is nowhere worse and somewhere better.
    """
    front: list[int] = []
    # In lexicographic order a point can only be dominated by one before it.
    for i in sorted(range(len(objectives)), key=lambda i: (objectives[i], i)):
        mine = objectives[i]
        if not any(
            objectives[j] != mine and all(a <= b for a, b in zip(objectives[j], mine, strict=True))
            for j in front
        ):
            front.append(i)
    return sorted(front)
