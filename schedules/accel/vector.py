"""Schedules of layers without weights: addition, pools, requantisation."""

from __future__ import annotations

from typing import Any

from sd_tvm._tvm import s_tir, tvm
from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.layers import AddLayer, PoolLayer, RequantLayer
from sd_tvm.schedules.accel import marks
from sd_tvm.schedules.accel.marks import Schedule
from sd_tvm.schedules.accel.pipeline import Stages, annotate
from sd_tvm.schedules.accel.placement import IN_DRAM, Placement
from sd_tvm.schedules.accel.vector_tiles import VectorLayer, VectorTile, rank_vector_tiles

_AXES = ("n", "cb", "oy", "ox", "lane")
_WINDOW_AXES = (*_AXES, "ky", "kx")


class _Stages:
    """Which stages a layer has: loads (with their scope), ALU stages (with their axes), readers of qp."""

    def __init__(self, layer: VectorLayer, placement: Placement) -> None:
        self.inline: list[str] = []
        self.loads: dict[str, str] = {}
        self.alu: dict[str, tuple[str, ...]] = {}
        self.qp: list[str] = ["out"]
        if isinstance(layer, AddLayer):
            self.loads = {"wa": marks.ACC, "wb": marks.ACC}
            self.alu = dict.fromkeys(("sa", "sb", "total", "out"), _AXES)
            self.qp = ["sa", "sb", "out"]
        elif isinstance(layer, RequantLayer):
            self.loads, self.alu = {"wx": marks.ACC}, {"out": _AXES}
        elif layer.mode == "max":
            self.loads, self.alu, self.qp = {"xpad": marks.INP}, {"out": _WINDOW_AXES}, []
        else:
            self.inline = ["xpad"]
            self.loads = {"wide": marks.ACC}
            self.alu = {"total": _WINDOW_AXES, "out": _AXES}
        for operand, name in enumerate(list(self.loads)):
            if placement.on_chip(operand):
                del self.loads[name]
                if name == "xpad":
                    self.inline.append(name)
                else:
                    self.alu = {name: _AXES, **self.alu}


def schedule_vector(
    func: Any,
    layer: AddLayer | PoolLayer | RequantLayer,
    config: AcceleratorConfig,
    placement: Placement = IN_DRAM,
    tile: VectorTile | None = None,
) -> Schedule:
    """Tile an addition, a pool or a requantisation onto the buffers of a configuration.

    Raises
    ------
    ScheduleError
        If no tile fits.
    """
    if tile is None:
        tile = rank_vector_tiles(layer, config, placement)[0][0]
    stages = _Stages(layer, placement)
    sch = s_tir.Schedule(tvm.IRModule({"main": func}))
    block = sch.get_sblock
    for name in stages.inline:
        sch.compute_inline(block(name))
    result = block("out") if placement.output else sch.cache_write(block("out"), 0, marks.OUT)
    if stages.qp:
        readers = [block(name) for name in stages.qp]
        words = sch.cache_read(readers[0], "qp", marks.QP, consumer_blocks=readers)
        marks.mark(sch, words, None, marks.LOAD)
    for name, scope in stages.loads.items():
        sch.set_scope(block(name), 0, scope)
    for name in stages.alu:
        if name != "out":
            sch.set_scope(block(name), 0, marks.ACC)
    n, cb, oy, ox, lane, *window = sch.get_loops(result)
    n, n_i = sch.split(n, [None, 1], preserve_unit_iters=True)
    cb_o, cb_i = sch.split(cb, [None, tile.cb])
    oy_o, oy_i = sch.split(oy, [None, tile.oy])
    ox_o, ox_i = sch.split(ox, [None, tile.ox])
    sch.reorder(n, cb_o, oy_o, ox_o, n_i, cb_i, oy_i, ox_i, lane, *window)
    for name in reversed(stages.alu):
        if name == "out" and placement.output:
            continue
        sch.compute_at(block(name), ox_o, preserve_unit_loops=True)
    for name in stages.loads:
        sch.compute_at(block(name), ox_o)
        marks.mark(sch, block(name), ox_o, marks.LOAD)
    for name, axes in stages.alu.items():
        marks.mark(sch, block(name), ox_o, marks.ALU, axes)
    if not placement.output:
        marks.mark(sch, result, ox_o, marks.STORE)
    annotate(sch, [n, cb_o, oy_o, ox_o], Stages.simple(tile.copies))
    return sch
