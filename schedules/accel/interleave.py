"""Schedule of an interleave: one strided copy a phase, loads and stores of whole rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from sd_tvm._tvm import s_tir, tvm
from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.isa.spec import Mem
from sd_tvm.layers import LANES, InterleaveLayer, blocks16
from sd_tvm.schedules.accel import marks
from sd_tvm.schedules.accel.array import alu_cycles
from sd_tvm.schedules.accel.elementwise_tiles import Tile
from sd_tvm.schedules.accel.marks import Schedule
from sd_tvm.schedules.accel.pipeline import Stages, annotate
from sd_tvm.schedules.accel.placement import IN_DRAM, Placement
from sd_tvm.schedules.accel.search import Cost, ceil_div, choose, field_max, tile_sizes

_AXES = ("n", "cb", "oy", "ox", "lane")


def _cost(
    layer: InterleaveLayer, config: AcceleratorConfig, tile: Tile, copies: int, placement: Placement
) -> Cost:
    cost, (oh, ow) = Cost(), layer.out_hw
    blocks = blocks16(layer.channels)
    # a crop inside a block of phases needs one more row or column of each phase
    rows, cols = (
        n // f + (crop > 0) for n, f, crop in zip((tile.oy, tile.ox), layer.factor, layer.crop, strict=True)
    )
    tiles = layer.batch * ceil_div(blocks, tile.cb) * ceil_div(oh, tile.oy) * ceil_div(ow, tile.ox)
    copies = copies if tiles > 1 else 1
    loaded = 0 if placement.on_chip(0) else layer.phases * tile.cb * rows * cols
    cost.tiles = tiles
    cost.need(Mem.INP, loaded, copies)
    if not placement.output:
        cost.need(Mem.OUT, tile.words, copies)
    for what, value, instruction, name in (
        ("a tile's blocks", tile.cb, "ALU", "n2"),
        ("a tile's rows", tile.oy, "ALU", "n1"),
        ("a tile's columns", tile.ox, "ALU", "n0"),
        ("the column stride", layer.factor[1], "ALU", "dst_s0"),
        ("the row stride", tile.ox * layer.factor[0], "ALU", "dst_s1"),
        ("a tile's plane", tile.oy * tile.ox, "ALU", "dst_s2"),
        ("a tile's row", cols, "LOAD", "sram_ys"),
    ):
        cost.limit(what, value, field_max(instruction, name))
    loads, stores = LANES * loaded * tiles, 0 if placement.output else LANES * tile.words * tiles
    cost.traffic = loads + stores
    moved = cost.transfers(config, loads, stores, tiles)
    cost.busy = (moved[0], alu_cycles(config, tile.words) * tiles, moved[1])
    return cost


def _tile(layer: InterleaveLayer, config: AcceleratorConfig, placement: Placement) -> Tile:
    (oh, ow), (fy, fx) = layer.out_hw, layer.factor

    def candidates(copies: int) -> Iterator[tuple[Tile, Cost]]:
        for ox in tile_sizes(ceil_div(ow, fx)):
            found = False
            for oy in tile_sizes(ceil_div(oh, fy)):
                for cb in tile_sizes(blocks16(layer.channels)):
                    tile = Tile(cb, oy * fy, ox * fx)
                    value = _cost(layer, config, tile, copies, placement)
                    found = found or not value.problem(config, placement.inp_words)
                    yield tile, value
            if found:
                return

    smallest = _cost(layer, config, Tile(1, fy, fx), 1, placement)
    tile, cost = choose(layer.name, config, candidates, smallest, placement.inp_words)
    return replace(tile, copies=cost.copies)


def schedule_interleave(
    func: Any, layer: InterleaveLayer, config: AcceleratorConfig, placement: Placement = IN_DRAM
) -> Schedule:
    """Tile an interleave onto the buffers of a configuration.

    Raises
    ------
    ScheduleError
        If no tile fits.
    """
    tile = _tile(layer, config, placement)
    sch = s_tir.Schedule(tvm.IRModule({"main": func}))
    block = sch.get_sblock
    if placement.on_chip(0):
        sch.compute_inline(block("xin"))
    result = None if placement.output else sch.cache_write(block("out"), 0, marks.OUT)
    n, cb, oy, ox, lane = sch.get_loops(block("out") if result is None else result)
    n, n_i = sch.split(n, [None, 1], preserve_unit_iters=True)
    cb_o, cb_i = sch.split(cb, [None, tile.cb])
    oy_o, oy_i = sch.split(oy, [None, tile.oy])
    ox_o, ox_i = sch.split(ox, [None, tile.ox])
    sch.reorder(n, cb_o, oy_o, ox_o, n_i, cb_i, oy_i, ox_i, lane)
    tiles, at = [n, cb_o, oy_o, ox_o], ox_o
    if result is not None:
        sch.compute_at(block("out"), at, preserve_unit_loops=True)
        marks.mark(sch, result, at, marks.STORE)
    n, cb, oy, ox, lane = sch.get_loops(block("out"))[-5:]
    oy, y = sch.split(oy, [None, layer.factor[0]], preserve_unit_iters=True)
    ox, x = sch.split(ox, [None, layer.factor[1]], preserve_unit_iters=True)
    sch.reorder(y, x, n, cb, oy, ox, lane)
    marks.mark(sch, block("out"), x, marks.ALU, _AXES)
    if not placement.on_chip(0):
        sch.set_scope(block("xin"), 0, marks.INP)
        sch.compute_at(block("xin"), at)
        marks.mark(sch, block("xin"), at, marks.LOAD)
    annotate(sch, tiles, Stages.simple(tile.copies))
    return sch
