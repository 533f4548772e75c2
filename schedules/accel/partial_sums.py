"""Schedule of partial sums: loaded into ACC as they are, added, requantised."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sd_tvm._tvm import s_tir, tvm
from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.isa.spec import Mem
from sd_tvm.layers import LANES, SumLayer, blocks16
from sd_tvm.schedules.accel import marks
from sd_tvm.schedules.accel.array import alu_cycles
from sd_tvm.schedules.accel.elementwise_tiles import Tile, tiled
from sd_tvm.schedules.accel.marks import Schedule
from sd_tvm.schedules.accel.pipeline import Stages, annotate
from sd_tvm.schedules.accel.search import Cost, ceil_div, choose, field_max, tile_sizes

_AXES = ("n", "cb", "oy", "ox", "lane")


def _cost(layer: SumLayer, config: AcceleratorConfig, tile: Tile, copies: int) -> Cost:
    cost, (oh, ow), blocks = Cost(), layer.hw, blocks16(layer.channels)
    tiles = layer.batch * ceil_div(blocks, tile.cb) * ceil_div(oh, tile.oy) * ceil_div(ow, tile.ox)
    copies = copies if tiles > 1 else 1
    cost.tiles = tiles
    cost.need(Mem.ACC, (layer.parts + 1) * tile.words, copies)
    cost.need(Mem.QP, blocks * LANES, 1)
    cost.need(Mem.OUT, tile.words, copies)
    for what, value, instruction, name in (
        ("a tile's blocks", tile.cb, "ALU", "n2"),
        ("a tile's rows", tile.oy, "ALU", "n1"),
        ("a tile's columns", tile.ox, "ALU", "n0"),
        ("a tile's plane", tile.oy * tile.ox, "ALU", "a_s2"),
        ("a tile's row", tile.ox, "LOAD", "sram_ys"),
    ):
        cost.limit(what, value, field_max(instruction, name))
    loads, stores = 64 * layer.parts * tile.words * tiles, LANES * tile.words * tiles
    cost.traffic = loads + stores
    moved = cost.transfers(config, loads, stores, tiles)
    cost.busy = (moved[0], alu_cycles(config, tile.words) * (layer.parts + 1) * tiles, moved[1])
    return cost


def schedule_sum(func: Any, layer: SumLayer, config: AcceleratorConfig) -> Schedule:
    """Tile an addition of partial sums onto the buffers of a configuration.

    Raises
    ------
    ScheduleError
        If no tile fits.
    """
    oh, ow = layer.hw

    def candidates(copies: int) -> Iterator[tuple[Tile, Cost]]:
        for ox in tile_sizes(ow):
            found = False
            for oy in tile_sizes(oh):
                for cb in tile_sizes(blocks16(layer.channels)):
                    value = _cost(layer, config, Tile(cb, oy, ox), copies)
                    found = found or not value.problem(config)
                    yield Tile(cb, oy, ox), value
            if found:
                return

    tile, cost = choose(layer.name, config, candidates, _cost(layer, config, Tile(1, 1, 1), 1))
    sch = s_tir.Schedule(tvm.IRModule({"main": func}))
    block = sch.get_sblock
    result = sch.cache_write(block("out"), 0, marks.OUT)
    words = sch.cache_read(block("out"), "qp", marks.QP)
    marks.mark(sch, words, None, marks.LOAD)

    def word(*axes: Any) -> Any:
        row = axes[1] * LANES + axes[4]
        return ((row, row + 1), (0, 4))

    marks.read_region(sch, block("out"), "qp", word)
    for name in ("parts", "total"):
        sch.set_scope(block(name), 0, marks.ACC)
    tiles = tiled(sch, result, tile)
    per_tile = tiles[-1]
    for name in ("out", "total"):
        sch.compute_at(block(name), per_tile, preserve_unit_loops=True)
    sch.compute_at(block("parts"), per_tile)
    marks.mark(sch, block("parts"), per_tile, marks.LOAD)
    marks.mark(sch, block("total"), per_tile, marks.ALU, (*_AXES, "ky", "kx"))
    marks.mark(sch, block("out"), per_tile, marks.ALU, _AXES)
    marks.mark(sch, result, per_tile, marks.STORE)
    annotate(sch, tiles, Stages.simple(cost.copies))
    return sch
