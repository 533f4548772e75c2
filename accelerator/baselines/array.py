"""Our array (64 slices x 16 lines x 8 pixels) with any weight format; formulas of docs/accelerator.md."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from sd_tvm.accelerator.baselines.base import Baseline, Memory, Work
from sd_tvm.accelerator.baselines.formats import DENSE8, FORMATS, Format
from sd_tvm.accelerator.baselines.resources import Resources, bank_bytes
from sd_tvm.accelerator.baselines.shapes import LayerShape
from sd_tvm.accelerator.baselines.statistics import Statistics, expected_digits

LINES, PIXELS, FOLDS, PORT = 16, 8, (1, 2, 4), 512


@dataclass(frozen=True)
class Plan:
    """Repetitions of a layer on the array."""

    groups: int  # pixel groups x filter passes x channel groups
    row_passes: int
    row_cycles: float
    port_bytes: int  # a row pass


class OurArray(Baseline):
    """The array of ``smartexchange-28nm-parallel``, or its bit-serial form.

    Parameters
    ----------
    form
        Weight format of the compressible layers; the others stay dense int8.
    serial
        Eight Booth lanes a line instead of one multiplier.
    """

    def __init__(self, form: Format = DENSE8, serial: bool = False) -> None:
        self.form, self.serial = form, serial

    @property
    def label(self) -> str:
        """Name in reports."""
        return self.form.name + (", serial" if self.serial else "")

    def memories(self, resources: Resources) -> dict[str, Memory]:
        """512 KB of activations, 256 KB of weights, 4 KB of outputs of 772 KB."""
        unit = resources.sram_bytes // 193
        slices = max(1, resources.macs // LINES)
        return {
            "act": Memory(128 * unit, bank_bytes(128 * unit, PORT)),
            "weight": Memory(64 * unit, bank_bytes(64 * unit, 32 * slices)),
            "out": Memory(unit, bank_bytes(unit, 16)),
        }

    def work(self, layer: LayerShape, statistics: Statistics, resources: Resources) -> Work:
        """Groups x max(row passes x row, drain) cycles at the fastest fold."""
        form = self.form if layer.compressible else DENSE8
        sparsity = statistics.mask.of(layer.name) if layer.compressible else 0.0
        zero = statistics.zeros(layer.name, layer.signed_input)
        step = float(PIXELS)
        vector = 0.0 if layer.signed_input else statistics.zero_vectors
        if self.serial:
            slowest = max(1.0, expected_digits("booth", PIXELS, zero, layer.signed_input))
            step = slowest * (1 - vector)
        slices = max(1, resources.macs // LINES)
        folds = (1,) if layer.kind == "depthwise" else FOLDS
        plans = [self._plan(layer, form, sparsity, step, slices, fold) for fold in folds]
        drain = min(layer.out_hw[1] if layer.kernel > 1 else layer.pixels, PIXELS)
        plan = min(plans, key=lambda p: p.groups * max(p.row_passes * p.row_cycles, drain))
        cycles = plan.groups * max(plan.row_passes * plan.row_cycles, drain)

        rows = form.rows(layer, sparsity)
        weight_bytes = form.weight_bytes(layer, sparsity)
        work = Work(cycles, weight_bytes, layer.in_values, layer.out_values)
        pixel_groups = ceil(layer.pixels / PIXELS)
        work.add("activation SRAM", "act_byte", plan.groups * plan.row_passes * plan.port_bytes)
        work.add("weight SRAM", "weight_byte", weight_bytes * pixel_groups)
        dense = form.kept == 16 and not form.rebuilt
        stored = layer.taps if dense else rows * layer.row_taps
        products = layer.out_channels * stored * layer.pixels
        fifo = float(products)
        if layer.kernel > 1 and (layer.kind == "depthwise" or not dense):  # rows of taps share pixels
            fifo *= (PIXELS + layer.row_taps - 1) / (PIXELS * layer.row_taps)
        work.add("input FIFO", "fifo_byte", fifo * (1 - vector if self.serial else 1))
        if 0 < form.kept < 16:
            work.add("selection", "picker_byte", fifo)
        if form.rebuilt:
            work.add("rebuild", "shift_add", layer.out_channels * rows * layer.row_taps**2 * pixel_groups)
        if self.serial:
            digits = expected_digits("booth", 1, zero, layer.signed_input)
            work.add("products", "booth_digit", products * digits)
            work.add("partial sums", "psum", products * digits)
        else:
            work.add("products", "mac_8x13" if form.rebuilt else "mac_8x8", products)
            work.add("partial sums", "psum", products)
        work.add("accumulators", "acc_byte", 8 * layer.out_values)
        work.add("output SRAM", "out_byte", 2 * layer.out_values)
        work.add("requantise", "requantise", layer.out_values)
        return work

    def _plan(
        self, layer: LayerShape, form: Format, sparsity: float, step: float, slices: int, fold: int
    ) -> Plan:
        s, filters, lines = layer.row_taps, layer.out_channels // layer.groups, LINES // fold
        h, w = layer.out_hw
        window = (PIXELS - 1) * layer.stride + layer.kernel
        if layer.kind == "depthwise":
            k = layer.kernel
            together = max(1, min(h, LINES // k))
            groups = ceil(h / together) * ceil(w / PIXELS) * ceil(layer.out_channels / slices)
            port = min(slices, layer.out_channels) * ((together - 1) * layer.stride + k) * window
            return Plan(groups, ceil(k / LINES), max(k * step, port / PORT), port)
        # 1x1 kernels of stride 1 see the map as one row.
        across = ceil(h * w / PIXELS) if layer.kernel == 1 and layer.stride == 1 else h * ceil(w / PIXELS)
        groups = layer.groups * ceil(across / fold) * ceil(filters / slices)
        if form.kept == 16 and not form.rebuilt:
            s, passes = 1, layer.kernel**2 * ceil(layer.group_channels / lines)
            port, rebuild = LINES * PIXELS, 0
        else:
            passes = ceil(form.rows(layer, sparsity) / lines)
            pixels = PIXELS * s if layer.kernel == 1 else min(PIXELS * s, window)
            port, rebuild = LINES * pixels, (s * PIXELS if form.rebuilt and not self.serial else 0)
            if form.rebuilt and self.serial:
                rebuild = s
            if 0 < form.kept < 16:
                port = port * 16 // form.kept
        return Plan(groups, passes, max(s * step, rebuild, port / PORT), port)


ARRAY_BASELINES = tuple(OurArray(form) for form in FORMATS)
