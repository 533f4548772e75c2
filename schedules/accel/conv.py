"""Schedule of a convolution for the accelerator."""

from __future__ import annotations

from typing import Any

from sd_tvm._tvm import s_tir, tvm
from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.layers import LANES, PACKED_LANES, ConvLayer, blocks16
from sd_tvm.schedules.accel import marks
from sd_tvm.schedules.accel.conv_tiles import ConvTile, choose_conv_tile, is_depthwise
from sd_tvm.schedules.accel.marks import Block, Loop, Schedule
from sd_tvm.schedules.accel.pipeline import Stages, annotate
from sd_tvm.schedules.accel.placement import IN_DRAM, Placement
from sd_tvm.schedules.ops.tir import i64

_OUT_AXES = ("n", "mb", "oy", "ox", "lane")
_WEIGHT_AXES = ("mb", "c", "ky", "kx", "lane")
_MAC_AXES = (*_OUT_AXES, "c", "ky", "kx")


def rebuild_blocks(layer: ConvLayer) -> list[str]:
    """Blocks that turn packed codes into weights, in order of execution (none for raw weights)."""
    if layer.form is None:
        return []
    blocks = ["ce", "rows"]
    if layer.form.pattern == "shared":
        blocks = ["prefix", "rank", *blocks]
    if layer.form.indexed:
        blocks = ["index", *blocks, "picked"]
    return [*blocks, "w"]


def _copies(sch: Schedule, layer: ConvLayer) -> dict[str, Block]:
    """Copies of the weight operands to the chip: whole words, by operand name."""
    block = sch.get_sblock
    form = layer.form
    if form is None:
        sch.compute_inline(block("w"))
        return {"w8": sch.cache_read(block("psum"), "w8", marks.CODE)}
    copies = {"codes": block("codes_c"), "basis": block("basis_c")}
    sch.set_scope(copies["codes"], 0, marks.CODE)
    sch.set_scope(copies["basis"], 0, marks.BASIS)
    if form.pattern == "shared":
        readers = [block("prefix"), block("rank")]
        copies["bitmap"] = sch.cache_read(readers[0], "bitmap", marks.IDX, consumer_blocks=readers)
    if form.basis_kind == "codebook":
        copies["ids"] = sch.cache_read(block("rows"), "ids", marks.IDX)
    return copies


