"""Tile search: what fits the buffers, what it costs, which candidate wins. Pure integers, no TVM.

The objective is energy plus time at the price of :func:`cycle_price`; see ``docs/accelerator.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TypeVar

from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.isa.spec import BY_NAME, Mem
from sd_tvm.errors import ScheduleError
from sd_tvm.schedules.accel.array import (
    INSTRUCTION_BYTES,
    ceil_div,
    fetch_cycles,
    load_cycles,
    prices,
    store_cycles,
)

__all__ = [
    "Cost", "both", "ceil_div", "choose", "cycle_price", "field_max", "rank", "starts", "tile_sizes",
]  # fmt: skip

#: Share of the DRAM's full power that a cycle is charged with.
CYCLE_SHARE = 0.5
Key = TypeVar("Key")


@cache
def field_max(instruction: str, name: str) -> int:
    """Largest value of an instruction field."""
    return int((1 << next(f.bits for f in BY_NAME[instruction].fields if f.name == name)) - 1)


def tile_sizes(extent: int) -> list[int]:
    """Tile sizes that give different numbers of tiles, each as balanced as it can be; largest first."""
    sizes = {ceil_div(extent, n) for n in range(1, extent + 1)}
    return sorted(sizes, reverse=True)


def cycle_price(config: AcceleratorConfig) -> int:
    """fJ that a cycle counts for when tiles are compared.

    Least energy x delay of a whole network means least energy + time x (its mean power), to first order.
    The mean power of networks on the shipped configurations is between a third of and all of the power of
    a busy DRAM bus; half of it is what the search assumes: the flat
    optimum of measured energy x delay.
    """
    return int(CYCLE_SHARE * config.dram.bytes_per_cycle * prices(config)["dram_byte"])


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
        Bytes from and to DRAM, instructions aside.
    busy
        Cycles of each queue that takes part, in the order in which data pass them, summed over the tiles.
    overlaps
        For each queue but the last: whether it works on the next tile while the one behind it has this
        one. Left out: all do if there are two copies.
    lead
        Cycles before the first tile's work can begin; None: a tile's share of the first queue.
    tiles
        Innermost tiles.
    pattern
        Cycles of each queue for tiles that follow each other, if they differ; then it begins again.
    instructions
        Instructions of all tiles; 0: four a tile.
    energy_fj
        Energy on chip that depends on the tiles.
    copies
        Copies of reused buffers.
    """

    words: dict[Mem, int] = field(default_factory=dict)
    fields: list[tuple[str, int, int]] = field(default_factory=list)
    traffic: int = 0
    busy: Sequence[int] = ()
    overlaps: Sequence[bool] = ()
    lead: int | None = None
    tiles: int = 1
    pattern: list[tuple[int, ...]] = field(default_factory=list)
    instructions: int = 0
    energy_fj: int = 0
    copies: int = 2

    def need(self, mem: Mem, words: int, copies: int) -> None:
        """Add a buffer."""
        self.words[mem] = self.words.get(mem, 0) + words * copies

    def limit(self, what: str, value: int, largest: int) -> None:
        """Add a bound that an instruction field sets."""
        self.fields.append((what, value, largest))

    def cycles(self, config: AcceleratorConfig) -> int:
        """Estimate: tiles pass the queues; a queue works one tile ahead of the one behind it, or not."""
        overlaps = self.overlaps or [self.copies > 1] * (len(self.busy) - 1)
        pattern = self.pattern or [tuple(b // self.tiles for b in self.busy)]
        lead = pattern[0][0] if self.lead is None else self.lead
        sample = min(self.tiles, max(2 * len(pattern), 4))
        total, steady = _flow(pattern, [2 if ahead else 1 for ahead in overlaps], sample, lead)
        total += steady * (self.tiles - sample) // max(1, sample - sample // 2)
        return max(total, fetch_cycles(config, self.instructions or 4 * self.tiles))

    def objective(self, config: AcceleratorConfig) -> int:
        """What is minimised, fJ: energy that depends on the tiles, and time at its price."""
        instructions = self.instructions or 4 * self.tiles
        moved = self.traffic + INSTRUCTION_BYTES * instructions
        energy = self.energy_fj + moved * prices(config)["dram_byte"]
        return energy + self.cycles(config) * cycle_price(config)

    def transfers(self, config: AcceleratorConfig, loads: int, stores: int, n: int) -> tuple[int, int]:
        """Cycles of the queues that move so many bytes in ``n`` transfers each."""
        width, percent = config.dram.bytes_per_cycle, config.dram.efficiency_percent
        out = []
        for total, cycles in ((loads, load_cycles), (stores, store_cycles)):
            beats = ceil_div(total * 100, width * percent * max(n, 1))
            out.append(n * cycles(config, beats) if total else 0)
        return out[0], out[1]

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


def _flow(pattern: Sequence[tuple[int, ...]], ahead: Sequence[int], tiles: int, lead: int) -> tuple[int, int]:
    """(time of so many tiles, time of the second half of them)."""
    queues = len(pattern[0])
    ends: list[list[int]] = [[] for _ in range(queues)]
    for t in range(tiles):
        times = pattern[t % len(pattern)]
        before = 0
        for q in range(queues):
            start = before
            if t:
                start = max(start, ends[q][-1])
            if q + 1 < queues and t >= ahead[q]:
                start = max(start, ends[q + 1][t - ahead[q]])
            before = start + (lead if t == 0 and q == 0 else times[q])
            ends[q].append(before)
    last = ends[-1]
    return last[-1], last[-1] - last[tiles // 2 - 1] if tiles > 1 else 0


def rank(
    name: str,
    config: AcceleratorConfig,
    candidates: Iterable[tuple[Key, Cost]],
    smallest: Cost,
    inp_words: int | None = None,
) -> list[tuple[Key, Cost]]:
    """Feasible candidates, best first.

    Parameters
    ----------
    name
        Layer, for the error.
    config
        Configuration that they have to fit.
    candidates
        Keys and costs in a fixed order; the first of equals wins.
    smallest
        Cost of the smallest tile with one copy of everything, for the error.
    inp_words
        Words of INP that there are, if not all of them.

    Raises
    ------
    ScheduleError
        If no candidate fits; the numbers are those of the smallest tile.
    """
    feasible = [(key, cost) for key, cost in candidates if not cost.problem(config, inp_words)]
    if feasible:
        return sorted(feasible, key=lambda item: (item[1].objective(config), item[1].tiles))
    raise ScheduleError(
        f"{name}: its smallest tile needs {smallest.problem(config, inp_words) or 'more than there is'}",
        expected=f"tiles that fit configuration {config.name!r}",
        fix="use a configuration with larger buffers, or leave the layer to the CPU",
    )


def both(candidates: Callable[[int], Iterable[tuple[Key, Cost]]]) -> Iterator[tuple[Key, Cost]]:
    """Candidates with two copies of each reused buffer (loads overlap with work), then those with one."""
    for copies in (2, 1):
        for key, cost in candidates(copies):
            cost.copies = copies
            yield key, cost


def choose(
    name: str,
    config: AcceleratorConfig,
    candidates: Callable[[int], Iterable[tuple[Key, Cost]]],
    smallest: Cost,
    inp_words: int | None = None,
) -> tuple[Key, Cost]:
    """First of :func:`rank`, of candidates with two copies and with one; ``copies`` of its cost says which.

    Raises
    ------
    ScheduleError
        As :func:`rank`.
    """
    return rank(name, config, both(candidates), smallest, inp_words)[0]


def starts(extent: int, tile: int) -> Iterator[tuple[int, int]]:
    """(start, size) of each tile."""
    for start in range(0, extent, tile):
        yield start, min(tile, extent - start)
