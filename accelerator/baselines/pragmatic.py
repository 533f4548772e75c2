"""Bit-Pragmatic: serial lanes that add only the one-bits of activations.

MICRO'17 has tiles of 16 filters x 16 windows x 16 lanes; here as many tiles as the serial lanes make.
The 16 lanes of
a column wait for the slowest; a zero still takes a cycle (as in DNNsim, by the same group). Weights
dense, 8 bit.
"""

from __future__ import annotations

from math import ceil
from typing import ClassVar

from sd_tvm.accelerator.baselines.base import Baseline, Memory, Work
from sd_tvm.accelerator.baselines.resources import Resources, bank_bytes
from sd_tvm.accelerator.baselines.shapes import LayerShape
from sd_tvm.accelerator.baselines.statistics import Statistics, expected_digits

SIDE = 16


class BitPragmatic(Baseline):
    """Activation bits only; masks bring nothing."""

    name: ClassVar[str] = "Bit-Pragmatic"

    def memories(self, resources: Resources) -> dict[str, Memory]:
        """Activations 2/3, weights 1/3, as on our array."""
        act, weight = resources.sram_bytes * 2 // 3, resources.sram_bytes // 3
        return {
            "act": Memory(act, bank_bytes(act, SIDE * SIDE)),
            "weight": Memory(weight, bank_bytes(weight, resources.serial_lanes // SIDE)),
        }

    def work(self, layer: LayerShape, statistics: Statistics, resources: Resources) -> Work:
        """ceil(M / 16 tiles) x ceil(C / 16) x R x S x ceil(P / 16) x digits of the slowest of 16 lanes.

        Few channels are packed over taps; the filters of a dense layer of one pixel are spread over
        the columns.
        """
        tiles = max(1, resources.serial_lanes // SIDE**3)
        zero = statistics.zeros(layer.name, layer.signed_input)
        slowest = max(1.0, expected_digits("bits", SIDE, zero, layer.signed_input))
        depth = (
            ceil(layer.taps / SIDE)
            if layer.group_channels < SIDE
            else ceil(layer.group_channels / SIDE) * layer.kernel**2
        )
        filters, windows, columns = layer.out_channels // layer.groups, layer.pixels, SIDE
        if windows == 1:
            filters, columns = ceil(filters / SIDE), 1
        if layer.groups > 1:  # a tile for each group in turn
            passes = ceil(layer.groups / tiles) * ceil(filters / SIDE)
        else:
            passes = ceil(filters / (SIDE * tiles))
        cycles = passes * depth * ceil(windows / columns) * slowest
        work = Work(cycles, layer.weights, layer.in_values, layer.out_values)
        work.add("weight SRAM", "weight_byte", layer.weights * ceil(windows / SIDE))
        reads = layer.groups * ceil(layer.out_channels / layer.groups / (SIDE * tiles)) * layer.taps
        work.add("activation SRAM", "act_byte", reads * layer.pixels)
        work.add("output SRAM", "act_byte", 2 * layer.out_values)
        digits = layer.macs * expected_digits("bits", 1, zero, layer.signed_input)
        work.add("products", "booth_digit", digits)
        work.add("products", "shift32", digits / 2)  # a 16-bit shift a digit
        work.add("partial sums", "psum", layer.macs / SIDE)
        work.add("requantise", "requantise", layer.out_values)
        return work
