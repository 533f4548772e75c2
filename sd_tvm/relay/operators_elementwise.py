"""Operators that treat every element alike, and constants."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from sd_tvm._tvm import relax
from sd_tvm.relay.attrs import dtype, expression, integer, number, ref
from sd_tvm.relay.fixedpoint import multiply
from sd_tvm.relay.site import Expr, Operator, Site

#: Operators of one operand that Relax has too.
_UNARY = {
    **{
        name: getattr(relax.op, name)
        for name in (
            *("abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "ceil", "cos", "cosh", "erf", "exp"),
            *(
                "floor",
                "isfinite",
                "isinf",
                "isnan",
                "log",
                "negative",
                "rsqrt",
                "sigmoid",
                "sign",
                "sin",
                "sinh",
            ),
            *("sqrt", "tan", "tanh", "trunc", "logical_not", "bitwise_not"),
        )
    },
    "nn.relu": relax.op.nn.relu,
}
#: Operators that change nothing in inference.
_IDENTITY = ("copy", "annotation.stop_fusion")
#: Operators of two operands that Relax has too.
_BINARY = (
    *("add", "subtract", "multiply", "divide", "power", "maximum", "minimum", "floor_divide", "floor_mod"),
    *("equal", "not_equal", "greater", "greater_equal", "less", "less_equal"),
    *("logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor"),
    *("left_shift", "right_shift"),
)
_FULL = {"shape": ref(None), "dtype": dtype()}


def _unary(function: Callable[..., Any]) -> Callable[[Site], Expr]:
    return lambda s: function(s[0])


def _binary(function: Callable[..., Any]) -> Callable[[Site], Expr]:
    return lambda s: function(s[0], s[1])


def half_away(s: Site, value: Expr) -> Expr:
    """Nearest integer, halves away from zero (Relax rounds them to even)."""
    value = s.emit(value)
    kind = str(value.ty.dtype)
    whole = s.emit(relax.op.trunc(value))
    rest = s.emit(relax.op.subtract(value, whole))  # exact
    up = relax.op.astype(relax.op.greater_equal(rest, s.const(0.5, kind)), kind)
    down = relax.op.astype(relax.op.less_equal(rest, s.const(-0.5, kind)), kind)
    return s.emit(relax.op.add(whole, relax.op.subtract(up, down)))


def clamp(s: Site, value: Expr, low: float, high: float) -> Expr:
    """Values limited to [low, high]."""
    kind = s.dtype(value)
    if kind.startswith("float"):
        return relax.op.clip(value, low, high)
    info = np.iinfo(kind)
    lo = int(info.min) if low <= info.min else math.ceil(low)
    hi = int(info.max) if high >= info.max else math.floor(high)
    if (lo, hi) == (info.min, info.max):
        return value
    return relax.op.minimum(s.emit(relax.op.maximum(value, s.const(lo, kind))), s.const(hi, kind))


def _clip(s: Site) -> Expr:
    return clamp(s, s[0], s.attr("a_min"), s.attr("a_max"))


def _cast(s: Site) -> Expr:
    return s.cast(s[0], s.attr("dtype"))


def _logarithm(base: float) -> Callable[[Site], Expr]:
    return lambda s: relax.op.multiply(relax.op.log(s[0]), s.const(1 / math.log(base), s.dtype(0)))


def _leaky_relu(s: Site) -> Expr:
    return relax.op.nn.leakyrelu(s[0], s.attr("alpha"))


def _prelu(s: Site) -> Expr:
    rank, axis, n = len(s.shape(0)), s.axis(), s.shape(1)[0]
    slope = s.reshape(s[1], [n if d == axis else 1 for d in range(rank)])
    zero = s.const(0, s.dtype(0))
    return relax.op.add(relax.op.maximum(s[0], zero), relax.op.multiply(slope, relax.op.minimum(s[0], zero)))


def _where(s: Site) -> Expr:
    return relax.op.where(s.cast(s[0], "bool"), s[1], s[2])


def _truncated_mod(s: Site) -> Expr:
    if s.dtype(0).startswith("float"):
        raise s.fail("floating-point operands", "integers", "use floor_mod")
    quotient = relax.op.divide(s[0], s[1])  # towards zero
    return relax.op.subtract(s[0], relax.op.multiply(quotient, s[1]))


def _filled(value: float) -> Callable[[Site], Expr]:
    return lambda s: relax.op.full(s.ints("shape"), s.const(value, s.attr("dtype")), s.attr("dtype"))


def _full(s: Site) -> Expr:
    kind = s.attr("dtype") or s.dtype(0)
    return relax.op.full(s.ints("shape"), s.cast(s[0], kind), kind)


def _filled_like(value: float | None) -> Callable[[Site], Expr]:
    def build(s: Site) -> Expr:
        kind = s.dtype(0)
        fill = s.cast(s[1], kind) if value is None else s.const(value, kind)
        return relax.op.full(s.shape(0), fill, kind)

    return build


def _arange(s: Site) -> Expr:
    start, stop, step = (s.constant(k, "a bound").item() for k in range(3))
    if step == 0:
        raise s.fail("a step of 0", "another step")
    return s.const(np.arange(start, stop, step, dtype=s.attr("dtype")))


def _dropout(s: Site) -> tuple[Expr, ...]:
    return (s[0], relax.op.ones_like(s[0]))


def _fixed_point(s: Site) -> Expr:
    return multiply(s, s[0], (s.attr("multiplier"), s.attr("shift")))


_BOTH = (0, 1)
ROWS: tuple[Operator, ...] = (
    *(Operator(name, _unary(function), {}, data=(0,)) for name, function in _UNARY.items()),
    *(Operator(name, lambda s: s[0], {}, data=(0,)) for name in _IDENTITY),
    *(Operator(name, _binary(getattr(relax.op, name)), {}, data=_BOTH) for name in _BINARY),
    Operator("round", lambda s: half_away(s, s[0]), {}, data=(0,)),
    Operator("log2", _logarithm(2), {}, data=(0,)),
    Operator("log10", _logarithm(10), {}, data=(0,)),
    Operator("mod", _truncated_mod, {}, data=_BOTH),
    Operator("clip", _clip, {"a_min": number(), "a_max": number()}, data=(0,)),
    Operator("cast", _cast, {"dtype": dtype()}, data=(0,)),
    Operator("cast_like", lambda s: s.cast(s[0], s.dtype(1)), {}, data=(0,)),
    Operator("nn.leaky_relu", _leaky_relu, {"alpha": number(0.25)}, data=(0,)),
    Operator("nn.prelu", _prelu, {"axis": integer(1)}, weights=(1,), data=(0,), axes=("axis",)),
    Operator("where", _where, {}),
    Operator("zeros", _filled(0), _FULL),
    Operator("ones", _filled(1), _FULL),
    Operator("full", _full, _FULL),
    Operator("zeros_like", _filled_like(0), {}),
    Operator("ones_like", _filled_like(1), {}),
    Operator("full_like", _filled_like(None), {}),
    Operator(
        "arange",
        _arange,
        {"start": expression(), "stop": expression(), "step": expression(), "dtype": dtype("float32")},
    ),
    Operator("nn.dropout", _dropout, {"rate": number(0.5)}),
    Operator("fixed_point_multiply", _fixed_point, {"multiplier": integer(), "shift": integer()}, data=(0,)),
)
