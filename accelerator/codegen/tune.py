"""Tuning: tiles by measurement on the timing model instead of by their estimated cost.

For each different step the best candidates by estimate are compiled between the steps around it, and
timed. What counts is what the estimates rank by: energy, and time at :func:`.search.cycle_price`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.isa.program import Program
from sd_tvm.accelerator.timing import time_program
from sd_tvm.errors import CodegenError, ConfigError, ScheduleError
from sd_tvm.layers import Layer
from sd_tvm.schedules.accel.placement import Placement
from sd_tvm.schedules.accel.search import cycle_price
from sd_tvm.schedules.accel.tiles import Tile, TileDatabase, key_of, rank_tiles

#: Program of a window of steps (None: all), given tiles.
Link = Callable[[TileDatabase, range | None], Program]
Steps = Sequence[tuple[Layer, Placement]]


@dataclass
class Tuning:
    """Known tiles, and how to find others.

    Attributes
    ----------
    tiles
        Where tiles are looked up and kept.
    candidates
        How many to try for each step that is not known; 0: none, those not known are chosen by estimate.
    progress
        Called with (steps done, steps to do).
    before_after
        (estimated tiles, tuned tiles) of each region that was tuned: objective in fJ.
    """

    tiles: TileDatabase
    candidates: int = 0
    progress: Callable[[int, int], None] | None = None
    before_after: list[tuple[int, int]] = field(default_factory=list)

    def tune(self, steps: Steps, config: AcceleratorConfig, link: Link) -> None:
        """Find tiles of the steps of a region.

        Raises
        ------
        ConfigError
            If the array is bit-serial: its time depends on data.
        """
        if self.candidates < 1:
            return
        if config.array.mac == "serial":
            raise ConfigError(
                f"tuning on {config.name!r}, whose array is bit-serial: its time depends on data",
                expected="a configuration with mac: parallel",
                fix="compile without tuning",
            )
        unknown: dict[str, int] = {}
        for number, (layer, placement) in enumerate(steps):
            if self.tiles.get(layer, config, placement) is None:
                unknown.setdefault(key_of(layer, config, placement), number)
        if not unknown:
            return
        before = _score(link(self.tiles, None), config)
        first: list[tuple[Layer, Placement, Tile]] = []
        for done, number in enumerate(unknown.values()):
            if self.progress is not None:
                self.progress(done, len(unknown))
            found = self._step(number, steps, config, link)
            if found is not None:
                first.append((*steps[number], found))
        if self.progress is not None:
            self.progress(len(unknown), len(unknown))
        after = _score(link(self.tiles, None), config)
        if after > before:  # windows are not everything
            for layer, placement, tile in first:
                self.tiles.put(layer, config, placement, tile, found="estimate")
            after = before
        self.before_after.append((before, after))

    def _step(self, number: int, steps: Steps, config: AcceleratorConfig, link: Link) -> Tile | None:
        """Keep the best tile of one step; returns the one with the best estimate."""
        layer, placement = steps[number]
        ranked = rank_tiles(layer, config, placement)[: self.candidates]
        if not ranked:
            return None
        window = range(max(0, number - 1), min(len(steps), number + 2))
        scores: list[int] = []
        for tile, _ in ranked:
            self.tiles.put(layer, config, placement, tile)
            try:
                scores.append(_score(link(self.tiles, window), config))
            except (ScheduleError, CodegenError):  # one that the estimate thinks possible
                scores.append(1 << 62)
        best = scores.index(min(scores))
        self.tiles.put(
            layer, config, placement, ranked[best][0], found=f"measured, {best + 1} of {len(ranked)}"
        )
        return ranked[0][0]


def _score(program: Program, config: AcceleratorConfig) -> int:
    """Energy and time of a program, fJ."""
    stats = time_program(program.to_bytes(), config)
    return int(stats["energy_total_fj"]) + int(stats["cycles"]) * cycle_price(config)
