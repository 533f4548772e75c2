"""Canonicalize: constants folded, one spelling for biases and clips, no-ops gone; same function."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sd_tvm._tvm import ir, relax, tvm
from sd_tvm.calibration.ops import NotEvaluated, evaluate
from sd_tvm.relay_passes._rewrite import (
    Expr,
    IRModule,
    Rewriter,
    bindings_of,
    const,
    constant,
    is_call,
    rewrite,
    static_shape,
)

_CONVS = ("relax.nn.conv1d", "relax.nn.conv2d", "relax.nn.conv3d", "relax.nn.conv2d_transpose")
#: Folding never makes a constant larger than this from smaller ones (bytes).
MAX_FOLDED_BYTES = 1 << 28
Bounds = tuple[float, float]


def channel_constant(expr: Expr, shape: tuple[int, ...]) -> Any | None:
    """Array (shape[1],) if ``expr`` is a constant that varies over axis 1 of ``shape`` at most, else None."""
    array = constant(expr)
    if array is None or array.ndim > len(shape) or len(shape) < 2:
        return None
    full = (1,) * (len(shape) - array.ndim) + array.shape
    if any(n != 1 for i, n in enumerate(full) if i != 1) or full[1] not in (1, shape[1]):
        return None
    return np.broadcast_to(array.reshape(-1), (shape[1],)).astype(np.float32)


def _fold(_: Rewriter, var: Expr, value: Expr) -> Expr | None:
    """A call whose operands are all constants becomes its value."""
    if not isinstance(value, relax.Call) or not isinstance(value.op, ir.Op):
        return None
    tensors = [a for a in value.args if isinstance(a.ty, relax.TensorType)]
    if not tensors or any(constant(a) is None for a in tensors) or not isinstance(var.ty, relax.TensorType):
        return None
    shape = static_shape(var)
    if shape is None or 4 * math.prod(shape) > MAX_FOLDED_BYTES:
        return None
    try:
        result = evaluate(value, [a if constant(a) is None else constant(a) for a in value.args])
    except NotEvaluated:
        return None
    return const(np.asarray(result, dtype=str(var.ty.dtype)).reshape(shape))


def _propagate(ctx: Rewriter, _: Expr, value: Expr) -> Expr | None:
    """Operands that are bound to constants are written in place."""
    if not isinstance(value, relax.Call):
        return None
    args = [ctx.value_of(a) if constant(ctx.value_of(a)) is not None else a for a in value.args]
    if all(a.same_as(b) for a, b in zip(args, value.args, strict=True)):
        return None
    return relax.Call(value.op, args, value.attrs, value.ty_args)


def _identity(ctx: Rewriter, var: Expr, value: Expr) -> Expr | None:
    """What returns its input is its input."""
    if isinstance(value, relax.TupleGetItem):
        source = ctx.value_of(value.tuple_value)
        if is_call(source, "relax.nn.dropout") and value.index == 0:
            return source.args[0]
        if isinstance(source, relax.Tuple):
            return source.fields[value.index]
        return None
    if is_call(value, "relax.reshape", "relax.astype", "relax.broadcast_to", "relax.squeeze"):
        same = static_shape(value.args[0]) is not None and static_shape(value.args[0]) == static_shape(var)
        return value.args[0] if same and value.args[0].ty.dtype == var.ty.dtype else None
    if is_call(value, "relax.permute_dims"):
        axes = value.attrs.axes
        return (
            value.args[0] if axes is not None and [int(a) for a in axes] == list(range(len(axes))) else None
        )
    if is_call(value, "relax.nn.pad"):
        return value.args[0] if not any(int(p) for p in value.attrs.pad_width) else None
    if is_call(value, "relax.clip"):
        return value.args[0] if bounds_of(value) == (-math.inf, math.inf) else None
    return None


def _scalar(expr: Expr) -> float | None:
    array = constant(expr)
    return float(array.reshape(())) if array is not None and array.size == 1 else None


def bounds_of(value: Expr) -> Bounds | None:
    """Interval that a relu, clip, minimum or maximum (with a constant) clips to, else None."""
    if is_call(value, "relax.nn.relu"):
        return (0.0, math.inf)
    if is_call(value, "relax.nn.relu6"):
        return (0.0, 6.0)
    if is_call(value, "relax.clip"):
        lo, hi = (getattr(a, "value", None) for a in value.args[1:3])
        return None if lo is None or hi is None else (float(lo), float(hi))
    if is_call(value, "relax.minimum", "relax.maximum"):
        bound = _scalar(value.args[1])
        if bound is None or math.isnan(bound):
            return None
        return (-math.inf, bound) if is_call(value, "relax.minimum") else (bound, math.inf)
    return None


def _clip(ctx: Rewriter, var: Expr, value: Expr) -> Expr | None:
    """Chains of relu, relu6, minimum, maximum and clip become one clip (or relu)."""
    if is_call(value, "relax.minimum", "relax.maximum") and _scalar(value.args[0]) is not None:
        value = relax.Call(value.op, [value.args[1], value.args[0]], value.attrs, value.ty_args)
    bounds = bounds_of(value)
    if bounds is None or str(var.ty.dtype) != "float32":
        return None
    operand, (lo, hi) = value.args[0], bounds
    if static_shape(operand) != static_shape(var):
        return None
    before = ctx.value_of(operand)
    inner = bounds_of(before)
    if inner is not None and ctx.uses(operand) == 1 and static_shape(before.args[0]) == static_shape(var):
        # clip(clip(x, a, b), lo, hi): the inner bounds, clipped by the outer ones
        operand, (lo, hi) = before.args[0], (min(max(inner[0], lo), hi), min(max(inner[1], lo), hi))
    elif is_call(value, "relax.nn.relu", "relax.clip"):
        return None
    if (lo, hi) == (0.0, math.inf):
        return relax.op.nn.relu(operand)
    return relax.op.clip(operand, lo, hi)


def _bias(ctx: Rewriter, var: Expr, value: Expr) -> Expr | None:
    """``add(constant, x)`` -> ``add(x, constant)``; the bias of a convolution has shape [1, M, 1, ...]."""
    if is_call(value, "relax.subtract") and constant(value.args[1]) is not None:
        source = ctx.value_of(value.args[0])
        if not is_call(source, *_CONVS, "relax.matmul"):
            return None
        value = relax.op.add(value.args[0], const(-constant(value.args[1])))  # type: ignore[operator]
    if not is_call(value, "relax.add"):
        return None
    a, b = value.args
    if constant(a) is not None and constant(b) is None:
        a, b = b, a
    if constant(b) is None:
        return None
    shape = static_shape(a)
    if is_call(ctx.value_of(a), *_CONVS) and shape is not None and shape == static_shape(var):
        bias = channel_constant(b, shape)
        wanted = (1, shape[1], *(1,) * (len(shape) - 2))
        if bias is not None and constant(b).shape != wanted:  # type: ignore[union-attr]
            b = const(bias.reshape(wanted))
    if a.same_as(value.args[0]) and b.same_as(value.args[1]):
        return None
    return relax.op.add(a, b)


_RULES = (_propagate, _fold, _identity, _clip, _bias)


def _all(ctx: Rewriter, var: Expr, value: Expr) -> Expr | None:
    """Every rule in turn, each on what the one before it left."""
    changed = False
    for rule in _RULES:
        result = rule(ctx, var, value)
        if result is not None:
            value, changed = result, True
            if not isinstance(value, relax.Call):
                break
            value = ctx.builder.normalize(value)
    return value if changed else None


@tvm.transform.module_pass(opt_level=0, name="sd.Canonicalize")
class Canonicalize:
    """Bring an imported fp32 graph to one spelling; usable in any ``tvm.transform.Sequential``.

    Folds constants (so a transposed weight is a constant), removes no-ops (dropout, reshapes and pads
    that change nothing), writes relu6 in all its forms as ``clip``, and puts the bias of a convolution
    into a constant [1, M, 1, 1] that is the second operand of ``add``.
    """

    def transform_module(self, mod: IRModule, _context: Any) -> IRModule:
        """The pass."""
        mod = rewrite(mod, _all)
        return mod if _calls_on_constants(mod) else relax.transform.FoldConstant()(mod)


def _calls_on_constants(mod: IRModule) -> bool:
    """Whether a TIR function has constant operands only: a compressed weight, which must stay one."""
    return any(
        is_call(value, "relax.call_tir")
        and isinstance(value.args[1], relax.Tuple)
        and all(constant(a) is not None for a in value.args[1].fields)
        for _, func in mod.functions_items()
        if isinstance(func, relax.Function)
        for _, value in bindings_of(func)
    )
