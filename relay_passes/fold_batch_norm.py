"""FoldBatchNorm: batch norm, and scales and shifts per channel, go into the layer before them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm._tvm import relax, tvm
from sd_tvm.relay_passes._rewrite import (
    Expr,
    IRModule,
    Rewriter,
    const,
    constant,
    is_call,
    rewrite,
    static_shape,
)
from sd_tvm.relay_passes.canonicalize import channel_constant

Array = npt.NDArray[Any]
#: Operator -> (layout of its data, of its weight) that we fold into; dense layers have neither.
_LAYERS: dict[str, tuple[str, str]] = {
    "relax.nn.conv1d": ("NCW", "OIW"),
    "relax.nn.conv2d": ("NCHW", "OIHW"),
    "relax.nn.conv3d": ("NCDHW", "OIDHW"),
    "relax.nn.conv2d_transpose": ("NCHW", "IOHW"),
    "relax.matmul": ("", ""),
}


def _layer(ctx: Rewriter, expr: Expr) -> tuple[Expr, Expr, Array, Array] | None:
    """(variable, call, weight, bias) of the layer that only feeds ``expr``, a bias add included."""
    shape = static_shape(expr)
    value = ctx.value_of(expr)
    if shape is None or len(shape) < 2 or ctx.uses(expr) != 1:
        return None
    bias = np.zeros(shape[1], np.float32)
    if is_call(value, "relax.add"):
        for operand, other in (value.args, value.args[::-1]):
            found = channel_constant(other, shape)
            if found is not None and static_shape(operand) == shape:
                break
        else:
            return None
        expr, value, bias = operand, ctx.value_of(operand), found
        if ctx.uses(expr) != 1:
            return None
    if not is_call(value, *_LAYERS):
        return None
    layouts = _LAYERS[value.op.name]
    if layouts[0] and (value.attrs.data_layout, value.attrs.kernel_layout) != layouts:
        return None
    if layouts[0] and value.attrs.out_layout not in ("", layouts[0]):
        return None
    if is_call(value, "relax.nn.conv2d_transpose") and int(value.attrs.groups) != 1:
        return None
    weight = constant(value.args[1])
    if (
        weight is None
        or weight.dtype != np.float32
        or (not layouts[0] and (len(shape), weight.ndim) != (2, 2))
    ):
        return None
    return expr, value, weight, bias


def _affine(ctx: Rewriter, value: Expr) -> tuple[Expr, Array, Array] | None:
    """(x, scale, shift), float64 (M,), if ``value`` is scale * x + shift per channel, else None."""
    if isinstance(value, relax.TupleGetItem) and value.index == 0:
        norm = ctx.value_of(value.tuple_value)
        if not is_call(norm, "relax.nn.batch_norm") or int(norm.attrs.axis) != 1 or norm.attrs.training:
            return None
        arrays = [constant(a) for a in norm.args[1:]]
        if any(a is None for a in arrays):
            return None
        gamma, beta, mean, variance = (np.asarray(a, np.float64) for a in arrays)
        scale = 1.0 / np.sqrt(variance + float(norm.attrs.epsilon))
        if norm.attrs.scale:
            scale = scale * gamma
        return norm.args[0], scale, (beta if norm.attrs.center else 0.0) - mean * scale
    if is_call(value, "relax.multiply", "relax.divide", "relax.add", "relax.subtract"):
        x, c = value.args
        if constant(x) is not None and is_call(value, "relax.multiply", "relax.add"):
            x, c = c, x
        shape = static_shape(x)
        factor = None if shape is None else channel_constant(c, shape)
        if factor is None or static_shape(value) not in (None, shape):
            return None
        f = factor.astype(np.float64)
        match value.op.name:
            case "relax.multiply":
                return x, f, np.zeros_like(f)
            case "relax.divide":
                return None if np.any(f == 0) else (x, 1.0 / f, np.zeros_like(f))
            case "relax.add":
                return x, np.ones_like(f), f
            case _:
                return x, np.ones_like(f), -f
    return None


def _per_filter(call: Expr, scale: Array, rank: int) -> Array:
    """A scale (M,) in the shape that multiplies the weight of a layer."""
    axis = 1 if is_call(call, "relax.matmul", "relax.nn.conv2d_transpose") else 0
    wide = [1] * rank
    wide[axis] = -1
    return scale.reshape(wide)


def _rule(ctx: Rewriter, _: Expr, value: Expr) -> Expr | None:
    affine = _affine(ctx, value)
    if affine is None:
        return None
    x, scale, shift = affine
    is_bias = is_call(value, "relax.add", "relax.subtract")
    if is_bias and not is_call(ctx.value_of(x), "relax.add"):
        return None  # the bias of a layer already
    layer = _layer(ctx, x)
    if layer is None or not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        return None
    var, call, weight, bias = layer
    folded = (weight * _per_filter(call, scale, weight.ndim)).astype(np.float32)
    new = relax.Call(call.op, [call.args[0], const(folded)], call.attrs, call.ty_args)
    out = ctx.emit(new, var.name)
    rank = len(static_shape(var) or ())
    new_bias = (bias * scale + shift).astype(np.float32)
    return relax.op.add(out, const(new_bias.reshape((1, -1, *(1,) * (rank - 2)) if rank > 2 else (-1,))))


@tvm.transform.module_pass(opt_level=0, name="sd.FoldBatchNorm")
class FoldBatchNorm:
    """Fold batch norm (inference) into the convolution or dense layer before it.

    Takes layer -> [bias add] -> batch_norm -> [0], and multiplications, divisions and further additions
    by constants per channel. The layer's result must have no other reader, the normalisation's parameters
    must be constants; whatever does not fit stays as it is. Usable in any ``tvm.transform.Sequential``.
    """

    def transform_module(self, mod: IRModule, _context: Any) -> IRModule:
        """The pass."""
        return rewrite(mod, _rule)
