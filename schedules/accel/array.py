"""Cycles and energy of single instructions, for choosing tiles: the formulas of ``docs/accelerator.md``.

The same as ``accelerator/sim/{gemm_plan,cost}.cc``, in Python and from a layer instead of an instruction.
Bit-serial arrays count the most digits that a step can have.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import prod

from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.isa.encode import encode_code
from sd_tvm.layers import ConvLayer, blocks16
from sd_tvm.weights.tensor import ROWS_KEPT

#: Bytes of an instruction, and instructions of a fetch burst.
INSTRUCTION_BYTES, FETCH_BURST = 32, 4


def ceil_div(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)


@cache
def prices(config: AcceleratorConfig) -> dict[str, int]:
    """Prices of a configuration, fJ by event (looked up once: tile searches ask a lot)."""
    return config.energy_fj()


def transfer_cycles(config: AcceleratorConfig, row_bytes: int, rows: int) -> int:
    """Bus cycles of rows with holes between them, each from the start of a burst."""
    dram = config.dram
    full, rest = divmod(row_bytes, dram.burst_bytes)
    pieces = full + (rest > 0)
    row = full * ceil_div(dram.burst_bytes, dram.bytes_per_cycle) + ceil_div(rest, dram.bytes_per_cycle)
    cycles = rows * (row + max(pieces - 1, 0) * dram.gap_cycles) + (rows - 1) * dram.gap_cycles
    return ceil_div(cycles * 100, dram.efficiency_percent)


def load_cycles(config: AcceleratorConfig, beats: int) -> int:
    """Time that a LOAD takes of its queue when others are under way."""
    latency = config.control.decode_cycles + config.dram.latency_cycles
    return max(beats, ceil_div(latency + beats, config.dram.outstanding))


def store_cycles(config: AcceleratorConfig, beats: int) -> int:
    """Time that a STORE takes of its queue when others are under way."""
    tail = config.control.decode_cycles + config.dram.write_latency_cycles
    return max(beats, ceil_div(tail + beats, config.dram.outstanding))


def alu_cycles(config: AcceleratorConfig, words: int, acc_operands: int = 1) -> int:
    """An ALU instruction on so many words of 16 values."""
    alu = config.alu
    turns = max(1, ceil_div(acc_operands, alu.acc_ports))
    return config.control.decode_cycles + alu.fill_cycles + ceil_div(words * 16, alu.lanes) * turns


def fetch_cycles(config: AcceleratorConfig, instructions: int) -> int:
    """Least time in which so many instructions arrive."""
    if not config.control.fetch:
        return 0
    burst = ceil_div(FETCH_BURST * INSTRUCTION_BYTES, config.dram.bytes_per_cycle)
    return ceil_div(instructions, FETCH_BURST) * burst


@dataclass(frozen=True)
class GemmCost:
    """Cycles of a GEMM, and energy (fJ) of what depends on how the layer is cut."""

    cycles: int
    energy_fj: int


class ArrayModel:
    """GEMMs of one layer on one array.

    Parameters
    ----------
    layer
        The layer.
    config
        The machine.
    """

    def __init__(self, layer: ConvLayer, config: AcceleratorConfig) -> None:
        self.layer, self.config, self.prices = layer, config, prices(config)
        form, geometry = layer.form, layer.geometry
        m, cg, kh, kw = layer.weight_shape
        self.mg, self.cg, self.kh, self.kw = m // layer.groups, cg, kh, kw
        self.code = form is not None
        self.depthwise = cg == 1
        array = config.array
        if array.mac == "serial":
            self.step = 4 if layer.in_dtype == "int8" else 5
        else:
            self.step = ceil_div(array.f_lanes, array.lanes_per_line)
        self.all_taps = cg * kh * kw
        if form is None:
            self.steps = kw if self.depthwise else 1
            self.rows = kh if self.depthwise else cg
            self.taps, self.kept, self.shared = self.depthwise, 1, False
        else:
            self.steps = geometry.s
            self.shared = form.pattern == "shared"
            self.rows = form.kept_rows if self.shared else geometry.rows
            if form.indexed:
                self.rows = geometry.blocks * ROWS_KEPT[form.pattern]
            self.taps = geometry.kind == "taps"
            self.kept = 16 // ROWS_KEPT.get(form.pattern, 16)
        self.rebuild = self.steps * array.lines_per_re if self.code else 0
        self._known: dict[tuple[int, int, int, int], GemmCost] = {}

    def _window(self, pixels: int, taps: int) -> int:
        """Input pixels under neighbouring outputs."""
        span = (pixels - 1) * self.layer.stride[1] + (taps - 1) * self.layer.dilation[1] + 1
        return min(pixels * taps, span)

    def _windows(self, n_ox: int, taps: int) -> int:
        full, rest = divmod(n_ox, self.config.array.f_lanes)
        total = full * self._window(self.config.array.f_lanes, taps)
        return total + (self._window(rest, taps) if rest else 0)

    def _input_rows(self, n: int) -> int:
        (sh, _), (dh, _) = self.layer.stride, self.layer.dilation
        return len({oy * sh + ky * dh for oy in range(n) for ky in range(self.kh)})

    def _passes(self, first: int, n_m: int) -> int:
        """Passes over filters [first, first + n_m): each channel group has its own."""
        slices = self.config.array.m_slices
        if self.depthwise:
            return ceil_div(n_m, slices)
        total, m = 0, first
        while m < first + n_m:
            count = min(self.mg - m % self.mg, first + n_m - m)
            total += ceil_div(count, slices)
            m += count
        return total

    def gemm(self, n_oy: int, n_ox: int, first: int, n_m: int) -> GemmCost:
        """One GEMM: output rows and columns, first filter, filters."""
        key = (n_oy, n_ox, first % self.mg if not self.depthwise else 0, n_m)
        if key not in self._known:
            self._known[key] = self._gemm(*key)
        return self._known[key]

    def _gemm(self, n_oy: int, n_ox: int, first: int, n_m: int) -> GemmCost:
        array = self.config.array
        fill = self.config.control.decode_cycles + array.fill_cycles
        filter_passes = self._passes(first, n_m)
        x_groups = ceil_div(n_ox, array.f_lanes)
        at_once = 1
        if self.depthwise:
            fit = n_oy if self.rows == 0 else array.c_lines // self.rows
            at_once = max(1, min(n_oy, fit))
            passes = ceil_div(self.rows, array.c_lines)
            pixels = min(array.f_lanes, n_ox)
            channel = self._input_rows(at_once) * self._window(pixels, self.kw)
            last = n_m % array.m_slices or array.m_slices
            ports = [ceil_div(ceil_div(n, self.mg) * channel, array.port_bytes_per_cycle)
                     for n in (array.m_slices, last)]  # fmt: skip
            groups = ceil_div(n_oy, at_once) * x_groups
            drain = ceil_div(at_once * pixels, array.drain_values_per_cycle)
            mac = self.steps * self.step
            body = [max(drain, passes * max(mac, port, self.rebuild)) for port in ports]
            cycles = fill + self.rebuild + drain + groups * ((filter_passes - 1) * body[0] + body[1])
        else:
            cycles, groups = min(
                (self._conv(n_oy, n_ox, filter_passes, fold, fill) for fold in sorted(array.fold)),
                key=lambda found: found[0],
            )
        return GemmCost(cycles, self._energy(n_oy, n_ox, n_m, filter_passes, groups, at_once))

    def _conv(self, n_oy: int, n_ox: int, filter_passes: int, fold: int, fill: int) -> tuple[int, int]:
        """(cycles, groups of pixels) at one fold."""
        array = self.config.array
        passes = ceil_div(self.rows, array.c_lines // fold)
        if not self.code:
            passes *= self.kh * self.kw
        lane = self._window(array.f_lanes, self.steps) if self.taps else array.f_lanes * self.steps
        port = ceil_div(array.c_lines * lane * self.kept, array.port_bytes_per_cycle)
        groups = n_oy * ceil_div(ceil_div(n_ox, array.f_lanes), fold)
        drain = ceil_div(min(n_ox, fold * array.f_lanes), array.drain_values_per_cycle)
        body = max(drain, passes * max(self.steps * self.step, port, self.rebuild))
        return fill + self.rebuild + drain + groups * filter_passes * body, groups

    def _energy(self, n_oy: int, n_ox: int, n_m: int, filter_passes: int, groups: int, at_once: int) -> int:
        """Reads of INP, weights and bias, and rebuilding; products and sums are the same for all tiles."""
        price, pixels = self.prices, n_oy * n_ox
        form, geometry = self.layer.form, self.layer.geometry
        reads = groups * n_m
        total = 4 * reads * price["qp_byte"]
        if self.depthwise:
            full, rest = divmod(n_oy, at_once)
            rows = full * self._input_rows(at_once) + (self._input_rows(rest) if rest else 0)
            inp = ceil_div(n_m, self.mg) * rows * self._windows(n_ox, self.kw)
        elif form is None:
            inp = pixels * self.all_taps * filter_passes
        else:
            rows = form.kept_rows if self.shared else geometry.rows
            inp = (
                rows
                * filter_passes
                * (n_oy * self._windows(n_ox, self.steps) if self.taps else self.steps * pixels)
            )
        total += inp * price["inp_byte"]
        if form is None:
            return total + reads * self.all_taps * price["code_byte"]
        s2 = self.steps**2
        slots = form.slots(geometry) * form.planes(geometry.s) // 2
        terms = 2 if any(encode_code(int(v)) & 8 for v in form.table.table) else 1
        total += reads * slots * price["code_byte"]
        total += reads * form.n_slices(geometry) * s2 * price["basis_byte"]
        total += prod((reads, self.rows, s2, terms)) * price["shift_add"]
        if self.shared:
            words = 16 * blocks16(ceil_div(geometry.rows, 8))
            total += groups * filter_passes * words * price["idx_byte"]
        return total
