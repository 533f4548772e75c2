"""Operators of one value or of two, and reductions."""

from __future__ import annotations

from registry import X, case, const, simple
from tvm import relay

UNARY = (
    *("abs", "atan", "ceil", "cos", "cosh", "erf", "exp", "floor", "isfinite", "isinf", "isnan", "negative"),
    *(
        "sigmoid",
        "sign",
        "sin",
        "sinh",
        "tan",
        "tanh",
        "trunc",
        "asinh",
        "round",
        "copy",
        "annotation.stop_fusion",
    ),
    *("nn.relu", "nn.leaky_relu", "nn.softmax", "nn.log_softmax", "nn.fast_softmax", "nn.batch_flatten"),
    *("nn.global_avg_pool2d", "nn.global_max_pool2d", "zeros_like", "ones_like", "shape_of", "ndarray_size"),
)
POSITIVE = ("log", "log2", "log10", "rsqrt", "sqrt")
UNIT = ("acos", "asin", "atanh")
BINARY = (
    *("add", "subtract", "multiply", "maximum", "minimum", "floor_divide", "floor_mod", "divide"),
    *("equal", "not_equal", "greater", "greater_equal", "less", "less_equal"),
)
REDUCE = ("sum", "mean", "max", "min", "prod")


def op(name):
    found = relay.op
    if name == "annotation.stop_fusion":
        return relay.annotation.stop_fusion
    if name in ("nn.fast_softmax",):
        return relay.op.nn.fast_softmax
    for part in name.split("."):
        found = getattr(found, part)
    return found


for _name in UNARY:
    simple(_name, op(_name), x=X)
for _name in POSITIVE:
    simple(_name, op(_name), x=("positive", X))
for _name in UNIT:
    simple(_name, op(_name), x=("unit", X))
simple("acosh", lambda x: relay.acosh(x + const(1.5)), x=("positive", X))
for _name in BINARY:
    simple(_name, op(_name), x=("small", X), y=("positive", (4, 1, 1)))
simple("power", relay.power, x=("positive", X), y=(4, 1, 1))
for _name in ("logical_and", "logical_or", "logical_xor"):
    simple(_name, op(_name), x=("bool", X), y=("bool", (5,)))
simple("logical_not", relay.logical_not, x=("bool", X))
for _name in ("bitwise_and", "bitwise_or", "bitwise_xor"):
    simple(_name, op(_name), x=("int32", X), y=("int32", (5,)))
simple("bitwise_not", relay.bitwise_not, x=("int32", X))
simple("left_shift", lambda x: relay.left_shift(x, const(3, "int32")), x=("int32", X))
simple("right_shift", lambda x: relay.right_shift(x, const(2, "int32")), x=("int32", X))
simple("mod", lambda x: relay.mod(x, const(7, "int32")), x=("int32", X))
simple("divide-int", lambda x: relay.divide(x, const(7, "int32")), x=("int32", X))
for _name in REDUCE:
    simple(_name, lambda x, f=_name: op(f)(x, axis=[1, -1]), x=("unit", X))
    simple(f"{_name}-keep", lambda x, f=_name: op(f)(x, axis=2, keepdims=True, exclude=True), x=("unit", X))
simple("mean-int", lambda x: relay.mean(x, axis=[2, 3]), x=("int32", X))
for _name in ("argmax", "argmin"):
    simple(_name, lambda x, f=_name: op(f)(x, axis=1, keepdims=True), x=X)
for _name in ("all", "any"):
    simple(_name, lambda x, f=_name: op(f)(x, axis=1), x=("bool", X))
simple("variance", lambda x: relay.variance(x, axis=[1]), x=X)
simple("clip", lambda x: relay.clip(x, -0.4, 0.75), x=X)
simple("clip-int", lambda x: relay.clip(x, -20.0, 77.0), x=("int8", X))
simple("cast", lambda x: relay.cast(x, "int32"), x=("small", X))
simple("cast_like", relay.cast_like, x=("small", X), y=("int32", X))
simple("where", lambda c, x, y: relay.where(c, x, y), c=("bool", X), x=X, y=X)
simple("zeros", lambda x: x + relay.zeros((5,), "float32"), x=X)
simple("ones", lambda x: x + relay.ones((5,), "float32"), x=X)
simple("full", lambda x: x + relay.full(const(2.5), (5,), "float32"), x=X)
simple("full_like", lambda x: relay.full_like(x, const(1.25)), x=X)
simple("arange", lambda x: x + relay.arange(const(1.0), const(6.0), const(1.0)), x=X)
simple("nn.dropout", lambda x: relay.nn.dropout(x, 0.3), x=X)
simple("fixed_point_multiply", lambda x: relay.fixed_point_multiply(x, 1395864371, -2), x=("int32", X))
simple("fixed_point_multiply-half", lambda x: relay.fixed_point_multiply(x, 1 << 30, -2), x=("int32", X))


@case("nn.prelu", x=X)
def _(r, x):
    return relay.nn.prelu(x, const(r.uniform(0.1, 0.5, 4)))
