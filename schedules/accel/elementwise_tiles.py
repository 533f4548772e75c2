"""Tiles of tables, products, enlargements and concatenations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.isa.spec import Mem
from sd_tvm.layers import LANES, ConcatLayer, LutLayer, MulLayer, ResizeLayer, blocks16
from sd_tvm.schedules.accel.array import alu_cycles
from sd_tvm.schedules.accel.marks import Block, Loop, Schedule
from sd_tvm.schedules.accel.placement import IN_DRAM, Placement
from sd_tvm.schedules.accel.search import Cost, ceil_div, choose, field_max, tile_sizes


@dataclass(frozen=True)
class Tile:
    """Blocks of 16 channels, rows and columns of the result; copies of the buffers."""

    cb: int
    oy: int
    ox: int
    copies: int = 2

    @property
    def words(self) -> int:
        """Words of the result."""
        return self.cb * self.oy * self.ox


def tiled(sch: Schedule, result: Block, tile: Tile) -> list[Loop]:
    """Split the loops of the block that writes the result; the loops over tiles."""
    n, cb, oy, ox, lane = sch.get_loops(result)
    n, n_i = sch.split(n, [None, 1], preserve_unit_iters=True)
    cb_o, cb_i = sch.split(cb, [None, tile.cb])
    oy_o, oy_i = sch.split(oy, [None, tile.oy])
    ox_o, ox_i = sch.split(ox, [None, tile.ox])
    sch.reorder(n, cb_o, oy_o, ox_o, n_i, cb_i, oy_i, ox_i, lane)
    return [n, cb_o, oy_o, ox_o]


@dataclass(frozen=True)
class _Work:
    """What a layer does to a tile.

    Attributes
    ----------
    channels, hw, step
        Size of the result; tiles are multiples of ``step`` rows and columns.
    share
        For each operand: words of a tile's result that one of its words serves (None: the whole tile, as
        many words as the tile has blocks).
    wide
        Operands are widened into ACC; else they stay bytes in INP.
    operations
        ALU passes over the tile.
    """

    channels: int
    hw: tuple[int, int]
    share: tuple[int | None, ...] = (1,)
    step: tuple[int, int] = (1, 1)
    wide: bool = True
    operations: int = 1

    def words(self, operand: int, tile: Tile) -> int:
        """Words of an operand that a tile needs."""
        share = self.share[operand]
        return tile.cb if share is None else tile.words // share


def _work(layer: LutLayer | MulLayer | ResizeLayer | ConcatLayer, part: int) -> _Work:
    if isinstance(layer, LutLayer):
        return _Work(layer.channels, layer.hw, wide=False)
    if isinstance(layer, MulLayer):
        return _Work(layer.channels, layer.hw, (1, None if layer.b_per_channel else 1), operations=2)
    if isinstance(layer, ResizeLayer):
        factor = layer.factor
        return _Work(layer.channels, layer.out_hw, (factor[0] * factor[1],), factor, wide=False)
    return _Work(layer.parts[part], layer.hw)


def _cost(
    batch: int,
    work: _Work,
    config: AcceleratorConfig,
    tile: Tile,
    copies: int,
    placement: Placement,
    first: int,
) -> Cost:
    cost, out = Cost(), tile.words
    oh, ow = work.hw
    tiles = batch * ceil_div(blocks16(work.channels), tile.cb) * ceil_div(oh, tile.oy) * ceil_div(ow, tile.ox)
    copies = copies if tiles > 1 else 1
    operands = [(work.words(i, tile), placement.on_chip(first + i)) for i in range(len(work.share))]
    loaded = sum(words for words, there in operands if not there)
    cost.tiles = tiles
    if not placement.output:
        cost.need(Mem.OUT, out, copies)
    if work.wide:
        cost.need(Mem.ACC, sum(words for words, _ in operands), copies)
    else:
        cost.need(Mem.INP, loaded, copies)
    for what, value, instruction, name in (
        ("a tile's blocks", tile.cb, "ALU", "n2"),
        ("a tile's rows", tile.oy, "ALU", "n1"),
        ("a tile's columns", tile.ox, "ALU", "n0"),
        ("the column stride", work.step[1], "ALU", "dst_s0"),
        ("the row stride", tile.ox * work.step[0], "ALU", "dst_s1"),
        ("a tile's plane", tile.oy * tile.ox, "ALU", "dst_s2"),
        ("a tile's row", tile.ox, "LOAD", "sram_ys"),
    ):
        cost.limit(what, value, field_max(instruction, name))
    loads, stores = LANES * loaded * tiles, 0 if placement.output else LANES * out * tiles
    cost.traffic = loads + stores
    moved = cost.transfers(config, loads, stores, tiles)
    cost.busy = (moved[0], alu_cycles(config, out) * work.operations * tiles, moved[1])
    return cost


def choose_tile(
    layer: LutLayer | MulLayer | ResizeLayer | ConcatLayer,
    config: AcceleratorConfig,
    placement: Placement = IN_DRAM,
    *,
    part: int = 0,
) -> Tile:
    """Best tile of a layer; of one operand of a concatenation.

    Raises
    ------
    ScheduleError
        If the layer does not fit.
    """
    work = _work(layer, part)
    (oh, ow), (sy, sx) = work.hw, work.step

    def cost(tile: Tile, copies: int) -> Cost:
        return _cost(layer.batch, work, config, tile, copies, placement, part)

    def candidates(copies: int) -> Iterator[tuple[Tile, Cost]]:
        for ox in tile_sizes(ow // sx):
            found = False
            for oy in tile_sizes(oh // sy):
                for cb in tile_sizes(blocks16(work.channels)):
                    tile = Tile(cb, oy * sy, ox * sx)
                    value = cost(tile, copies)
                    found = found or not value.problem(config, placement.inp_words)
                    yield tile, value
            if found:
                return

    tile, value = choose(
        layer.name, config, candidates, cost(Tile(1, sy, sx), 1), placement.inp_words
    )
    return replace(tile, copies=value.copies)
