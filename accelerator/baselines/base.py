"""The interface of all models, and what they share: DRAM traffic and the way a layer becomes a result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import ClassVar

from sd_tvm.accelerator.baselines.resources import Resources
from sd_tvm.accelerator.baselines.result import LayerResult, RunResult
from sd_tvm.accelerator.baselines.shapes import LayerShape
from sd_tvm.accelerator.baselines.statistics import Statistics


@dataclass(frozen=True)
class Memory:
    """An on-chip buffer."""

    size: int
    bank: int


@dataclass
class Work:
    """What a model says about a layer: array cycles, operand bytes as stored, on-chip events."""

    cycles: float
    weight_bytes: float
    in_bytes: float
    out_bytes: float
    events: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, component: str, price: str, number: float) -> None:
        """Count events, rounded to whole ones."""
        self.events[component, price] += round(number)


class Baseline(ABC):
    """An accelerator at given resources."""

    name: ClassVar[str] = ""

    @abstractmethod
    def memories(self, resources: Resources) -> dict[str, Memory]:
        """Buffers; ``act`` and ``weight`` must be among them."""

    @abstractmethod
    def work(self, layer: LayerShape, statistics: Statistics, resources: Resources) -> Work:
        """Cycles, stored bytes and on-chip events of a layer."""

    @property
    def label(self) -> str:
        """Name in reports."""
        return self.name

    def run(self, layers: Sequence[LayerShape], statistics: Statistics, resources: Resources) -> RunResult:
        """Model a network.

        Parameters
        ----------
        layers
            Shapes in order.
        statistics
            Masks of the weights, zeros of the activations.
        resources
            Equal for all accelerators of a comparison.
        """
        memories = self.memories(resources)
        results = [self._layer(layer, statistics, resources, memories) for layer in layers]
        return RunResult(self.label, resources, tuple(results), {n: m.bank for n, m in memories.items()})

    def _layer(
        self, layer: LayerShape, statistics: Statistics, resources: Resources, memories: dict[str, Memory]
    ) -> LayerResult:
        work = self.work(layer, statistics, resources)
        traffic = dram_traffic(layer, work, resources, memories["act"].size, memories["weight"].size)
        total = sum(traffic.values())
        work.add("DRAM", "dram_byte", total)
        work.add("weight SRAM", "weight_byte", work.weight_bytes)
        work.add("activation SRAM", "act_byte", work.in_bytes)
        rate = resources.dram_bytes_per_cycle
        return LayerResult(
            layer.name, ceil(work.cycles), -(-total // rate) if rate else 0, traffic, dict(work.events)
        )


def dram_traffic(
    layer: LayerShape, work: Work, resources: Resources, act_buffer: int, weight_buffer: int
) -> dict[str, int]:
    """DRAM bytes of a layer by operand.

    Half of a buffer is usable (the other half is being filled). An operand that fits goes by once with
    the other;
    else the cheaper of reading the weights again for each part of the input and the reverse.
    """
    w, i, o = ceil(work.weight_bytes), ceil(work.in_bytes), ceil(work.out_bytes)
    act, weight = max(1, act_buffer // 2), max(1, weight_buffer // 2)
    chained, fused = resources.schedule != "layer", resources.schedule == "fused"
    in_chip = not layer.first and ((chained and i <= act) or (fused and layer.inner_in))
    out_chip = not layer.last and ((chained and o <= act) or (fused and layer.inner_out))
    if layer.kind == "matmul" and in_chip:
        w = 0  # the second operand is an activation that stays, too
    n_w = n_i = 1
    if not in_chip and i > act and w > weight:
        again_w, again_i = ceil(i / act), ceil(w / weight)
        if w * again_w + i < i * again_i + w:
            n_w = again_w
        else:
            n_i = again_i
    return {"weights": w * n_w, "in": 0 if in_chip else i * n_i, "out": 0 if out_chip else o}
