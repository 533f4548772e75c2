"""Schedules for sd_accel: a layer's TensorIR tiled onto the buffers of a configuration."""

from __future__ import annotations

from typing import Any

from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.layers import (
    ConcatLayer,
    ConvLayer,
    InterleaveLayer,
    LutLayer,
    MulLayer,
    ResizeLayer,
    SumLayer,
    layer_from_json,
)
from sd_tvm.schedules.accel.conv import schedule_conv
from sd_tvm.schedules.accel.conv_tiles import ConvTile
from sd_tvm.schedules.accel.elementwise import schedule_elementwise
from sd_tvm.schedules.accel.interleave import schedule_interleave
from sd_tvm.schedules.accel.partial_sums import schedule_sum
from sd_tvm.schedules.accel.placement import IN_DRAM, Placement
from sd_tvm.schedules.accel.tiles import Tile
from sd_tvm.schedules.accel.vector import schedule_vector
from sd_tvm.schedules.accel.vector_tiles import VectorTile
from sd_tvm.schedules.ops.tir import LAYER_ATTR

__all__ = ["IN_DRAM", "Placement", "schedule_accel"]


def schedule_accel(
    func: Any, config: AcceleratorConfig, placement: Placement = IN_DRAM, tile: Tile | None = None
) -> Any:
    """Tile a layer's PrimFunc onto an accelerator configuration.

    Parameters
    ----------
    func
        What :func:`sd_tvm.schedules.ops.build_primfunc` returned.
    config
        Sizes of array and buffers.
    placement
        Activations that stay on chip.
    tile
        How to cut the layer; None: the best by its estimated cost.

    Returns
    -------
    tvm.s_tir.Schedule
        Of the function, its nests marked as :mod:`sd_tvm.schedules.accel.marks` says.

    Raises
    ------
    ScheduleError
        If the layer cannot be tiled; the message has the numbers.
    """
    layer = layer_from_json(str(func.attrs[LAYER_ATTR]))
    if isinstance(layer, ConvLayer):
        chosen = tile if isinstance(tile, ConvTile) else None
        return schedule_conv(func, layer, config, placement, chosen)
    if isinstance(layer, LutLayer | MulLayer | ResizeLayer | ConcatLayer):
        return schedule_elementwise(func, layer, config, placement)
    if isinstance(layer, SumLayer):
        return schedule_sum(func, layer, config)
    if isinstance(layer, InterleaveLayer):
        return schedule_interleave(func, layer, config, placement)
    vector = tile if isinstance(tile, VectorTile) else None
    return schedule_vector(func, layer, config, placement, vector)
