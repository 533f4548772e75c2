"""The integer layers as TensorIR: one TE definition a kind, exactly ``docs/numerics.md``.

To add a layer kind: a record in ``sd_tvm/layers.py``, a builder here, a row in ``_BUILDERS``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sd_tvm.layers import Layer
from sd_tvm.schedules.ops.conv import build_conv
from sd_tvm.schedules.ops.edges import (
    build_dequantize,
    build_dequantize_acc,
    build_pack4,
    build_quantize,
    build_quantize_dynamic,
    build_rebuild_weight,
)
from sd_tvm.schedules.ops.elementwise import build_add, build_requant
from sd_tvm.schedules.ops.interleave import build_interleave
from sd_tvm.schedules.ops.partial_sums import build_sum
from sd_tvm.schedules.ops.pool import build_pool
from sd_tvm.schedules.ops.product import build_lut, build_mul
from sd_tvm.schedules.ops.rearrange import build_concat, build_resize
from sd_tvm.schedules.ops.records import RECORD_BYTES, pack_records
from sd_tvm.schedules.ops.tir import LAYER_ATTR

__all__ = [
    "LAYER_ATTR",
    "RECORD_BYTES",
    "build_dequantize",
    "build_dequantize_acc",
    "build_pack4",
    "build_primfunc",
    "build_quantize",
    "build_quantize_dynamic",
    "build_rebuild_weight",
    "pack_records",
]

_BUILDERS: dict[str, Callable[[Any, str], Any]] = {
    "conv": build_conv,
    "add": build_add,
    "pool": build_pool,
    "requant": build_requant,
    "lut": build_lut,
    "mul": build_mul,
    "concat": build_concat,
    "resize": build_resize,
    "interleave": build_interleave,
    "sum": build_sum,
}


def build_primfunc(layer: Layer, symbol: str) -> Any:
    """Integer semantic of a layer as a ``tirx.PrimFunc``.

    Parameters
    ----------
    layer
        The layer; its docstring lists the operands.
    symbol
        ``global_symbol`` of the function.

    Returns
    -------
    tvm.tirx.PrimFunc
        Parameters are the layer's operands in order, then the result; attribute ``sd.layer`` is
        the layer's JSON. It can be built for LLVM as it is.
    """
    return _BUILDERS[layer.kind](layer, symbol)
