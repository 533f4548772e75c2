"""Tiles of a convolution: filters, output rows and columns, loop order, resident weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.isa.spec import Mem
from sd_tvm.errors import ScheduleError
from sd_tvm.layers import LANES, ConvLayer, blocks16
from sd_tvm.schedules.accel.placement import IN_DRAM, Placement
from sd_tvm.schedules.accel.search import Cost, ceil_div, choose, field_max, starts, tile_sizes


@dataclass(frozen=True)
class ConvTile:
    """How a convolution is cut.

    Attributes
    ----------
    mb
        Blocks of 16 filters.
    oy, ox
        Output rows and columns.
    filters_first
        Loop order: filters outside images and strips (weights are loaded once), or inside.
    resident
        All weights stay on chip, loaded once before everything.
    """

    mb: int
    oy: int
    ox: int
    filters_first: bool
    resident: bool


def is_depthwise(layer: ConvLayer) -> bool:
    """One input channel and one filter a group: a tile of filters reads its own channels only."""
    m, cg, _, _ = layer.weight_shape
    return layer.groups > 1 and cg == 1 and m == layer.groups


def _extent(n_out: int, stride: int, kernel: int, dilation: int) -> int:
    """Input rows under n_out output rows."""
    return (n_out - 1) * stride + (kernel - 1) * dilation + 1


def weight_words(layer: ConvLayer) -> dict[Mem, int]:
    """Words of each memory that all constants of a layer take."""
    mbs, (m, cg, kh, kw) = blocks16(layer.out_channels), layer.weight_shape
    form, geometry = layer.form, layer.geometry
    words = {Mem.QP: mbs * LANES}
    if form is None:
        return words | {Mem.CODE: mbs * cg * kh * kw}
    words[Mem.CODE] = mbs * 2 * (form.slots(geometry) // 4) * form.planes(geometry.s)
    basis, idx = blocks16(geometry.s**2), 0
    if form.basis_kind == "codebook":
        words[Mem.BASIS], idx = basis * layer.n_bases, mbs
    else:
        words[Mem.BASIS] = basis * form.n_slices(geometry) * LANES * mbs
    if form.pattern == "shared":
        idx += blocks16(-(-geometry.rows // 8)) * ceil_div(m, form.group_filters)
    return words | {Mem.IDX: idx}


class _Model:
    """Costs of the tiles of one layer on one configuration."""

    def __init__(self, layer: ConvLayer, config: AcceleratorConfig, placement: Placement) -> None:
        self.layer, self.config, self.placement = layer, config, placement
        self.strips = not placement.on_chip(0)
        self.mbs, self.cbs = blocks16(layer.out_channels), blocks16(layer.in_channels)
        self.depthwise = is_depthwise(layer)
        form, geometry = layer.form, layer.geometry
        m, cg, kh, kw = layer.weight_shape
        self.taps = cg * kh * kw
        self.basis_words = self.bitmap_words = self.code_words = 0
        if form is None:
            self.code_words = self.taps
        else:
            self.code_words = 2 * (form.slots(geometry) // 4) * form.planes(geometry.s)
            basis = blocks16(geometry.s**2)
            self.basis_words = basis * form.n_slices(geometry) * LANES
            if form.basis_kind == "codebook":
                self.basis_words = 0
                self.codebook_words = basis * layer.n_bases
            if form.pattern == "shared":
                self.bitmap_words = blocks16(-(-geometry.rows // 8)) * ceil_div(m, form.group_filters)
        self.weight_bytes = 16 * self.mbs * (self.code_words + self.basis_words + LANES)

    def cost(self, tile: ConvTile, copies: int) -> Cost:
        """Cost of a tile with so many copies of each reused buffer."""
        layer, cost = self.layer, Cost()
        (oh, ow), (sh, sw), (dh, dw) = layer.out_hw, layer.stride, layer.dilation
        kh, kw = layer.kernel
        rows, cols = _extent(tile.oy, sh, kh, dh), _extent(tile.ox, sw, kw, dw)
        strips = layer.batch * ceil_div(oh, tile.oy) * ceil_div(ow, tile.ox)
        m_tiles = ceil_div(self.mbs, tile.mb)
        cost.tiles = strips * m_tiles
        plane = rows * cols
        blocks = tile.mb if self.depthwise else self.cbs
        strip_loads = cost.tiles if self.depthwise or tile.filters_first else strips
        if strips == 1 and not self.depthwise:
            strip_loads = 1
        if not self.strips:
            strip_loads = 0
        weight_loads = 1 if tile.resident or tile.filters_first or strips == 1 else strips
        self._needs(cost, tile, copies, blocks * plane, strip_loads, m_tiles)
        self._limits(cost, tile, plane, cols)

        image = self._image_words(tile)
        times = m_tiles if tile.filters_first and not self.depthwise and strips > 1 else 1
        word = 4 if layer.packed_input else 16
        inputs = word * self.cbs * image * times if self.strips else 0
        out_bytes = layer.batch * self.mbs * oh * ow * LANES * (1 if layer.out == "q8" else 4)
        loads = inputs + self.weight_bytes * weight_loads
        stored = 0 if self.placement.output else out_bytes
        cost.traffic = loads + stored
        dram, alu = self.config.dram, self.config.alu
        latency = dram.latency_cycles * (strip_loads + weight_loads * m_tiles)
        cost.busy = (
            loads // dram.bytes_per_cycle + latency,
            self._gemm_cycles(tile) * strips * m_tiles,
            out_bytes // alu.lanes if layer.out == "q8" else 0,
            stored // dram.bytes_per_cycle + (dram.write_latency_cycles * cost.tiles if stored else 0),
        )
        return cost

    def _image_words(self, tile: ConvTile) -> int:
        """Words of one channel block that all strips of all images load, overlaps included."""
        layer = self.layer
        sums = []
        for axis, size in ((0, tile.oy), (1, tile.ox)):
            start_pad, extent = layer.padding[axis], layer.in_hw[axis]
            total = 0
            for start, n in starts(layer.out_hw[axis], size):
                first = start * layer.stride[axis] - start_pad
                last = first + _extent(n, layer.stride[axis], layer.kernel[axis], layer.dilation[axis])
                total += max(0, min(last, extent) - max(first, 0))
            sums.append(total)
        return layer.batch * sums[0] * sums[1]

    def _needs(
        self, cost: Cost, tile: ConvTile, copies: int, inp: int, strip_loads: int, m_tiles: int
    ) -> None:
        several = copies if cost.tiles > 1 else 1
        if self.strips:
            cost.need(Mem.INP, inp, copies if strip_loads > 1 else 1)
        filters, n = (self.mbs, 1) if tile.resident else (tile.mb, copies if m_tiles > 1 else 1)
        cost.need(Mem.CODE, filters * self.code_words, n)
        cost.need(Mem.QP, filters * LANES, n)
        form = self.layer.form
        if form is not None:
            if form.basis_kind == "codebook":
                cost.need(Mem.BASIS, self.codebook_words, 1)
                cost.need(Mem.IDX, self.mbs, 1)
            else:
                cost.need(Mem.BASIS, filters * self.basis_words, n)
            cost.need(Mem.IDX, self.bitmap_words, 1)
        pixels = tile.mb * tile.oy * tile.ox
        cost.need(Mem.ACC, pixels, several)
        if self.layer.out == "q8" and not self.placement.output:
            cost.need(Mem.OUT, pixels, several)

    def _limits(self, cost: Cost, tile: ConvTile, plane: int, cols: int) -> None:
        (sh, sw), (dh, dw), (kh, kw) = self.layer.stride, self.layer.dilation, self.layer.kernel
        _, cg, _, _ = self.layer.weight_shape
        for what, value, instruction, name in (
            ("an output tile's rows", tile.oy, "GEMM", "n_oy"),
            ("an output tile's columns", tile.ox, "GEMM", "n_ox"),
            ("a tile's filters", tile.mb * LANES, "GEMM", "n_m"),
            ("the row stride", sh * cols, "GEMM", "inp_oy"),
            ("the column stride", sw, "GEMM", "inp_ox"),
            ("the kernel row stride", dh * cols, "GEMM", "inp_ky"),
            ("the dilation", dw, "SETW", "inp_kx"),
            ("the kernel height", kh, "SETW", "n_ky"),
            ("the kernel width", kw, "SETW", "n_kx"),
            ("the channels of a group", cg, "SETW", "cg"),
            ("a tile's plane", tile.oy * tile.ox, "GEMM", "acc_mb"),
            ("a tile's plane", tile.oy * tile.ox, "ALU", "a_s2"),
            ("a strip's plane", plane, "GEMM", "inp_cb"),
            ("a strip's row", cols, "LOAD", "sram_ys"),
            ("the padding", max(self.layer.padding), "LOAD", "pad_t"),
        ):
            cost.limit(what, value, field_max(instruction, name))

    def _gemm_cycles(self, tile: ConvTile) -> int:
        array, layer = self.config.array, self.layer
        kh, kw = layer.kernel
        _, cg, _, _ = layer.weight_shape
        filters = ceil_div(tile.mb * LANES, array.m_slices)
        pixels = tile.oy * ceil_div(tile.ox, array.f_lanes)
        step = ceil_div(array.f_lanes, array.lanes_per_line)
        if self.depthwise:
            at_once = max(1, min(tile.oy, array.c_lines // kh))
            pixels = ceil_div(tile.oy, at_once) * ceil_div(tile.ox, array.f_lanes)
            return filters * pixels * max(kw * step, at_once * array.f_lanes)
        if layer.form is None:
            passes = kh * kw * ceil_div(cg, array.c_lines)
        else:
            rows = layer.form.slots(layer.geometry)
            passes = ceil_div(rows, array.c_lines) * layer.geometry.s
        return filters * pixels * max(passes * step, array.f_lanes)

    def candidates(self, copies: int) -> Iterator[tuple[ConvTile, Cost]]:
        """All tiles worth looking at, in a fixed order: whole rows if any fits, else narrower ones."""
        oh, ow = self.layer.out_hw
        for ox in tile_sizes(ow):
            found = False
            for oy in tile_sizes(oh):
                for mb in tile_sizes(self.mbs):
                    orders = ((False, True), (False, False), (True, False))
                    for first, resident in orders[:1] if self.placement.keep_weights else orders:
                        tile = ConvTile(mb, oy, ox, first, resident)
                        cost = self.cost(tile, copies)
                        found = found or not cost.problem(self.config, self.placement.inp_words)
                        yield tile, cost
            if found:
                return


def choose_conv_tile(
    layer: ConvLayer, config: AcceleratorConfig, placement: Placement = IN_DRAM
) -> ConvTile:
    """Best tile of a convolution.

    Raises
    ------
    ScheduleError
        If the layer does not fit, or its weights are in SD form and the configuration cannot rebuild.
    """
    if layer.form is not None and not config.rebuilds:
        raise ScheduleError(
            f"{layer.name}: its weights are in SD form and {config.name!r} has no rebuild engine",
            expected="raw int8 weights, or a configuration with lines_per_re > 0",
            fix="quantise the layer to int8, or choose another configuration",
        )
    model = _Model(layer, config, placement)
    smallest = model.cost(ConvTile(1, 1, 1, True, False), 1)
    return choose(layer.name, config, model.candidates, smallest, placement.inp_words)[0]
