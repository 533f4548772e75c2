"""The qnn dialect."""

from __future__ import annotations

from registry import NHWC, X, case, const, simple
from tvm import relay

Q = relay.qnn.op


def f(v):
    return const(v, "float32")


def i(v):
    return const(v, "int32")


simple("qnn.quantize", lambda x: Q.quantize(x, f(0.013), i(3), out_dtype="uint8"), x=X)
simple("qnn.quantize-halves", lambda x: Q.quantize(x, f(0.5), i(-4), out_dtype="int8"), x=("halves", X))
simple(
    "qnn.quantize-channels",
    lambda x: Q.quantize(x, f([0.01, 0.02, 0.03, 0.04]), i([0, 1, 2, 3]), axis=1, out_dtype="int8"),
    x=X,
)
simple("qnn.dequantize", lambda x: Q.dequantize(x, f(0.013), i(3)), x=("uint8", X))
simple(
    "qnn.dequantize-channels",
    lambda x: Q.dequantize(x, f([0.01, 0.02, 0.03, 0.04]), i([0, 0, 0, 0]), axis=1),
    x=("int32", X),
)


def requantize(name, kind="int32", scale=0.3, zero=3, out=0.7, out_zero=5, **options):
    simple(name, lambda x: Q.requantize(x, f(scale), i(zero), f(out), i(out_zero), **options), x=(kind, X))


requantize("qnn.requantize", out_dtype="int8")
requantize("qnn.requantize-nearest", rounding="TONEAREST", out_dtype="int8")
requantize("qnn.requantize-up", scale=1.7, out=0.01, out_dtype="int32")
requantize("qnn.requantize-half", scale=0.25, zero=0, out=1.0, out_dtype="uint8")
requantize("qnn.requantize-double", scale=1.0, zero=0, out=0.25, out_dtype="int32")
requantize("qnn.requantize-same", kind="uint8", scale=0.7, out_dtype="int8")
requantize("qnn.requantize-float", compute_dtype="float32", out_dtype="int8")
requantize("qnn.requantize-float-nearest", compute_dtype="float32", rounding="TONEAREST", out_dtype="int8")
CHANNELS = {"scale": [0.1, 0.7, 0.3, 1.7], "zero": [0, 0, 0, 0], "axis": 1}
requantize("qnn.requantize-channels", out_dtype="int8", **CHANNELS)
requantize("qnn.requantize-channels-nearest", rounding="TONEAREST", out_dtype="uint8", **CHANNELS)


def qconv(name, shape, weight, n, kind="uint8", layout=("NCHW", "OIHW"), zero=(7, 0), **options):
    @case(name, x=(kind, shape))
    def _(r, x):
        w = const(r.randint(-127, 128, size=weight), "int8")
        y = Q.conv2d(
            x,
            w,
            i(zero[0]),
            i(zero[1]),
            f(0.02),
            f(r.uniform(0.001, 0.01, n)) if n > 1 else f(0.005),
            kernel_size=(3, 3),
            data_layout=layout[0],
            kernel_layout=layout[1],
            **options,
        )
        axis = layout[0].index("C")
        y = relay.nn.bias_add(y, const(r.randint(-500, 500, size=options["channels"]), "int32"), axis=axis)
        scale = f(r.uniform(0.0001, 0.0009, n)) if n > 1 else f(0.0004)
        zeros = i([0] * n) if n > 1 else i(0)
        y = Q.requantize(y, scale, zeros, f(0.09), i(11), axis=axis, out_dtype="uint8")
        return relay.clip(y, 11.0, 200.0)


qconv("qnn.conv2d", X, (6, 4, 3, 3), 6, channels=6, padding=(1, 1))
qconv("qnn.conv2d-tensor", X, (6, 4, 3, 3), 1, channels=6, strides=(2, 2), padding=(1, 1))
qconv("qnn.conv2d-zero", X, (6, 4, 3, 3), 1, kind="int8", zero=(-3, 5), channels=6, padding=(1, 1))
qconv("qnn.conv2d-depthwise", X, (4, 1, 3, 3), 4, channels=4, groups=4, padding=(1, 1))
qconv("qnn.conv2d-nhwc", NHWC, (3, 3, 4, 6), 6, layout=("NHWC", "HWIO"), channels=6, padding=(1, 1))
qconv("qnn.conv2d-nhwc-depthwise", NHWC, (3, 3, 4, 1), 4, layout=("NHWC", "HWOI"), channels=4, groups=4)


@case("qnn.conv2d_transpose", x=("uint8", X))
def _(r, x):
    w = const(r.randint(-127, 128, size=(4, 4, 4, 4)), "int8")
    y = Q.conv2d_transpose(
        x,
        w,
        i(7),
        i(0),
        f(0.02),
        f(0.005),
        channels=4,
        kernel_size=(4, 4),
        strides=(2, 2),
        padding=(1, 1),
        out_dtype="int32",
    )
    return Q.requantize(y, f(0.0001), i(0), f(0.09), i(11), out_dtype="uint8")


@case("qnn.dense", x=("uint8", (3, 8)))
def _(r, x):
    w = const(r.randint(-127, 128, size=(5, 8)), "int8")
    y = Q.dense(x, w, i(7), i(2), f(0.02), f(0.005), units=5)
    return Q.requantize(y, f(0.0001), i(0), f(0.09), i(11), out_dtype="uint8")


@case("qnn.batch_matmul", x=("int8", (2, 3, 8)), y=("int8", (2, 5, 8)))
def _(r, x, y):
    return Q.batch_matmul(x, y, i(3), i(-2), f(0.02), f(0.005))


def qbinary(name, function, **options):
    a, b, c = (f(0.021), i(3)), (f(0.037), i(130)), (f(0.05), i(77))
    simple(name, lambda x, y: function(x, y, *a, *b, *c), x=("uint8", X), y=("uint8", X))


qbinary("qnn.add", Q.add)
qbinary("qnn.subtract", Q.subtract)
qbinary("qnn.mul", Q.mul)
simple(
    "qnn.add-same",
    lambda x, y: Q.add(x, y, f(0.05), i(-3), f(0.1), i(4), f(0.05), i(-3)),
    x=("int8", X),
    y=("int8", X),
)
simple(
    "qnn.concatenate",
    lambda x, y: Q.concatenate((x, y), (f(0.02), f(0.05)), (i(3), i(4)), f(0.05), i(4), 1),
    x=("uint8", X),
    y=("uint8", X),
)
for _name in ("tanh", "sigmoid", "exp", "sqrt", "rsqrt", "erf", "log", "abs", "hardswish"):
    simple(
        f"qnn.{_name}",
        lambda x, n=_name: getattr(Q, n)(
            x, f(0.031), i(0 if n in ("sqrt", "rsqrt", "log") else 120), f(0.02), i(9)
        ),
        x=("uint8+", X),
    )
simple("qnn.leaky_relu", lambda x: Q.leaky_relu(x, 0.1, f(0.02), i(120)), x=("uint8", X))
