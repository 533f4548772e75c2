"""Schedules of tables, products, enlargements and concatenations."""

from __future__ import annotations

from typing import Any

from sd_tvm._tvm import s_tir, tvm
from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.errors import ScheduleError
from sd_tvm.layers import ConcatLayer, LutLayer, MulLayer, ResizeLayer
from sd_tvm.schedules.accel import marks
from sd_tvm.schedules.accel.elementwise_tiles import Tile, choose_tile, tiled
from sd_tvm.schedules.accel.marks import Block, Loop, Schedule
from sd_tvm.schedules.accel.pipeline import Stages, annotate
from sd_tvm.schedules.accel.placement import IN_DRAM, Placement

ElementwiseLayer = LutLayer | MulLayer | ResizeLayer | ConcatLayer
_AXES = ("n", "cb", "oy", "ox", "lane")


def schedule_elementwise(
    func: Any, layer: ElementwiseLayer, config: AcceleratorConfig, placement: Placement = IN_DRAM
) -> Schedule:
    """Tile a layer without weights and windows onto the buffers of a configuration.

    Raises
    ------
    ScheduleError
        If no tile fits, or a concatenation moves lanes between blocks of channels.
    """
    if isinstance(layer, ConcatLayer) and not layer.is_aligned:
        raise ScheduleError(
            f"{layer.name}: channels {layer.parts} side by side move lanes between blocks of 16",
            expected="multiples of 16 channels in all operands but the last",
            fix="leave the layer to the CPU",
        )
    sch = s_tir.Schedule(tvm.IRModule({"main": func}))
    if isinstance(layer, LutLayer):
        _lut(sch, choose_tile(layer, config, placement), placement)
    elif isinstance(layer, MulLayer):
        _mul(sch, choose_tile(layer, config, placement), placement)
    elif isinstance(layer, ResizeLayer):
        _resize(sch, layer, choose_tile(layer, config, placement), placement)
    else:
        _concat(sch, layer, config, placement)
    return sch


def _constants(sch: Schedule, reader: Block, operand: str, scope: str, others: list[Block]) -> None:
    """Load a constant operand once."""
    words = sch.cache_read(reader, operand, scope, consumer_blocks=[reader, *others])
    marks.mark(sch, words, None, marks.LOAD)


def _place(
    sch: Schedule,
    tiles: list[Loop],
    copies: int,
    loads: dict[str, tuple[str, bool]],
    alu: list[str],
    result: Block | None,
) -> None:
    """Move the stages of a tile below the loops over tiles and mark them.

    Parameters
    ----------
    sch, tiles, copies
        Schedule, loops over tiles, copies of the buffers of a tile.
    loads
        Stage -> (scope, whether its operand is on chip: then the ALU makes it, or it was inlined).
    alu
        ALU stages in order; the last one's loops are those of the tile if ``result`` is None.
    result
        Block that copies the result to DRAM; None: the last ALU stage writes it to INP.
    """
    at = tiles[-1]
    on_chip = [name for name, (scope, there) in loads.items() if there and scope == marks.ACC]
    loaded = [name for name, (_, there) in loads.items() if not there]
    for name, (scope, there) in loads.items():
        if not there or scope == marks.ACC:
            sch.set_scope(sch.get_sblock(name), 0, scope)
    stages = [*on_chip, *alu]
    for name in reversed(stages):
        if name != alu[-1]:
            sch.set_scope(sch.get_sblock(name), 0, marks.ACC)
        if name != alu[-1] or result is not None:
            sch.compute_at(sch.get_sblock(name), at, preserve_unit_loops=True)
    for name in loaded:
        sch.compute_at(sch.get_sblock(name), at)
        marks.mark(sch, sch.get_sblock(name), at, marks.LOAD)
    for name in stages:
        marks.mark(sch, sch.get_sblock(name), at, marks.ALU, _AXES)
    if result is not None:
        marks.mark(sch, result, at, marks.STORE)
    annotate(sch, tiles, Stages.simple(copies))


def _result(sch: Schedule, placement: Placement) -> Block | None:
    return None if placement.output else sch.cache_write(sch.get_sblock("out"), 0, marks.OUT)


def _lut(sch: Schedule, tile: Tile, placement: Placement) -> None:
    if placement.on_chip(0):
        sch.compute_inline(sch.get_sblock("xin"))
    result = _result(sch, placement)
    _constants(sch, sch.get_sblock("out"), "lut", marks.LUT, [])
    tiles = tiled(sch, sch.get_sblock("out") if result is None else result, tile)
    _place(sch, tiles, tile.copies, {"xin": (marks.INP, placement.on_chip(0))}, ["out"], result)


def _mul(sch: Schedule, tile: Tile, placement: Placement) -> None:
    result = _result(sch, placement)
    _constants(sch, sch.get_sblock("out"), "qp", marks.QP, [])
    tiles = tiled(sch, sch.get_sblock("out") if result is None else result, tile)
    loads = {name: (marks.ACC, placement.on_chip(i)) for i, name in enumerate(("wa", "wb"))}
    _place(sch, tiles, tile.copies, loads, ["product", "out"], result)


def _resize(sch: Schedule, layer: ResizeLayer, tile: Tile, placement: Placement) -> None:
    """Each of the factor's positions is one copy with a stride: loops outside of the nest."""
    if placement.on_chip(0):
        sch.compute_inline(sch.get_sblock("xin"))
    result = _result(sch, placement)
    tiles = tiled(sch, sch.get_sblock("out") if result is None else result, tile)
    at = tiles[-1]
    out = sch.get_sblock("out")
    if result is not None:
        sch.compute_at(out, at, preserve_unit_loops=True)
        marks.mark(sch, result, at, marks.STORE)
    n, cb, oy, ox, lane = sch.get_loops(out)[-5:]
    oy, y = sch.split(oy, [None, layer.factor[0]], preserve_unit_iters=True)
    ox, x = sch.split(ox, [None, layer.factor[1]], preserve_unit_iters=True)
    sch.reorder(y, x, n, cb, oy, ox, lane)
    marks.mark(sch, out, x, marks.ALU, _AXES)
    if not placement.on_chip(0):
        xin = sch.get_sblock("xin")
        sch.set_scope(xin, 0, marks.INP)
        sch.compute_at(xin, at)
        marks.mark(sch, xin, at, marks.LOAD)
    annotate(sch, tiles, Stages.simple(tile.copies))


def _concat(sch: Schedule, layer: ConcatLayer, config: AcceleratorConfig, placement: Placement) -> None:
    """One pass an operand; each writes its own blocks of the result."""
    parts = range(len(layer.parts))
    if placement.output:
        for i in parts:
            sch.compute_inline(sch.get_sblock(f"r{i}"))
    scaled = [sch.get_sblock(f"out{i}" if placement.output else f"r{i}") for i in parts]
    _constants(sch, scaled[0], "qp", marks.QP, scaled[1:])
    for i in parts:
        out = sch.get_sblock(f"out{i}")
        tile = choose_tile(layer, config, placement, part=i)
        tiles = tiled(sch, out, tile)
        if placement.output:
            _place(sch, tiles, tile.copies, {f"w{i}": (marks.ACC, placement.on_chip(i))}, [f"out{i}"], None)
            continue
        sch.set_scope(sch.get_sblock(f"r{i}"), 0, marks.OUT)
        _place(sch, tiles, tile.copies, {f"w{i}": (marks.ACC, placement.on_chip(i))}, [f"r{i}"], out)
