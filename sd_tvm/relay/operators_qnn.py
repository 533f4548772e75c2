"""Quantised operators, in the integers that Relay computes.

Scales and zero points have to be constants, as Relay's own lowering requires for ``requantize``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sd_tvm._tvm import relax
from sd_tvm.relay.attrs import Attr, dtype, integer, number, text
from sd_tvm.relay.fixedpoint import decompose, multiply, multiply_along
from sd_tvm.relay.graph import Array
from sd_tvm.relay.operators_conv import (
    BATCH_MATMUL_ATTRS,
    CONV2D_ATTRS,
    DENSE_ATTRS,
    TRANSPOSE2D_ATTRS,
    convolve2d,
    data_in,
    data_out,
    deconvolve2d,
    product,
    transposed_kernel,
)
from sd_tvm.relay.operators_elementwise import clamp, half_away
from sd_tvm.relay.site import Expr, Operator, Site

_FLOATS = ("float32", "float64")


@dataclass(frozen=True)
class QParams:
    """Scale and zero point: one each, or one for each index of an axis."""

    scale: Array
    zero: Array

    def same(self, other: QParams) -> bool:
        """Whether both are single numbers and equal."""
        return (
            self.scale.ndim == self.zero.ndim == other.scale.ndim == other.zero.ndim == 0
            and self.scale == other.scale
            and self.zero == other.zero
        )


def qparams(s: Site, scale: int, zero: int) -> QParams:
    """Quantisation in two operands."""
    return QParams(s.constant(scale, "a scale"), s.constant(zero, "a zero point"))


def along(s: Site, values: Array, axis: int, rank: int) -> Array:
    """Values that broadcast along an axis; one value stays one."""
    if values.size == 1:
        return values.reshape(())
    if values.ndim != 1:
        raise s.fail(f"scales or zero points of shape {list(values.shape)}", "one, or one for each channel")
    return values.reshape([-1 if d == axis % rank else 1 for d in range(rank)])


def centred(s: Site, value: Expr, zero: Array, kind: str = "int32") -> Expr:
    """An int32 value minus its zero point; constants at once."""
    wide = s.cast(value, kind)
    if not zero.any():
        return wide
    known = s.maybe_constant(wide)
    if known is not None:
        return s.const(known - zero.astype(kind))
    return s.emit(relax.op.subtract(wide, s.const(zero.astype(kind))))


def limited(s: Site, value: Expr, kind: str) -> Expr:
    """An int32 (or float) value in an 8-bit (or other) type, clipped."""
    info = np.iinfo(kind)
    value = s.emit(value)
    if s.dtype(value) == kind:
        return value
    return s.cast(s.emit(clamp(s, value, info.min, info.max)), kind)


def requantize(
    s: Site,
    value: Expr,
    source: QParams,
    target: QParams,
    kind: str,
    axis: int = -1,
    rounding: str = "UPWARD",
    compute: str = "int64",
) -> Expr:
    """Integers on another scale, as ``qnn.requantize`` computes them."""
    rank = len(s.shape(value))
    if target.scale.ndim or target.zero.ndim:
        raise s.fail("an output scale or zero point for each channel", "one for all")
    zero = along(s, source.zero, axis, rank)
    factors = source.scale.astype(np.float64) / float(target.scale)
    if compute in _FLOATS:
        return _requantize_float(
            s, value, zero, along(s, factors, axis, rank), target, kind, rounding, compute
        )
    whole = centred(s, value, zero)
    how: Any = rounding
    if source.scale.ndim:
        shape = along(s, factors, axis, rank).shape
        parts = [decompose(float(f)) for f in factors.reshape(-1)]
        whole = multiply_along(s, whole, parts, shape, how)
    elif source.scale != target.scale:
        whole = multiply(s, whole, decompose(float(factors)), how)
    if target.zero:
        whole = relax.op.add(s.const(target.zero.astype("int32")), whole)
    return limited(s, whole, kind)


def _requantize_float(
    s: Site, value: Expr, zero: Array, factor: Array, target: QParams, kind: str, rounding: str, compute: str
) -> Expr:
    real = centred(s, value, zero, compute)
    if factor.ndim or factor != 1:
        real = s.emit(relax.op.multiply(real, s.const(factor.astype(compute))))
    if target.zero:
        real = s.emit(relax.op.add(real, s.const(target.zero.astype(compute))))
    if rounding == "TONEAREST":
        rounded = half_away(s, real)
    else:
        rounded = s.emit(relax.op.floor(relax.op.add(real, s.const(0.5, compute))))
    return limited(s, s.cast(rounded, "int32"), kind)


def _requantize(s: Site) -> Expr:
    rounding, compute = s.attr("rounding"), s.attr("compute_dtype")
    rounding = "UPWARD" if rounding in ("None", "") else rounding
    compute = "int64" if compute in ("None", "") else compute
    if rounding not in ("UPWARD", "TONEAREST"):
        raise s.fail(f"rounding {rounding!r}", "UPWARD or TONEAREST")
    if compute not in ("int64", *_FLOATS):
        raise s.fail(f"compute_dtype {compute!r}", f"int64, {' or '.join(_FLOATS)}")
    kind = s.attr("out_dtype") or "int8"
    return requantize(s, s[0], qparams(s, 1, 2), qparams(s, 3, 4), kind, s.attr("axis"), rounding, compute)


def quantize(s: Site, value: Expr, q: QParams, kind: str, axis: int = -1) -> Expr:
    """Real numbers as integers: rounded, halves away from zero."""
    rank = len(s.shape(value))
    scale = s.const(along(s, q.scale, axis, rank).astype("float32"))
    real = half_away(s, relax.op.divide(value, scale))
    zero = along(s, q.zero, axis, rank)
    real = relax.op.add(real, s.const(zero.astype("float32")))
    info = np.iinfo(kind)
    return s.cast(s.emit(relax.op.clip(real, float(info.min), float(info.max))), kind)


def dequantize(s: Site, value: Expr, q: QParams, axis: int = -1) -> Expr:
    """Integers as real numbers."""
    rank = len(s.shape(value))
    whole = centred(s, value, along(s, q.zero, axis, rank))
    scale = along(s, q.scale, axis, rank).astype("float32")
    return s.emit(relax.op.multiply(s.cast(whole, "float32"), s.const(scale)))


def _quantize(s: Site) -> Expr:
    return quantize(s, s[0], qparams(s, 1, 2), s.attr("out_dtype") or "int8", s.attr("axis"))


def _dequantize(s: Site) -> Expr:
    value = dequantize(s, s[0], qparams(s, 1, 2), s.attr("axis"))
    return s.cast(value, s.attr("out_dtype") or "float32")


def _check_sum(s: Site) -> None:
    if s.attr("out_dtype") not in ("", "int32"):
        raise s.fail(f"out_dtype {s.attr('out_dtype')}", "int32")


def _conv2d(s: Site) -> Expr:
    _check_sum(s)
    zero, kernel_zero = s.constant(2, "a zero point"), s.constant(3, "a zero point")
    if zero.size != 1:
        raise s.fail("an input zero point for each channel", "one for all")
    at = str(s.attr("kernel_layout")).find("O")
    data = centred(s, data_in(s), zero.reshape(()))
    weight = centred(s, s[1], along(s, kernel_zero, at, 4))
    # padding is the zero point, which is 0 once it is subtracted
    return data_out(s, convolve2d(s, data, weight))


def _conv2d_transpose(s: Site) -> Expr:
    _check_sum(s)
    zero, kernel_zero = s.constant(2, "a zero point"), s.constant(3, "a zero point")
    data = data_in(s)
    at = transposed_kernel(s, s.shape(data)[1]).find("O")
    data = centred(s, data, zero.reshape(()))
    return data_out(s, deconvolve2d(s, data, centred(s, s[1], along(s, kernel_zero, at, 4))))


def _dense(s: Site) -> Expr:
    _check_sum(s)
    data = centred(s, s[0], along(s, s.constant(2, "a zero point"), -1, 2))
    weight = centred(s, s[1], along(s, s.constant(3, "a zero point"), 0, 2))
    return product(s, data, weight, False, True)


def _batch_matmul(s: Site) -> Expr:
    _check_sum(s)
    a, b = (centred(s, s[k], along(s, s.constant(k + 2, "a zero point"), -1, 3)) for k in range(2))
    return product(s, a, b, s.attr("transpose_a"), s.attr("transpose_b"))


def _aligned(s: Site, k: int, target: QParams) -> Expr:
    """An operand of a sum on the scale of the result, int32."""
    q = qparams(s, 2 + 2 * k, 3 + 2 * k)
    if q.same(target):
        return s.cast(s[k], "int32")
    return requantize(s, s[k], q, target, "int32", s.attr(("lhs_axis", "rhs_axis")[k]))


def _sum(function: Callable[..., Any], back: Callable[..., Any]) -> Callable[[Site], Expr]:
    """A sum or difference; ``back`` leaves one zero point in the result."""

    def build(s: Site) -> Expr:
        target = qparams(s, 6, 7)
        value = function(_aligned(s, 0, target), _aligned(s, 1, target))
        if target.zero:
            value = back(value, s.const(target.zero.astype("int32")))
        return limited(s, value, s.dtype(0))

    return build


def _mul(s: Site) -> Expr:
    a, b = qparams(s, 2, 3), qparams(s, 4, 5)
    if a.scale.size != 1 or b.scale.size != 1:
        raise s.fail("a scale for each channel", "one for all")
    value = s.emit(
        relax.op.multiply(
            centred(s, s[0], along(s, a.zero, -1, len(s.shape(0)))),
            centred(s, s[1], along(s, b.zero, -1, len(s.shape(1)))),
        )
    )
    scale = (a.scale.astype("float32") * b.scale.astype("float32")).reshape(())
    source = QParams(np.asarray(scale, "float32"), np.zeros((), "int32"))
    return requantize(s, value, source, qparams(s, 6, 7), s.dtype(0))


def _concatenate(s: Site) -> Expr:
    target = qparams(s, 3, 4)
    parts = []
    for value, scale, zero in zip(s.tensors(0), s.tensors(1), s.tensors(2), strict=True):
        q = QParams(s.constant(scale, "a scale"), s.constant(zero, "a zero point"))
        parts.append(value if q.same(target) else requantize(s, value, q, target, s.dtype(value)))
    return relax.op.concat(parts, s.attr("axis") % len(s.shape(parts[0])))


def _real(function: Callable[..., Any]) -> Callable[[Site], Expr]:
    """An operator that Relay computes in float32 between two quantisations."""

    def build(s: Site) -> Expr:
        real = s.emit(function(s, dequantize(s, s[0], qparams(s, 1, 2))))
        return quantize(s, real, qparams(s, 3, 4), s.dtype(0))

    return build


def _hardswish(s: Site, x: Expr) -> Expr:
    gate = relax.op.clip(relax.op.add(x, s.const(3.0, "float32")), 0.0, 6.0)
    return relax.op.divide(relax.op.multiply(x, gate), s.const(6.0, "float32"))


def _leaky_relu(s: Site) -> Expr:
    if len(s.args) > 3:
        raise s.fail("an output scale", "the input's")
    q, alpha = qparams(s, 1, 2), s.attr("alpha")
    value, zero = s.cast(s[0], "int32"), q.zero.reshape(()).astype("int32")
    point = s.const(zero)
    below = relax.op.add(multiply(s, value, decompose(alpha)), multiply(s, point, decompose(1 - alpha)))
    return limited(s, relax.op.where(relax.op.less(value, point), below, value), s.dtype(0))


_UNARY = {
    name: (lambda function: lambda _s, x: function(x))(getattr(relax.op, name))
    for name in ("tanh", "sigmoid", "exp", "sqrt", "rsqrt", "erf", "log", "abs")
}
_AXES: dict[str, Attr] = {"lhs_axis": integer(-1), "rhs_axis": integer(-1)}
_SUM_AXES = ("lhs_axis", "rhs_axis")
ROWS: tuple[Operator, ...] = (
    Operator(
        "qnn.quantize", _quantize, {"axis": integer(-1), "out_dtype": dtype()}, data=(0,), axes=("axis",)
    ),
    Operator(
        "qnn.dequantize",
        _dequantize,
        {"axis": integer(-1), "out_dtype": dtype("float32")},
        data=(0,),
        axes=("axis",),
    ),
    Operator(
        "qnn.requantize",
        _requantize,
        {
            "axis": integer(-1),
            "rounding": text("None"),
            "compute_dtype": text("None"),
            "out_dtype": dtype(),
        },
        data=(0,),
        axes=("axis",),
    ),
    Operator("qnn.conv2d", _conv2d, CONV2D_ATTRS, weights=(1, 2, 3, 4, 5)),
    Operator("qnn.conv2d_transpose", _conv2d_transpose, TRANSPOSE2D_ATTRS, weights=(1, 2, 3, 4, 5)),
    Operator("qnn.dense", _dense, DENSE_ATTRS, weights=(1, 2, 3, 4, 5)),
    Operator("qnn.batch_matmul", _batch_matmul, BATCH_MATMUL_ATTRS),
    Operator("qnn.add", _sum(relax.op.add, relax.op.subtract), _AXES, data=(0, 1), axes=_SUM_AXES),
    Operator("qnn.subtract", _sum(relax.op.subtract, relax.op.add), _AXES, data=(0, 1), axes=_SUM_AXES),
    Operator("qnn.mul", _mul, _AXES, data=(0, 1), axes=_SUM_AXES),
    Operator("qnn.concatenate", _concatenate, {"axis": integer(0)}, data=(0,), axes=("axis",)),
    *(Operator(f"qnn.{name}", _real(function), {}, data=(0,)) for name, function in _UNARY.items()),
    Operator("qnn.hardswish", _real(_hardswish), {}, data=(0,)),
    Operator("qnn.leaky_relu", _leaky_relu, {"alpha": number(0.25)}, data=(0,)),
)
