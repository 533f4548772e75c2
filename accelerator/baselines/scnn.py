"""SCNN: planar tiles, Cartesian products of non-zero weights and non-zero activations.

ISCA'17 has 8 x 8 PEs of 4 x 4 multipliers; here as many PEs as the multipliers make, in a square. Weights and
activations are stored compressed, 8 bit and a 4-bit run. The cycle formula per tile is that of
DNNsim's model with
expected instead of counted non-zeros.
"""

from __future__ import annotations

from math import ceil, isqrt
from typing import ClassVar

from sd_tvm.accelerator.baselines.base import Baseline, Memory, Work
from sd_tvm.accelerator.baselines.resources import Resources, bank_bytes
from sd_tvm.accelerator.baselines.shapes import LayerShape
from sd_tvm.accelerator.baselines.statistics import Statistics

SIDE = 4  # weights x activations of a PE
ACCUMULATORS = 1024  # of a PE: 32 banks x 32 entries
STORED_BYTES = 1.5  # 8-bit value, 4-bit run
BARRIER = 1.1  # estimate: PEs wait for the fullest tile at the end of an output group


def vectors(n: float) -> float:
    """Expected number of 4-vectors that hold n expected values: half a vector is lost at the end."""
    return max(1.0, n / SIDE + 0.375) if n > 1e-9 else 0.0


class SCNN(Baseline):
    """Weight and activation sparsity."""

    name: ClassVar[str] = "SCNN"

    def memories(self, resources: Resources) -> dict[str, Memory]:
        """Activations 2/3 (in the PEs), weights 1/3 (in the PEs)."""
        act, weight = resources.sram_bytes * 2 // 3, resources.sram_bytes // 3
        pes = resources.macs // SIDE**2
        return {
            "act": Memory(act, bank_bytes(act, 16 * pes)),
            "weight": Memory(weight, bank_bytes(weight, 16 * pes)),
        }

    def work(self, layer: LayerShape, statistics: Statistics, resources: Resources) -> Work:
        """Sum over output groups, channels, stride phases of ceil(na / 4) x ceil(nw / 4), and the barrier.

        One pixel: products spread over all PEs, one activation of four used (undefined in the paper).
        """
        pes = resources.macs // SIDE**2
        edge = isqrt(pes)
        s = statistics.mask.of(layer.name) if layer.compressible else 0.0
        z = statistics.zeros(layer.name, layer.signed_input)
        dw, da, st = 1 - s, 1 - z, layer.stride
        tile = ceil(layer.in_hw[0] / edge) * ceil(layer.in_hw[1] / (pes // edge))
        tile_out = ceil(layer.out_hw[0] / edge) * ceil(layer.out_hw[1] / (pes // edge))
        if layer.out_hw[0] == 1:  # a row of tokens: over all PEs
            tile = tile_out = ceil(layer.pixels / pes)
        filters = layer.out_channels // layer.groups
        products = layer.macs * dw * da
        if layer.pixels == 1:
            cycles = products / (pes * SIDE)
            weight_vectors = products / SIDE
        else:
            group = min(filters, max(1, ACCUMULATORS // tile_out))
            full, rest = divmod(filters, group)
            steps = 0.0
            for size, times in ((group, full), (rest, 1)):
                if size:
                    nw = size * layer.kernel**2 * dw / st**2
                    steps += times * vectors(tile * da / st**2) * vectors(nw) * st**2
            cycles = steps * layer.in_channels * BARRIER
            weight_vectors = steps * layer.in_channels * min(pes, layer.in_hw[0] * layer.in_hw[1])
        weight_bytes = layer.weights * min(1.0, dw * STORED_BYTES)
        in_bytes = layer.in_values * min(1.0, da * STORED_BYTES)
        # The next layer's zeros are taken to be like this one's.
        out_bytes = layer.out_values * min(1.0, (1 - statistics.zero) * STORED_BYTES if z else 1.0)
        work = Work(cycles, weight_bytes, in_bytes, out_bytes)
        work.add("weight SRAM", "weight_byte", weight_vectors * SIDE * STORED_BYTES)
        groups = ceil(filters / max(1, ACCUMULATORS // tile_out))
        work.add("activation SRAM", "act_byte", in_bytes * groups)
        work.add("output SRAM", "act_byte", 2 * out_bytes)
        work.add("products", "mac_8x8", products)
        work.add("partial sums", "acc_byte", products * 6)  # 24 bit read and written in a bank
        work.add("selection", "picker_byte", products * 3)  # 24 bit through the crossbar
        work.add("requantise", "requantise", layer.out_values)
        return work
