"""Cambricon-X: PEs of 16 multipliers, sparse weights with step indices, inputs picked for each PE.

MICRO'16 has 16 PEs at 16 bit; here macs / 16. Its index step (4 bit) makes a kept weight 12 bit. It
uses zeros of
weights, not of activations. A PE picks among 256 inputs a cycle.
"""

from __future__ import annotations

from math import ceil, sqrt
from typing import ClassVar

from sd_tvm.accelerator.baselines.base import Baseline, Memory, Work
from sd_tvm.accelerator.baselines.resources import Resources, bank_bytes
from sd_tvm.accelerator.baselines.shapes import LayerShape
from sd_tvm.accelerator.baselines.statistics import Statistics

MULTIPLIERS = 16
WINDOW = 256
WEIGHT_BYTES = 1.5  # 8-bit weight, 4-bit step


def imbalance(sparsity: float, n: int, filters: int) -> float:
    """Largest over mean number of kept weights among filters with independent masks of n elements.

    The largest of 64 normal numbers is 2.4 deviations above the mean.
    """
    if sparsity <= 0 or filters < 2:
        return 1.0
    return min(1 / (1 - sparsity), 1 + 2.4 * sqrt(sparsity * (1 - sparsity) / n) / (1 - sparsity))


class CambriconX(Baseline):
    """Weight sparsity only."""

    name: ClassVar[str] = "Cambricon-X"

    def memories(self, resources: Resources) -> dict[str, Memory]:
        """Inputs 1/6, outputs 1/6, weights (in the PEs) 2/3."""
        unit, pes = resources.sram_bytes // 6, resources.macs // MULTIPLIERS
        return {
            "act": Memory(unit, bank_bytes(unit, WINDOW)),
            "out": Memory(unit, bank_bytes(unit, pes)),
            "weight": Memory(4 * unit, bank_bytes(4 * unit, 24 * pes)),
        }

    def work(self, layer: LayerShape, statistics: Statistics, resources: Resources) -> Work:
        """ceil(M / PEs) x max(ceil(kept / 16), ceil(n / 256)) x P cycles; kept: of the fullest PE."""
        pes = resources.macs // MULTIPLIERS
        s = statistics.mask.of(layer.name) if layer.compressible else 0.0
        n = layer.taps
        balance = imbalance(s, n, pes) if statistics.mask.structure == "free" else 1.0
        kept = n * (1 - s)
        step = max(ceil(kept * balance / MULTIPLIERS), ceil(n / WINDOW))
        passes = ceil(layer.out_channels / pes)
        products = layer.out_channels * kept * layer.pixels
        sparse = s > 0
        stored = layer.out_channels * kept * (WEIGHT_BYTES if sparse else 1.0)
        work = Work(passes * step * layer.pixels, stored, layer.in_values, layer.out_values)
        work.add("weight SRAM", "weight_byte", products * (WEIGHT_BYTES if sparse else 1.0))
        reads = layer.in_channels * layer.kernel**2 if layer.groups > 1 else passes * n
        work.add("activation SRAM", "act_byte", reads * layer.pixels)
        work.add("output SRAM", "out_byte", 2 * layer.out_values)
        if sparse:
            work.add("selection", "picker_byte", products)
        work.add("products", "mac_8x8", products)
        work.add("partial sums", "psum", products)
        work.add("requantise", "requantise", layer.out_values)
        return work
