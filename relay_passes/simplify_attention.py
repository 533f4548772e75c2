"""SimplifyAttention: the scale of attention follows its product; softmax without masked rows is plain."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sd_tvm._tvm import relax, tvm
from sd_tvm.relay_passes._match import factor_of
from sd_tvm.relay_passes._matmul import VIEWS
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

#: What a framework asks to find rows of scores that are masked as a whole.
_TESTS = ("relax.logical_not", "relax.astype", "relax.max", "relax.reshape")


def _unscaled(ctx: Rewriter, operand: Expr) -> tuple[Expr, float]:
    """(operand without a number that multiplies what it is a view of, that number)."""
    views, var = [], operand
    while is_call(ctx.value_of(var), *VIEWS):
        views.append((var, ctx.value_of(var)))
        var = views[-1][1].args[0]
    value = ctx.value_of(var)
    if not is_call(value, "relax.multiply", "relax.divide"):
        return operand, 1.0
    source = value.args[0] if constant(value.args[0]) is None else value.args[1]
    factor = factor_of(value, source)
    if factor is None or static_shape(source) != static_shape(var):
        return operand, 1.0
    for old, view in reversed(views):
        args = [source, *list(view.args)[1:]]
        source = ctx.emit(relax.Call(view.op, args, view.attrs, view.ty_args), f"{old.name}_unscaled")
    return source, factor


def _product(ctx: Rewriter, var: Expr, value: Expr) -> Expr | None:
    """matmul(s * a, t * b) -> (s * t) * matmul(a, b)."""
    if not is_call(value, "relax.matmul") or any(constant(a) is not None for a in value.args[:2]):
        return None
    if str(var.ty.dtype) != "float32":
        return None
    (a, s), (b, t) = (_unscaled(ctx, operand) for operand in value.args[:2])
    if s * t == 1.0:
        return None
    plain = ctx.emit(relax.Call(value.op, [a, b], value.attrs, value.ty_args), f"{var.name}_product")
    return relax.op.multiply(plain, const(np.array(s * t, np.float32)))


def _scale_of_views(ctx: Rewriter, _: Expr, value: Expr) -> Expr | None:
    """s * views of matmul(a, b) -> views of s * matmul(a, b)."""
    if not is_call(value, "relax.multiply", "relax.divide"):
        return None
    var = value.args[0] if constant(value.args[0]) is None else value.args[1]
    views: list[tuple[Expr, Expr]] = []
    factor = factor_of(value, var)
    while is_call(ctx.value_of(var), *VIEWS) and ctx.uses(var) == 1:
        views.append((var, ctx.value_of(var)))
        var = views[-1][1].args[0]
    source = ctx.value_of(var)
    if factor is None or not views or ctx.uses(var) != 1 or not is_call(source, "relax.matmul"):
        return None
    if any(constant(a) is not None for a in source.args[:2]):
        return None
    out = ctx.emit(relax.op.multiply(var, const(np.array(factor, np.float32))), f"{var.name}_scaled")
    for old, view in reversed(views[1:]):
        args = [out, *list(view.args)[1:]]
        out = ctx.emit(relax.Call(view.op, args, view.attrs, view.ty_args), f"{old.name}_scaled")
    last = views[0][1]
    return relax.Call(last.op, [out, *list(last.args)[1:]], last.attrs, last.ty_args)


def _finite_rows(ctx: Rewriter, scores: Expr) -> bool:
    """Whether no row of scores is minus infinity as a whole: a product of activations, masked or not."""
    value = ctx.value_of(scores)
    while True:
        if is_call(value, "relax.matmul"):
            return True
        if is_call(value, *VIEWS):
            value = ctx.value_of(value.args[0])
        elif is_call(value, "relax.multiply", "relax.divide", "relax.add"):
            a, b = value.args
            source, other = (a, constant(b)) if constant(b) is not None else (b, constant(a))
            if other is None or np.isnan(other).any() or (other == math.inf).any():
                return False
            if other.size > 1 and not (other > -math.inf).any(axis=-1).all():
                return False
            value = ctx.value_of(source)
        else:
            return False


def _softmax(ctx: Rewriter, _: Expr, value: Expr) -> Expr | None:
    """where(every score of the row is -inf, 0, softmax(scores)) -> softmax(scores), where no row is."""
    if not is_call(value, "relax.where"):
        return None
    test, otherwise = ctx.value_of(value.args[0]), ctx.value_of(value.args[2])
    if not is_call(otherwise, "relax.nn.softmax"):
        return None
    while is_call(test, *_TESTS):
        test = ctx.value_of(test.args[0])
    scores = otherwise.args[0]
    if not is_call(test, "relax.equal") or not any(a.same_as(scores) for a in test.args):
        return None
    bounds = [bound for a in test.args if (bound := constant(a)) is not None]
    if len(bounds) != 1 or bounds[0].size != 1 or float(bounds[0].reshape(())) != -math.inf:
        return None
    return value.args[2] if _finite_rows(ctx, scores) else None


def _rule(ctx: Rewriter, var: Expr, value: Expr) -> Expr | None:
    for rule in (_product, _scale_of_views, _softmax):
        found = rule(ctx, var, value)
        if found is not None:
            return found
    return None


@tvm.transform.module_pass(opt_level=0, name="sd.SimplifyAttention")
class SimplifyAttention:
    """Bring attention to matmul, scale, softmax, matmul; usable in any ``tvm.transform.Sequential``.

    Frameworks scale both operands of the first product; the scale moves behind it, where it costs nothing. A
    softmax that guards against rows without any score loses its guard where there is no such row.
    """

    def transform_module(self, mod: IRModule, _context: Any) -> IRModule:
        """The pass."""
        return rewrite(mod, _rule)
