"""Tiles of layers without weights: blocks of channels and output rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.isa.spec import Mem
from sd_tvm.layers import AddLayer, PoolLayer, RequantLayer, blocks16
from sd_tvm.schedules.accel.array import alu_cycles
from sd_tvm.schedules.accel.placement import IN_DRAM, Placement
from sd_tvm.schedules.accel.search import Cost, both, ceil_div, field_max, rank, tile_sizes

VectorLayer = AddLayer | PoolLayer | RequantLayer


@dataclass(frozen=True)
class VectorTile:
    """Blocks of 16 channels, output rows, output columns of a tile; copies of its buffers."""

    cb: int
    oy: int
    ox: int
    copies: int = 2


@dataclass(frozen=True)
class _Window:
    """Window geometry; element-wise layers have a 1x1 window."""

    out_hw: tuple[int, int]
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)


def _window(layer: VectorLayer) -> _Window:
    if isinstance(layer, PoolLayer):
        return _Window(layer.out_hw, layer.kernel, layer.stride, layer.padding)
    return _Window(layer.hw)


def _cost(
    layer: VectorLayer, config: AcceleratorConfig, tile: VectorTile, copies: int, placement: Placement
) -> Cost:
    win, cost = _window(layer), Cost()
    (oh, ow), (kh, kw), (sh, sw) = win.out_hw, win.kernel, win.stride
    cbs = blocks16(layer.channels)
    rows, cols = (tile.oy - 1) * sh + kh, (tile.ox - 1) * sw + kw
    tiles = layer.batch * ceil_div(cbs, tile.cb) * ceil_div(oh, tile.oy) * ceil_div(ow, tile.ox)
    copies = copies if tiles > 1 else 1
    inp, out = tile.cb * rows * cols, tile.cb * tile.oy * tile.ox
    cost.tiles = tiles
    if not placement.output:
        cost.need(Mem.OUT, out, copies)
    n_inputs = 2 if isinstance(layer, AddLayer) else 1
    loaded = sum(not placement.on_chip(i) for i in range(n_inputs))
    if isinstance(layer, PoolLayer) and layer.mode == "max":
        cost.need(Mem.INP, inp if loaded else 0, copies)
    else:
        cost.need(Mem.ACC, inp * n_inputs, copies)
        cost.need(Mem.QP, 3, 1)
    if isinstance(layer, PoolLayer) and layer.mode == "avg":
        cost.need(Mem.ACC, out, copies)
    for what, value, instruction, name in (
        ("a tile's blocks", tile.cb, "ALU", "n2"),
        ("a tile's rows", max(tile.oy, kh), "ALU", "n1"),
        ("a tile's columns", max(tile.ox, kw), "ALU", "n0"),
        ("the column stride", sw, "ALU", "a_s0"),
        ("the row stride", sh * cols, "ALU", "a_s1"),
        ("a strip's plane", rows * cols, "ALU", "a_s2"),
        ("a strip's row", cols, "LOAD", "sram_ys"),
        ("the padding", max(win.padding), "LOAD", "pad_t"),
    ):
        cost.limit(what, value, field_max(instruction, name))
    loads, stores = 16 * inp * tiles * loaded, 0 if placement.output else 16 * out * tiles
    cost.traffic = loads + stores
    ops = kh * kw + 1 if isinstance(layer, PoolLayer) else 2 * n_inputs
    moved = cost.transfers(config, loads, stores, tiles)
    cost.busy = (moved[0], alu_cycles(config, out) * ops * tiles, moved[1])
    cost.instructions = tiles * (loaded + ops + (0 if placement.output else 1))
    return cost


def rank_vector_tiles(
    layer: VectorLayer, config: AcceleratorConfig, placement: Placement = IN_DRAM
) -> list[tuple[VectorTile, Cost]]:
    """Tiles of an addition, a pool or a requantisation, best first.

    Raises
    ------
    ScheduleError
        If the layer does not fit.
    """
    oh, ow = _window(layer).out_hw

    def candidates(copies: int) -> Iterator[tuple[VectorTile, Cost]]:
        for ox in tile_sizes(ow):
            found = False
            for oy in tile_sizes(oh):
                for cb in tile_sizes(blocks16(layer.channels)):
                    tile = VectorTile(cb, oy, ox)
                    cost = _cost(layer, config, tile, copies, placement)
                    found = found or not cost.problem(config, placement.inp_words)
                    yield tile, cost
            if found:
                return

    smallest = _cost(layer, config, VectorTile(1, 1, 1), 1, placement)
    found = rank(layer.name, config, both(candidates), smallest, placement.inp_words)
    return [(replace(tile, copies=cost.copies), cost) for tile, cost in found]


def check_vector_tile(
    tile: VectorTile, layer: VectorLayer, config: AcceleratorConfig, placement: Placement
) -> str:
    """Why a tile is impossible, or an empty string."""
    oh, ow = _window(layer).out_hw
    if tile.cb > blocks16(layer.channels) or tile.oy > oh or tile.ox > ow or tile.copies > 2:
        return "larger than the result"
    return _cost(layer, config, tile, tile.copies, placement).problem(config, placement.inp_words)
