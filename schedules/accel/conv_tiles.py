"""Tiles of a convolution: filters, output rows and columns, loop order, resident weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.isa.spec import Mem
from sd_tvm.errors import ScheduleError
from sd_tvm.layers import LANES, ConvLayer, blocks16
from sd_tvm.schedules.accel.array import ArrayModel, alu_cycles, prices
from sd_tvm.schedules.accel.placement import IN_DRAM, Placement
from sd_tvm.schedules.accel.search import Cost, ceil_div, field_max, rank, starts, tile_sizes


@dataclass(frozen=True)
class Overlap:
    """Which buffers have room for the next tile while this one is in work.

    Attributes
    ----------
    weights, strip, acc, out
        Weights and quantisation words; strips of the input; sums; results that wait for their store.
    """

    weights: bool = True
    strip: bool = True
    acc: bool = True
    out: bool = True


#: The most overlap first.
_OVERLAPS = sorted(
    (Overlap(*bits) for bits in product((True, False), repeat=4)),
    key=lambda o: -sum((o.weights, o.strip, o.acc, o.out)),
)
NO_OVERLAP = _OVERLAPS[-1]


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
    overlap
        Second copies of buffers.
    """

    mb: int
    oy: int
    ox: int
    filters_first: bool
    resident: bool
    overlap: Overlap = Overlap()

    @property
    def stages(self) -> tuple[int, int, int, int, int]:
        """Pipeline stages of: loads of weights, loads of strips, the array, the ALU, stores."""
        o = self.overlap
        work = int(o.weights or o.strip)
        alu = work + o.acc
        return work - o.weights, work - o.strip, work, alu, alu + o.out


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
        self.array, self.prices = ArrayModel(layer, config), prices(config)
        self.strips = not placement.on_chip(0)
        self.mbs, self.cbs = blocks16(layer.out_channels), blocks16(layer.in_channels)
        self.depthwise = is_depthwise(layer)
        form, geometry = layer.form, layer.geometry
        m, cg, kh, kw = layer.weight_shape
        self.basis_words = self.bitmap_words = self.codebook_words = 0
        self.weight_loads = 2
        if form is None:
            self.code_words = cg * kh * kw
        else:
            self.code_words = 2 * (form.slots(geometry) // 4) * form.planes(geometry.s)
            basis = blocks16(geometry.s**2)
            if form.basis_kind == "codebook":
                self.codebook_words = basis * layer.n_bases
            else:
                self.basis_words = basis * form.n_slices(geometry) * LANES
                self.weight_loads = 3
            if form.pattern == "shared":
                self.bitmap_words = blocks16(-(-geometry.rows // 8)) * ceil_div(m, form.group_filters)
        self.block_words = self.code_words + self.basis_words + LANES
        self.out_hw = layer.out_hw
        self.overlaps = [
            o
            for o in _OVERLAPS
            if (o.strip or self.strips) and (o.out or (layer.out == "q8" and not placement.output))
        ]
        self.out_bytes = LANES * (1 if layer.out == "q8" else 4)

    def costs(self, tile: ConvTile) -> Iterator[tuple[ConvTile, Cost]]:
        """A tile with each of the largest overlaps that fit; nothing if it does not fit without."""
        least = Cost()
        self._limits(least, tile)
        if self._problem(replace(tile, overlap=NO_OVERLAP), least):
            return
        base: dict[bool, Cost] = {}
        fits: list[Overlap] = []
        for overlap in self.overlaps:
            if any(_covers(better, overlap) for better in fits):
                continue
            candidate = replace(tile, overlap=overlap)
            cost = Cost()
            if self._problem(candidate, cost):
                continue
            fits.append(overlap)
            # Two tiles of filters with a place each are loaded once.
            once = overlap.weights and self._tiling(tile)[1] == 2
            if once not in base:
                base[once] = self._cost(tile, once=once)
            yield candidate, replace(base[once], words=cost.words, overlaps=self._overlaps(candidate))

    def _problem(self, tile: ConvTile, cost: Cost) -> str:
        self._needs(cost, tile)
        return cost.problem(self.config, self.placement.inp_words)

    def exact(self, tile: ConvTile) -> Cost:
        """Cost of a tile with the overlap that it has."""
        once = tile.overlap.weights and self._tiling(tile)[1] == 2
        cost = replace(self._cost(tile, once=once), overlaps=self._overlaps(tile))
        self._limits(cost, tile)
        self._needs(cost, tile)
        return cost

    def _overlaps(self, tile: ConvTile) -> tuple[bool, ...]:
        o = tile.overlap
        ahead = (o.weights or tile.resident) and (o.strip or not self.strips)
        queues = (ahead, o.acc, o.out) if self.layer.out == "q8" else (ahead, o.acc)
        return queues[:-1] if self.placement.output else queues

    def _tiling(self, tile: ConvTile) -> tuple[int, int]:
        """(strips of all images, tiles of filters)."""
        oh, ow = self.out_hw
        strips = self.layer.batch * ceil_div(oh, tile.oy) * ceil_div(ow, tile.ox)
        return strips, ceil_div(self.mbs, tile.mb)

    def _cost(self, tile: ConvTile, *, once: bool) -> Cost:
        """Cost of a tile but for the words that it needs; ``once``: weights are never loaded again."""
        layer, config, cost = self.layer, self.config, Cost()
        oh, ow = self.out_hw
        strips, m_tiles = self._tiling(tile)
        tiles = cost.tiles = strips * m_tiles

        strip_loads = self._strip_loads(tile) if self.strips else 0
        weight_loads = m_tiles
        if not (tile.resident or tile.filters_first or strips == 1 or once):
            weight_loads = tiles
        times = m_tiles if tile.filters_first and not self.depthwise and strips > 1 else 1
        word = 4 if layer.packed_input else 16
        inputs = word * self.cbs * self._image_words(tile) * times if self.strips else 0
        weights = 16 * self.block_words * self.mbs * (weight_loads // m_tiles)
        weights += 16 * (self.codebook_words + self.bitmap_words)
        stored = 0 if self.placement.output else layer.batch * self.mbs * oh * ow * self.out_bytes
        cost.traffic = inputs + weights + stored

        if tile.resident:
            weight_loads = 1
        strip_cycles, store = cost.transfers(config, inputs, stored, max(strip_loads, 1))
        if stored:
            store = cost.transfers(config, 0, stored, tiles)[1]
        weight_cycles, _ = cost.transfers(config, weights, 0, weight_loads * self.weight_loads)
        array, alu = self._work(cost, tile)
        cost.busy = (strip_cycles + weight_cycles, array, alu, store)
        if layer.out != "q8":
            cost.busy = (strip_cycles + weight_cycles, array, store)
        if self.placement.output:
            cost.busy = cost.busy[:-1]
        load = (strip_cycles + weight_cycles) // tiles
        ends = () if self.placement.output else (store // tiles,)
        cost.pattern = [
            (load, *(times if layer.out == "q8" else times[:1]), *ends) for times in cost.pattern[:_PATTERN]
        ]
        # Weights of a layer whose input is on chip come while the layer before it is in work.
        first = weight_cycles // weight_loads
        latency = config.dram.latency_cycles
        lead = latency + first + strip_cycles // max(strip_loads, 1)
        cost.lead = max(0, lead - _AHEAD_CYCLES) if not self.strips else lead
        loads = weight_loads * self.weight_loads + strip_loads
        stores = 0 if self.placement.output else tiles
        cost.instructions = loads + tiles * (2 if layer.out == "q8" else 1) + stores
        return cost

    def _strip_loads(self, tile: ConvTile) -> int:
        """How often a strip is loaded."""
        strips, m_tiles = self._tiling(tile)
        if self.depthwise:
            return strips * m_tiles
        return strips * m_tiles if tile.filters_first and strips > 1 else strips

    def _work(self, cost: Cost, tile: ConvTile) -> tuple[int, int]:
        """Cycles of the array and of the ALU; adds their energy."""
        (oh, ow), (m, _, _, _) = self.out_hw, self.layer.weight_shape
        array = alu = 0
        word_price = 16 * LANES * self.prices["qp_byte"]
        for n_oy, times_y in _pieces(oh, tile.oy):
            for n_ox, times_x in _pieces(ow, tile.ox):
                times = self.layer.batch * times_y * times_x
                for first, n in starts(self.mbs, tile.mb):
                    n_m = min(n * LANES, m - first * LANES)
                    gemm = self.array.gemm(n_oy, n_ox, first * LANES, n_m)
                    array += times * gemm.cycles
                    cost.energy_fj += times * gemm.energy_fj
                    requantise = 0
                    if self.layer.out == "q8":
                        requantise = alu_cycles(self.config, n * n_oy * n_ox)
                        cost.energy_fj += times * n * word_price
                    alu += times * requantise
                    if (n_oy, n_ox) == (tile.oy, tile.ox):
                        cost.pattern.append((gemm.cycles, requantise))
        return array, alu

    def _image_words(self, tile: ConvTile) -> int:
        """Words of one channel block that all strips of all images load, overlaps included."""
        layer = self.layer
        sums = []
        for axis, size in ((0, tile.oy), (1, tile.ox)):
            start_pad, extent = layer.padding[axis], layer.in_hw[axis]
            total = 0
            for start, n in starts(self.out_hw[axis], size):
                first = start * layer.stride[axis] - start_pad
                last = first + _extent(n, layer.stride[axis], layer.kernel[axis], layer.dilation[axis])
                total += max(0, min(last, extent) - max(first, 0))
            sums.append(total)
        return layer.batch * sums[0] * sums[1]

    def _needs(self, cost: Cost, tile: ConvTile) -> None:
        layer, overlap, form = self.layer, tile.overlap, self.layer.form
        (sh, sw), (dh, dw), (kh, kw) = layer.stride, layer.dilation, layer.kernel
        strips, m_tiles = self._tiling(tile)
        several = strips * m_tiles > 1
        if self.strips:
            plane = _extent(tile.oy, sh, kh, dh) * _extent(tile.ox, sw, kw, dw)
            blocks = tile.mb if self.depthwise else self.cbs
            reloaded = self._strip_loads(tile) > 1
            cost.need(Mem.INP, blocks * plane, 2 if overlap.strip and reloaded else 1)
        filters, n = self.mbs, 1
        if not tile.resident:
            filters, n = tile.mb, 2 if overlap.weights and m_tiles > 1 else 1
        cost.need(Mem.CODE, filters * self.code_words, n)
        # The ALU reads quantisation words, too: one stage later, if it is in the same loop.
        inner = layer.out == "q8" and not tile.resident and m_tiles > 1
        inner = inner and not (tile.filters_first and strips > 1)
        cost.need(Mem.QP, filters * LANES, n + int(inner and overlap.acc))
        if form is not None:
            if form.basis_kind == "codebook":
                cost.need(Mem.BASIS, self.codebook_words, 1)
                cost.need(Mem.IDX, self.mbs, 1)
            else:
                cost.need(Mem.BASIS, filters * self.basis_words, n)
            cost.need(Mem.IDX, self.bitmap_words, 1)
        pixels = tile.mb * tile.oy * tile.ox
        cost.need(Mem.ACC, pixels, 2 if several and overlap.acc else 1)
        if layer.out == "q8" and not self.placement.output:
            cost.need(Mem.OUT, pixels, 2 if several and overlap.out else 1)

    def _limits(self, cost: Cost, tile: ConvTile) -> None:
        (sh, sw), (dh, dw), (kh, kw) = self.layer.stride, self.layer.dilation, self.layer.kernel
        cols = _extent(tile.ox, sw, kw, dw)
        plane = _extent(tile.oy, sh, kh, dh) * cols
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

    def candidates(self) -> Iterator[tuple[ConvTile, Cost]]:
        """All tiles worth looking at, in a fixed order: whole rows, then narrower ones."""
        oh, ow = self.out_hw
        slices = self.config.array.m_slices
        sizes = tile_sizes(self.mbs)
        whole = max(1, slices // LANES)
        sizes = sorted({*sizes, *range(whole, self.mbs, whole)}, reverse=True)
        enough, least = min(self.mbs, whole), 1 << 62
        for ox in tile_sizes(ow):
            found = False
            for oy in tile_sizes(oh):
                strips = self.layer.batch * ceil_div(oh, oy) * ceil_div(ow, ox)
                for mb in sizes:
                    tiles = strips * ceil_div(self.mbs, mb)
                    if tiles > max(_MANY, _MANY * least):
                        break
                    for filters_first, resident in self._orders(strips, mb):
                        tile = ConvTile(mb, oy, ox, filters_first, resident)
                        for candidate, cost in self.costs(tile):
                            found, least = found or mb >= enough, min(least, tiles)
                            yield candidate, cost
            if found:
                return

    def _orders(self, strips: int, mb: int) -> list[tuple[bool, bool]]:
        """(filters first, resident) worth trying."""
        if self.placement.keep_weights or mb == self.mbs:
            return [(False, True)]
        if strips == 1:
            return [(False, False), (False, True)]
        return [(False, True), (False, False), (True, False)]


#: Tiles that estimates look at one by one.
_PATTERN = 24
#: Candidates with so many times as many tiles as the coarsest one are left out.
_MANY = 24
#: Cycles for which weights are expected to be under way before their layer begins.
_AHEAD_CYCLES = 2000


def _covers(better: Overlap, overlap: Overlap) -> bool:
    return (
        (better.weights or not overlap.weights)
        and (better.strip or not overlap.strip)
        and (better.acc or not overlap.acc)
        and (better.out or not overlap.out)
    )


def _pieces(extent: int, tile: int) -> list[tuple[int, int]]:
    """(size, how many) of the tiles of an extent."""
    full, rest = divmod(extent, tile)
    return [(n, times) for n, times in ((tile, full), (rest, 1)) if n and times]


def rank_conv_tiles(
    layer: ConvLayer, config: AcceleratorConfig, placement: Placement = IN_DRAM
) -> list[tuple[ConvTile, Cost]]:
    """Tiles of a convolution, best first.

    Raises
    ------
    ScheduleError
        If the layer does not fit, or its weights are in SD form and the configuration cannot rebuild
        them or has multipliers too narrow for them.
    """
    if layer.form is not None and not config.rebuilds:
        raise ScheduleError(
            f"{layer.name}: its weights are in SD form and {config.name!r} has no rebuild engine",
            expected="raw int8 weights, or a configuration with lines_per_re > 0",
            fix="quantise the layer to int8, or choose another configuration",
        )
    width = config.array.rebuilt_bits
    if layer.form is not None and width is not None and layer.weight_bits > width:
        raise ScheduleError(
            f"{layer.name}: its rebuilt weights need more than the {width} bits of {config.name!r}",
            expected=f"rebuilt weights within +-{2 ** (width - 1) - 1}",
            fix=f"compress with solver weight_bits {width}, or choose another configuration",
        )
    model = _Model(layer, config, placement)
    smallest = model.exact(ConvTile(1, 1, 1, True, False, NO_OVERLAP))
    return rank(layer.name, config, model.candidates(), smallest, placement.inp_words)


def choose_conv_tile(
    layer: ConvLayer, config: AcceleratorConfig, placement: Placement = IN_DRAM
) -> ConvTile:
    """Best tile of a convolution.

    Raises
    ------
    ScheduleError
        As :func:`rank_conv_tiles`.
    """
    return rank_conv_tiles(layer, config, placement)[0][0]


def check_conv_tile(
    tile: ConvTile, layer: ConvLayer, config: AcceleratorConfig, placement: Placement
) -> str:
    """Why a tile is impossible, or an empty string."""
    model = _Model(layer, config, placement)
    oh, ow = layer.out_hw
    if tile.mb > model.mbs or tile.oy > oh or tile.ox > ow:
        return "larger than the result"
    if placement.keep_weights and not tile.resident:
        return "its weights have to stay"
    return model.exact(tile).problem(config, placement.inp_words)
