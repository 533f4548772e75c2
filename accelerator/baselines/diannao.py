"""DianNao: Tn neurons x Ti inputs of dense multipliers, weights from SB every cycle.

ASPLOS'14 has Tn = Ti = 16 at 16 bit and 2 + 2 + 32 KB of NBin, NBout, SB; here Tn = Ti = sqrt(macs) at
8 bit and
buffers in the same proportion. No sparsity is used; masks bring nothing.
"""

from __future__ import annotations

from math import ceil, isqrt
from typing import ClassVar

from sd_tvm.accelerator.baselines.base import Baseline, Memory, Work
from sd_tvm.accelerator.baselines.resources import Resources, bank_bytes
from sd_tvm.accelerator.baselines.shapes import LayerShape
from sd_tvm.accelerator.baselines.statistics import Statistics


class DianNao(Baseline):
    """Dense; one weight byte from SB a product."""

    name: ClassVar[str] = "DianNao"

    def memories(self, resources: Resources) -> dict[str, Memory]:
        """NBin, NBout, SB as 2 : 2 : 32."""
        unit, tn = resources.sram_bytes // 36, isqrt(resources.macs)
        return {
            "act": Memory(2 * unit, bank_bytes(2 * unit, tn)),
            "out": Memory(2 * unit, bank_bytes(2 * unit, tn)),
            "weight": Memory(32 * unit, bank_bytes(32 * unit, resources.macs)),
        }

    def work(self, layer: LayerShape, statistics: Statistics, resources: Resources) -> Work:
        """ceil(M / Tn) x ceil(C / Ti) x R x S x P cycles.

        Inputs of few channels are packed over the taps, which is generous. Depthwise: one neuron at a time.
        """
        del statistics  # dense, bit-parallel
        ti = isqrt(resources.macs)
        tn = resources.macs // ti
        filters = layer.out_channels // layer.groups
        k2 = layer.kernel**2
        depth = ceil(layer.taps / ti) if layer.group_channels < ti else ceil(layer.group_channels / ti) * k2
        passes = layer.groups * ceil(filters / tn)
        cycles = passes * depth * layer.pixels
        work = Work(cycles, layer.weights, layer.in_values, layer.out_values)
        work.add("weight SRAM", "weight_byte", layer.macs)
        work.add("activation SRAM", "act_byte", passes * layer.taps * layer.pixels)
        work.add("output SRAM", "out_byte", 2 * layer.out_values)
        work.add("products", "mac_8x8", layer.macs)
        work.add("partial sums", "psum", layer.macs)
        work.add("requantise", "requantise", layer.out_values)
        return work