def _whole_words(sch: Schedule, layer: ConvLayer, *, strip: bool) -> None:
    """Widen what blocks are said to read to whole words, and to all channels."""
    block = sch.get_sblock

    def words(*axes: Any) -> Any:
        _, mb, _, _, lane = axes
        row = mb * i64(LANES) + lane
        return ((row, row + i64(1)), (i64(0), i64(4)))

    for name in ("acc", "out") if layer.out == "q8" else ("acc",):
        marks.read_region(sch, block(name), "qp", words)
    form = layer.form
    if form is not None:
        geometry = layer.geometry
        quads, planes = i64(form.slots(geometry) // 4), i64(16 * form.planes(geometry.s))
        slices, width = i64(form.n_slices(geometry)), i64(blocks16(geometry.s**2) * 16)

        def octets(mb: Any, *_: Any) -> Any:
            tile = mb * i64(2)
            return ((tile, tile + i64(2)), (i64(0), i64(1)), (i64(0), quads), (i64(0), planes))

        def bases(*axes: Any) -> Any:
            if form.basis_kind == "codebook":
                return ((i64(0), i64(layer.n_bases)), (i64(0), width))
            m = axes[0] * i64(LANES) + axes[-1]
            return ((m, m + i64(1)), (i64(0), slices), (i64(0), width))

        for name in ("index", "ce") if form.indexed else ("ce",):
            marks.read_region(sch, block(name), "codes_c", octets)
        marks.read_region(sch, block("rows"), "basis_c", bases)
        if form.pattern == "shared":
            kept, s = i64(form.kept_rows), i64(geometry.s)

            def slots(*axes: Any) -> Any:
                mb, _, _, lane = axes
                return ((mb, mb + i64(1)), (i64(0), kept), (i64(0), s), (lane, lane + i64(1)))

            marks.read_region(sch, block("rows"), "ce", slots)
    if strip and not is_depthwise(layer):
        (sh, sw), (dh, dw) = layer.stride, layer.dilation
        blocks = blocks16(layer.in_channels)

        def everything(*axes: Any) -> Any:
            n, _, oy, ox, _, _, ky, kx = axes
            y, x = oy * i64(sh) + ky * i64(dh), ox * i64(sw) + kx * i64(dw)
            lanes = PACKED_LANES if layer.packed_input else LANES
            whole = ((i64(0), i64(blocks)), (y, y + i64(1)), (x, x + i64(1)), (i64(0), i64(lanes)))
            return ((n, n + i64(1)), *whole)

        marks.read_region(sch, block("psum"), "xpad", everything)


def _tile_loops(sch: Schedule, result: Block, tile: ConvTile) -> tuple[list[Loop], Loop, Loop]:
    """Cut the result into tiles; returns the outer loops, the filter loop, the strip loop."""
    n, mb, oy, ox, lane = sch.get_loops(result)
    n, n_i = sch.split(n, [None, 1], preserve_unit_iters=True)
    mb_o, mb_i = sch.split(mb, [None, tile.mb])
    oy_o, oy_i = sch.split(oy, [None, tile.oy])
    ox_o, ox_i = sch.split(ox, [None, tile.ox])
    outer = [mb_o, n, oy_o, ox_o] if tile.filters_first else [n, oy_o, ox_o, mb_o]
    sch.reorder(*outer, n_i, mb_i, oy_i, ox_i, lane)
    return outer, mb_o, ox_o


def schedule_conv(
    func: Any,
    layer: ConvLayer,
    config: AcceleratorConfig,
    placement: Placement = IN_DRAM,
    tile: ConvTile | None = None,
) -> Schedule:
    """Tile a convolution onto the buffers of a configuration.

    Loads (``xpad``, copies of weights and quantisation words), rebuild stages, MAC, bias,
    requantisation and store become marked nests; see :mod:`sd_tvm.schedules.accel.marks`.

    Raises
    ------
    ScheduleError
        If no tile fits.
    """
    if tile is None:
        tile = choose_conv_tile(layer, config, placement)
    strip = not placement.on_chip(0)
    sch = s_tir.Schedule(tvm.IRModule({"main": func}))
    block = sch.get_sblock
    last = "out" if layer.out == "q8" else "acc"
    if placement.output:
        result = block(last)
    else:
        result = sch.cache_write(block(last), 0, marks.OUT if layer.out == "q8" else marks.ACC)
    copies = _copies(sch, layer)
    readers = [block("acc"), block("out")] if layer.out == "q8" else [block("acc")]
    copies["qp"] = sch.cache_read(block("acc"), "qp", marks.QP, consumer_blocks=readers)
    if not strip:
        sch.compute_inline(block("xpad"))
    _whole_words(sch, layer, strip=strip)
    rebuild = rebuild_blocks(layer)
    scopes = {"psum": marks.PSUM, **dict.fromkeys(rebuild, marks.W)}
    if layer.out == "q8":
        scopes["acc"] = marks.ACC
    if strip:
        scopes["xpad"] = marks.INP
    for name, scope in scopes.items():
        sch.set_scope(block(name), 0, scope)

    loops, filter_loop, strip_loop = _tile_loops(sch, result, tile)
    inner = loops[-1]
    stages = ("out", "acc", "psum") if layer.out == "q8" else ("acc", "psum")
    for name in stages[1:] if placement.output else stages:
        sch.compute_at(block(name), inner, preserve_unit_loops=True)
    for name in reversed(rebuild):
        sch.compute_at(block(name), inner, preserve_unit_loops=True)
    weights_at = None if tile.resident else filter_loop
    once = {"ids", "bitmap"} | ({"basis"} if layer.form and layer.form.basis_kind == "codebook" else set())
    for name, copy in copies.items():
        at = None if name in once else weights_at
        if at is not None:
            sch.compute_at(copy, at)
        marks.mark(sch, copy, at, marks.LOAD)
    if strip:
        strip_at = inner if is_depthwise(layer) or tile.filters_first else strip_loop
        sch.compute_at(block("xpad"), strip_at)
        marks.mark(sch, block("xpad"), strip_at, marks.LOAD)

    for name in rebuild:
        axes = _WEIGHT_AXES if name == "w" else ()
        marks.mark(sch, block(name), inner, marks.REBUILD, axes)
    marks.mark(sch, block("psum"), inner, marks.MAC, _MAC_AXES)
    marks.mark(sch, block("acc"), inner, marks.BIAS, _OUT_AXES)
    if layer.out == "q8":
        marks.mark(sch, block("out"), inner, marks.ALU, _OUT_AXES)
    if not placement.output:
        marks.mark(sch, result, inner, marks.STORE)
    weights, strips, work, alu, store = tile.stages
    annotate(sch, loops, Stages(weights, work, alu, store, (("xpad", strips),)))
    return sch
