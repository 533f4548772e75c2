"""The schedule for any processor: sixteen lanes vectorised, sums in registers, weights rebuilt each call."""

from __future__ import annotations

from typing import Any

from sd_tvm._tvm import s_tir, tvm
from sd_tvm.layers import (
    AddLayer,
    ConcatLayer,
    ConvLayer,
    Layer,
    LutLayer,
    PoolLayer,
    RequantLayer,
    layer_from_json,
)
from sd_tvm.schedules.accel.conv import rebuild_blocks
from sd_tvm.schedules.cpu.elementwise import build_elementwise
from sd_tvm.schedules.cpu.isa import Isa
from sd_tvm.schedules.cpu.lookup import build_lookup
from sd_tvm.schedules.ops.tir import LAYER_ATTR, with_attrs

__all__ = ["schedule_cpu"]

#: Output pixels whose sums stay in registers: 7 x 16 int32 is 14 of 16 AVX2 registers.
_PIXELS = 7

_INLINED = {
    "lut": ["xin"],
    "mul": ["wa", "wb", "product"],
    "resize": ["xin"],
    "interleave": ["xin"],
    "sum": ["parts"],
}


def schedule_cpu(func: Any, isa: Isa | None = None) -> Any:
    """Schedule a layer's PrimFunc for LLVM; values stay the same, to the bit.

    Parameters
    ----------
    func
        What :func:`sd_tvm.schedules.ops.build_primfunc` returned.
    isa
        What the processor must have; a table lookup uses it (:func:`sd_tvm.schedules.cpu.lookup.lookup_isa`).

    Returns
    -------
    tvm.tirx.PrimFunc
        The scheduled function, attributes kept.
    """
    layer: Layer = layer_from_json(str(func.attrs[LAYER_ATTR]))
    if isinstance(layer, AddLayer | RequantLayer):
        return with_attrs(build_elementwise(layer, "main"), func)
    if isinstance(layer, LutLayer) and isa is not None:
        return with_attrs(build_lookup(layer, isa, layer.name), func)
    sch = s_tir.Schedule(tvm.IRModule({"main": func}))
    if isinstance(layer, ConvLayer):
        _conv(sch, layer)
    elif isinstance(layer, PoolLayer):
        _pool(sch, layer)
    else:
        for name in _inlined(layer):
            sch.compute_inline(sch.get_sblock(name))
        for name in _results(layer):
            _vectorize_last(sch, name)
    return sch.mod["main"]


def _inlined(layer: Layer) -> list[str]:
    """Stages of an element-wise layer that its last one computes on the way."""
    if isinstance(layer, ConcatLayer):
        stages = "wr" if layer.is_aligned else "w"
        return [f"{stage}{i}" for stage in stages for i in range(len(layer.parts))]
    return _INLINED[layer.kind]


def _results(layer: Layer) -> list[str]:
    """Stages that write the result of an element-wise layer."""
    if isinstance(layer, ConcatLayer) and layer.is_aligned:
        return [f"out{i}" for i in range(len(layer.parts))]
    return ["out"]


def _vectorize_last(sch: Any, name: str) -> None:
    sch.vectorize(sch.get_loops(sch.get_sblock(name))[-1])


def _pixels(width: int) -> int:
    """Largest divisor of a row's width that is at most :data:`_PIXELS`."""
    return max(n for n in range(1, _PIXELS + 1) if width % n == 0)


def _conv(sch: Any, layer: ConvLayer) -> None:
    block = sch.get_sblock
    for name in ("w",) if layer.form is None else ("codes_c", "basis_c"):
        sch.compute_inline(block(name))
    _vectorize_last(sch, "xpad")
    for name in rebuild_blocks(layer):
        if name in ("picked", "w"):
            _vectorize_last(sch, name)
    last = "acc"
    if layer.out == "q8":
        sch.compute_inline(block("acc"))
        last = "out"
    *_, ox, lane = sch.get_loops(block(last))
    ox_o, ox_i = sch.split(ox, [None, _pixels(layer.out_hw[1])])
    sch.vectorize(lane)
    sch.set_scope(block("psum"), 0, "local")
    psum = block("psum")
    sch.compute_at(psum, ox_o, preserve_unit_loops=True)
    x, lanes, c, ky, kx = sch.get_loops(psum)[-5:]
    sch.reorder(c, ky, kx, x, lanes)
    sch.unroll(ox_i)
    sch.unroll(x)
    sch.vectorize(lanes)
    init = sch.decompose_reduction(psum, c)
    sch.unroll(sch.get_loops(init)[-2])


def _pool(sch: Any, layer: PoolLayer) -> None:
    block = sch.get_sblock
    sch.compute_inline(block("xpad"))
    if layer.mode == "avg":
        sch.compute_inline(block("wide"))
        *_, ox, lane = sch.get_loops(block("out"))
        sch.compute_at(block("total"), ox, preserve_unit_loops=True)
        sch.vectorize(lane)
    name = "total" if layer.mode == "avg" else "out"
    lane, ky, kx = sch.get_loops(block(name))[-3:]
    sch.reorder(ky, kx, lane)
    sch.vectorize(lane)
    sch.decompose_reduction(block(name), ky)
