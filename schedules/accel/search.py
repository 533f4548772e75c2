"""Tile search: what fits the buffers, what it costs, which candidate wins. Pure integers, no TVM."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TypeVar

from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.isa.spec import BY_NAME, Mem
from sd_tvm.errors import ScheduleError

#: Candidates whose DRAM traffic is within this factor of the least are compared by estimated time.
TRAFFIC_SLACK = 1.05
TILE_OVERHEAD_CYCLES = 40
Key = TypeVar("Key")


def ceil_div(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)


@cache
def field_max(instruction: str, name: str) -> int:
    """Largest value of an instruction field."""
    return int((1 << next(f.bits for f in BY_NAME[instruction].fields if f.name == name)) - 1)


def tile_sizes(extent: int) -> list[int]:
    """Tile sizes that give different numbers of tiles, each as balanced as it can be; largest first."""
    sizes = {ceil_div(extent, n) for n in range(1, extent + 1)}
    return sorted(sizes, reverse=True)


@dataclass
class Cost:
    """Words that a candidate needs, and what it costs.

    Attributes
    ----------
    words
        Words of each memory, copies for double buffering included.
    fields
        (what, value, largest value an instruction can hold).
    traffic
        Bytes from and to DRAM.
    busy
        Cycles of each queue, summed over the tiles.
    tiles
        Innermost tiles.
    """

    words: dict[Mem, int] = field(default_factory=dict)
    fields: list[tuple[str, int, int]] = field(default_factory=list)
    traffic: int = 0
    busy: Sequence[int] = ()
    tiles: int = 1

    def need(self, mem: Mem, words: int, copies: int) -> None:
        """Add a buffer."""
        self.words[mem] = self.words.get(mem, 0) + words * copies

    def limit(self, what: str, value: int, largest: int) -> None:
        """Add a bound that an instruction field sets."""
        self.fields.append((what, value, largest))

    @property
    def cycles(self) -> int:
        """Estimate: the busiest queue, the ends of the pipeline, and a constant a tile."""
        return max(self.busy) + sum(self.busy) // self.tiles + TILE_OVERHEAD_CYCLES * self.tiles

    def problem(self, config: AcceleratorConfig, inp_words: int | None = None) -> str:
        """Why the candidate is impossible, or an empty string; ``inp_words``: what INP has, if less."""
        for mem, words in self.words.items():
            have = config.buffer_words(mem)
            if mem is Mem.INP and inp_words is not None:
                have = min(have, inp_words)
            if words > have:
                return f"{words} words of {mem.name} ({have} there are)"
        for what, value, largest in self.fields:
            if value > largest:
                return f"{what} of {value} (an instruction holds {largest})"
        return ""


def choose(
    name: str,
    config: AcceleratorConfig,
    candidates: Callable[[int], Iterable[tuple[Key, Cost]]],
    smallest: Cost,
    inp_words: int | None = None,
) -> tuple[Key, Cost]:
    """Feasible candidate with the least estimated cycles among those with about the least traffic.

    Parameters
    ----------
    name
        Layer, for the error.
    config
        Configuration that it has to fit.
    candidates
        Keys and costs in a fixed order, given the copies of a reused buffer; the first of equals wins.
        Two copies (loads overlap with work) are tried first, then one.
    smallest
        Cost of the smallest tile with one copy of everything, for the error.
    inp_words
        Words of INP that there are, if not all of them.

    Raises
    ------
    ScheduleError
        If no candidate fits; the numbers are those of the smallest tile.
    """
    for copies in (2, 1):
        feasible = [(key, cost) for key, cost in candidates(copies) if not cost.problem(config, inp_words)]
        if feasible:
            bound = min(cost.traffic for _, cost in feasible) * TRAFFIC_SLACK
            good = [item for item in feasible if item[1].traffic <= bound]
            return min(good, key=lambda item: (item[1].cycles, item[1].tiles, item[1].traffic))
    raise ScheduleError(
        f"{name}: its smallest tile needs {smallest.problem(config, inp_words) or 'more than there is'}",
        expected=f"tiles that fit configuration {config.name!r}",
        fix="use a configuration with larger buffers, or leave the layer to the CPU",
    )


def starts(extent: int, tile: int) -> Iterator[tuple[int, int]]:
    """(start, size) of each tile."""
    for start in range(0, extent, tile):
        yield start, min(tile, extent - start)
