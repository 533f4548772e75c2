"""Cycles, bytes and energy of a run, per layer and in total."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from sd_tvm.accelerator.baselines.resources import Resources
from sd_tvm.accelerator.config.energy import GROUPS, Corner

CORNERS: tuple[Corner, ...] = ("low", "value", "high")


@dataclass(frozen=True)
class LayerResult:
    """One layer.

    Parameters
    ----------
    name
        The layer's name.
    array_cycles, dram_cycles
        Both resources work at the same time; the layer takes the larger.
    dram_bytes
        By operand: ``weights``, ``in``, ``out``.
    events
        (component, price) -> number of events of that price in the energy table.
    """

    name: str
    array_cycles: int
    dram_cycles: int
    dram_bytes: Mapping[str, int]
    events: Mapping[tuple[str, str], int]

    @property
    def cycles(self) -> int:
        """Cycles of the layer."""
        return max(self.array_cycles, self.dram_cycles)

    @property
    def bound(self) -> str:
        """What limits the layer."""
        return "DRAM" if self.dram_cycles > self.array_cycles else "array"

    def energy_fj(self, prices: Mapping[str, int]) -> dict[str, int]:
        """Energy in fJ by component."""
        out: Counter[str] = Counter()
        for (component, price), n in self.events.items():
            out[component] += n * prices[price]
        return dict(out)


@dataclass(frozen=True)
class RunResult:
    """A network on an accelerator. Sums are exact: everything is an integer."""

    baseline: str
    resources: Resources
    layers: tuple[LayerResult, ...]
    banks: Mapping[str, int] = field(default_factory=dict)

    @property
    def cycles(self) -> int:
        """Cycles of all layers."""
        return sum(layer.cycles for layer in self.layers)

    @property
    def dram_bytes(self) -> dict[str, int]:
        """DRAM bytes by operand."""
        out: Counter[str] = Counter()
        for layer in self.layers:
            out.update(layer.dram_bytes)
        return dict(out)

    def energy_fj(self, corners: Mapping[str, Corner] | None = None) -> dict[str, int]:
        """Energy in fJ by component, at a corner of the energy table."""
        prices, out = self.resources.prices(self.banks, corners), Counter[str]()
        for layer in self.layers:
            out.update(layer.energy_fj(prices))
        return dict(out)

    def energy_total_fj(self, corners: Mapping[str, Corner] | None = None) -> int:
        """Energy in fJ."""
        return sum(self.energy_fj(corners).values())

    def to_dict(self) -> dict[str, Any]:
        """Per layer and total {cycles, bytes, energy_fj by component}, for JSON."""
        prices = self.resources.prices(self.banks)
        return {
            "baseline": self.baseline,
            "layers": [
                {
                    "name": layer.name,
                    "cycles": layer.cycles,
                    "bound": layer.bound,
                    "bytes": dict(layer.dram_bytes),
                    "energy_fj": layer.energy_fj(prices),
                }
                for layer in self.layers
            ],
            "total": {"cycles": self.cycles, "bytes": self.dram_bytes, "energy_fj": self.energy_fj()},
        }


def ratio_band(over: RunResult, of: RunResult) -> tuple[float, float, float]:
    """Energy of one run over that of another: nominal, lowest, highest of all 27 corners of the table."""
    ratios: dict[tuple[Corner, ...], float] = {}
    for choice in product(CORNERS, repeat=len(GROUPS)):
        corner = dict(zip(GROUPS, choice, strict=True))
        ratios[choice] = over.energy_total_fj(corner) / of.energy_total_fj(corner)
    nominal: tuple[Corner, ...] = tuple(CORNERS[1] for _ in GROUPS)
    return ratios[nominal], min(ratios.values()), max(ratios.values())


def time_ratio(over: RunResult, of: RunResult) -> float:
    """Cycles of one run over those of another."""
    return over.cycles / of.cycles
