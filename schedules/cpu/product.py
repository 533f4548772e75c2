"""Products of two activations: the second one is laid out for the ``conv`` kernel when it is known.

A layer of :func:`sd_tvm.relay_passes._matmul.product` reads raw int8 weights that are an activation. The
kernel wants them as :func:`~sd_tvm.schedules.cpu.dense.pack_dense` has them: int16, two rows of a group side
by side. A function of its own, the same for any processor, brings them there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sd_tvm._tvm import ir_builder
from sd_tvm.layers import LANES, ConvLayer, blocks16
from sd_tvm.schedules.cpu.isa import Isa
from sd_tvm.schedules.cpu.table import Kernel, ranked
from sd_tvm.schedules.cpu.vec import bind, flat, i64, load, pick, store, t
from sd_tvm.schedules.ops.tir import dims, mark_layer

#: The kernel's weights: int16, in pairs.
PAIRED = "int16"
_PAIR = 2


def paired_shape(layer: ConvLayer) -> tuple[int, int, int]:
    """Shape of the second operand as the kernel reads it."""
    return blocks16(layer.out_channels), layer.in_channels // layer.groups // _PAIR, LANES * _PAIR


def product_kernel(layer: ConvLayer, isas: Sequence[Isa]) -> tuple[Kernel | None, str]:
    """Row for a layer whose weight is computed at run time, and why there is none.

    Parameters
    ----------
    layer
        The layer.
    isas
        Instruction sets, best first.
    """
    (_, channels, *window) = layer.weight_shape
    filters = layer.out_channels // layer.groups
    if layer.form is not None or window != [1, 1] or channels % LANES or filters % LANES:
        return None, "its weight is computed at run time"
    able = (k for isa in isas for k in ranked(layer, isa) if k.operation == "conv")
    kernel = next(able, None)
    return kernel, "" if kernel else "its weight is computed at run time, and the target has no kernel"


def build_pairs(layer: ConvLayer, symbol: str) -> Any:
    """PrimFunc that lays the weight out. Operands: int8 (MB, K, 16), result int16 (MB, K / 2, 32)."""
    blocks, pairs, width = shape = paired_shape(layer)
    count = blocks * pairs * width
    with ir_builder.IRBuilder() as frame, t.prim_func(s_tir=True):
        t.func_name(symbol)
        source = t.arg("w8", t.Buffer(dims(blocks, pairs * _PAIR, LANES), "int8"))
        result = t.arg("out", t.Buffer(dims(*shape), PAIRED))
        w, out = flat(source, count, "int8"), flat(result, count, PAIRED)
        # the block: Relax looks into functions of one operand for a reshape, and wants one
        with t.sblock("root"), t.serial(i64(blocks * pairs)) as i:
            at = bind(i * i64(width))
            two = [bind(load(w, at + i64(j * LANES), LANES)) for j in range(_PAIR)]
            lanes = [j * LANES + lane for lane in range(LANES) for j in range(_PAIR)]
            store(out, at, pick(two, lanes).astype(f"{PAIRED}x{width}"), width)
    return mark_layer(frame.get(), symbol)
