"""Products of two activations on the CPU: the second operand is laid out, then a kernel runs."""

from __future__ import annotations

from typing import Any

from sd_tvm._tvm import relax
from sd_tvm.layers import ConvLayer
from sd_tvm.relay_passes._rewrite import Expr, Rewriter, const, constant
from sd_tvm.schedules.cpu.product import PAIRED, build_pairs, paired_shape
from sd_tvm.schedules.cpu.scaling import scaling_of
from sd_tvm.schedules.cpu.table import Kernel


def lower_product(
    context: Rewriter, call: Expr, layer: ConvLayer, kernel: Kernel, symbol: str
) -> tuple[Any, list[Expr]] | None:
    """PrimFunc of a product and what to call it with; None if its quantisation words are no constant either.

    Parameters
    ----------
    context
        Gets the call that lays the weight out.
    call
        Of the layer: x, weight, quantisation words.
    layer, kernel
        The layer, and its row (:func:`sd_tvm.schedules.cpu.product.product_kernel`).
    symbol
        Name of the PrimFunc.
    """
    x, weight, last = call.args[1].fields
    words = constant(context.value_of(last))
    if words is None:
        return None
    name = f"{symbol}_pairs"
    pairs = context.add_scheduled(build_pairs(layer, name), name)
    out = relax.TensorType(paired_shape(layer), PAIRED)
    paired = context.emit(relax.call_tir(pairs, [weight], out_ty=out), name)
    scaling = scaling_of(layer, words)
    block = const(scaling.block(words, layer.out_dtype, None))
    return kernel.build(layer, symbol, scaling=scaling), [x, paired, block]
