"""Make ``operators-*.json.xz``: one small Relay function for every operator, with Relay's own results.

Run it in an environment with a TVM that has Relay (Python 3.10; the two that made the files here):

    pip install hhb-tvm==3.2.3 tqdm tflite pytest        # Relay of TVM 0.16.dev0
    pip install hhb-tvm==2.11.4 numpy==1.23.5 tqdm tflite pytest   # Relay of TVM 0.9.dev0
    python make_operators.py OUTPUT.json.xz

Every case holds the module as JSON and as text, its inputs and what Relay's llvm target gives for them.
Cases that a version of Relay does not have are listed in ``missing`` with the reason.
"""

from __future__ import annotations

import ast
import base64
import json
import lzma
import sys
import zlib
from pathlib import Path

import detection
import numpy as np
import tvm
from tvm import relay
from tvm.contrib import graph_executor

TARGET = "llvm -mtriple=x86_64-linux-gnu"
CASES = {}
if tvm.__version__.startswith("0.9"):
    # its hybrid scripts (NMS and others) know indices as Python had them until 3.8
    from tvm.te.hybrid import parser

    def subscript(self, node, old=parser.HybridParser.visit_Subscript):
        if not isinstance(node.slice, ast.Tuple):
            node.slice = ast.Tuple([node.slice], ast.Load())
        return old(self, node)

    parser.HybridParser.visit_Subscript = subscript


def case(name, **inputs):
    """Register a function that gets variables and a random generator; inputs are shapes or arrays."""

    def register(function):
        CASES[name] = (function, inputs)
        return function

    return register


def rng(name):
    return np.random.RandomState(zlib.crc32(name.encode()))


def const(value, dtype="float32"):
    return relay.const(np.asarray(value, dtype=dtype))


X = (1, 4, 6, 5)
NHWC = (1, 6, 5, 4)
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


def simple(name, function, **inputs):
    CASES[name] = (lambda r, **v: function(*v.values()), inputs)


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


# -- convolutions -------------------------------------------------------------------------------------------


def conv(name, shape, weight, **options):
    @case(name, x=shape)
    def _(r, x):
        return relay.nn.conv2d(x, const(r.normal(size=weight)), **options)


K3 = {"kernel_size": (3, 3)}
conv("nn.conv2d", X, (6, 4, 3, 3), channels=6, padding=(1, 1), **K3)
conv("nn.conv2d-strided", X, (6, 4, 3, 3), channels=6, strides=(2, 1), padding=(1, 0, 2, 1), **K3)
conv("nn.conv2d-dilated", X, (6, 4, 3, 3), channels=6, dilation=(2, 1), **K3)
conv("nn.conv2d-groups", X, (6, 2, 3, 3), channels=6, groups=2, **K3)
conv("nn.conv2d-depthwise", X, (4, 1, 3, 3), channels=4, groups=4, padding=(1, 1), **K3)
conv("nn.conv2d-multiplier", X, (4, 2, 3, 3), channels=8, groups=4, **K3)
conv("nn.conv2d-nhwc", NHWC, (3, 3, 4, 6), channels=6, data_layout="NHWC", kernel_layout="HWIO", **K3)
conv(
    "nn.conv2d-nhwc-depthwise",
    NHWC,
    (3, 3, 4, 1),
    channels=4,
    groups=4,
    data_layout="NHWC",
    kernel_layout="HWOI",
    **K3,
)


@case("nn.conv1d", x=(1, 4, 9))
def _(r, x):
    return relay.nn.conv1d(
        x, const(r.normal(size=(6, 4, 3))), channels=6, kernel_size=3, padding=1, strides=2
    )


@case("nn.conv3d", x=(1, 4, 5, 6, 5))
def _(r, x):
    return relay.nn.conv3d(
        x,
        const(r.normal(size=(6, 4, 3, 3, 3))),
        channels=6,
        kernel_size=(3, 3, 3),
        padding=(1, 1, 1),
        strides=(1, 2, 2),
    )


@case("nn.conv2d_transpose", x=X)
def _(r, x):
    return relay.nn.conv2d_transpose(
        x,
        const(r.normal(size=(4, 3, 4, 4))),
        channels=3,
        kernel_size=(4, 4),
        strides=(2, 2),
        padding=(1, 1),
    )


@case("nn.conv2d_transpose-outpad", x=X)
def _(r, x):
    return relay.nn.conv2d_transpose(
        x,
        const(r.normal(size=(4, 4, 3, 3))),
        channels=4,
        kernel_size=(3, 3),
        strides=(2, 2),
        padding=(1, 1),
        output_padding=(1, 1),
    )


@case("nn.dense", x=(3, 8))
def _(r, x):
    return relay.nn.dense(x, const(r.normal(size=(5, 8))), units=5)


@case("nn.matmul", x=(3, 8))
def _(r, x):
    return relay.nn.matmul(x, const(r.normal(size=(8, 5))), units=5)


simple("nn.batch_matmul", relay.nn.batch_matmul, x=(2, 3, 8), y=(2, 5, 8))
simple(
    "nn.batch_matmul-plain",
    lambda x, y: relay.nn.batch_matmul(x, y, transpose_b=False),
    x=(2, 3, 8),
    y=(2, 8, 5),
)


@case("nn.bias_add", x=X)
def _(r, x):
    return relay.nn.bias_add(x, const(r.normal(size=4)))


@case("nn.bias_add-last", x=NHWC)
def _(r, x):
    return relay.nn.bias_add(x, const(r.normal(size=4)), axis=-1)


# -- pooling ------------------------------------------------------------------------------------------------

P3 = {"pool_size": (3, 3), "strides": (2, 2)}
simple("nn.max_pool2d", lambda x: relay.nn.max_pool2d(x, padding=(1, 1), **P3), x=X)
simple("nn.max_pool2d-ceil", lambda x: relay.nn.max_pool2d(x, ceil_mode=True, **P3), x=X)
simple("nn.max_pool2d-nhwc", lambda x: relay.nn.max_pool2d(x, layout="NHWC", **P3), x=NHWC)
simple("nn.max_pool2d-int8", lambda x: relay.nn.max_pool2d(x, padding=(1, 1), **P3), x=("int8", X))
simple("nn.avg_pool2d", lambda x: relay.nn.avg_pool2d(x, padding=(1, 1), **P3), x=X)
simple(
    "nn.avg_pool2d-count", lambda x: relay.nn.avg_pool2d(x, padding=(1, 1), count_include_pad=True, **P3), x=X
)
simple("nn.avg_pool2d-ceil", lambda x: relay.nn.avg_pool2d(x, ceil_mode=True, **P3), x=X)
simple("nn.avg_pool2d-int", lambda x: relay.nn.avg_pool2d(x, **P3), x=("int32", X))
simple("nn.max_pool1d", lambda x: relay.nn.max_pool1d(x, (3,), (2,)), x=(1, 4, 9))
simple("nn.avg_pool1d", lambda x: relay.nn.avg_pool1d(x, (3,), (2,)), x=(1, 4, 9))
P333 = {"pool_size": (3, 3, 3), "strides": (2, 2, 2)}
CUBE = (1, 4, 5, 6, 5)
simple("nn.max_pool3d", lambda x: relay.nn.max_pool3d(x, padding=(1, 1, 1), **P333), x=CUBE)
simple("nn.avg_pool3d", lambda x: relay.nn.avg_pool3d(x, padding=(1, 1, 1), **P333), x=CUBE)
simple("nn.adaptive_avg_pool3d", lambda x: relay.nn.adaptive_avg_pool3d(x, (1, 1, 1)), x=CUBE)
simple("nn.adaptive_avg_pool3d-2", lambda x: relay.nn.adaptive_avg_pool3d(x, (2, 3, 2)), x=CUBE)
simple("nn.adaptive_avg_pool2d", lambda x: relay.nn.adaptive_avg_pool2d(x, (1, 1)), x=X)
simple("nn.adaptive_avg_pool2d-3x2", lambda x: relay.nn.adaptive_avg_pool2d(x, (3, 2)), x=X)
simple("nn.adaptive_max_pool2d", lambda x: relay.nn.adaptive_max_pool2d(x, (3, 1)), x=X)
simple("nn.global_avg_pool2d-nhwc", lambda x: relay.nn.global_avg_pool2d(x, "NHWC"), x=NHWC)
simple("nn.global_avg_pool2d-int", relay.nn.global_avg_pool2d, x=("int32", X))


# -- normalisation ------------------------------------------------------------------------------------------


def norm(name, function, n, shape, **options):
    @case(name, x=shape)
    def _(r, x):
        values = [const(r.normal(size=n)), const(r.normal(size=n))]
        if "batch" in name:
            values += [const(r.normal(size=n)), const(r.uniform(0.5, 2, n))]
        result = function(x, *values, **options)
        return result[0] if "batch" in name else result


norm("nn.batch_norm", relay.nn.batch_norm, 4, X, epsilon=1e-3)
norm("nn.batch_norm-last", relay.nn.batch_norm, 4, NHWC, axis=3)
norm("nn.layer_norm", relay.nn.layer_norm, 5, X)
norm("nn.instance_norm", relay.nn.instance_norm, 4, X)
norm("nn.group_norm", relay.nn.group_norm, 4, X, num_groups=2)
simple("nn.l2_normalize", lambda x: relay.nn.l2_normalize(x, 1e-6, [1]), x=X)
simple("nn.lrn", lambda x: relay.nn.lrn(x, size=3, alpha=0.5, bias=1.0, beta=0.75), x=X)


# -- shapes -------------------------------------------------------------------------------------------------

simple("reshape", lambda x: relay.reshape(x, (0, -1, 5)), x=X)
simple("reshape-special", lambda x: relay.reshape(x, (-4, 1, -1, -3, -2)), x=X)
simple("reshape_like", relay.reshape_like, x=X, y=(1, 24, 5))
simple("transpose", lambda x: relay.transpose(x, (0, 2, 3, 1)), x=X)
simple("transpose-all", lambda x: relay.transpose(x), x=X)
simple("squeeze", lambda x: relay.squeeze(x), x=(1, 4, 1, 5))
simple("squeeze-axis", lambda x: relay.squeeze(x, [2]), x=(1, 4, 1, 5))
simple("expand_dims", lambda x: relay.expand_dims(x, 1, 2), x=(3, 5))
simple("expand_dims-last", lambda x: relay.expand_dims(x, -1), x=(3, 5))
simple("concatenate", lambda x, y: relay.concatenate([x, y], 1), x=X, y=(1, 2, 6, 5))
simple("stack", lambda x, y: relay.stack([x, y], -1), x=X, y=X)
simple("split", lambda x: relay.split(x, 2, 1).astuple(), x=X)
simple("split-at", lambda x: relay.split(x, [1, 3], 2).astuple(), x=X)
simple("strided_slice", lambda x: relay.strided_slice(x, [0, 1, -3], [1, 10, -1], [1, 2, 1]), x=X)
simple("strided_slice-size", lambda x: relay.strided_slice(x, [0, 1, 2], [-1, 2, 3], slice_mode="size"), x=X)
simple("strided_slice-back", lambda x: relay.strided_slice(x, [0, 3], [1, -10], [1, -2]), x=X)
simple("strided_slice-axes", lambda x: relay.strided_slice(x, [1], [4], axes=[2]), x=X)
simple("slice_like", lambda x, y: relay.slice_like(x, y, axes=(1, 2)), x=X, y=(1, 3, 2, 5))
simple("tile", lambda x: relay.tile(x, (2, 1, 1, 3)), x=X)
simple("repeat", lambda x: relay.repeat(x, 2, 1), x=X)
simple("reverse", lambda x: relay.reverse(x, 2), x=X)
simple("broadcast_to", lambda x: relay.broadcast_to(x, (2, 4, 5)), x=(4, 1))
simple("broadcast_to_like", relay.broadcast_to_like, x=(4, 1), y=(2, 4, 5))
simple("layout_transform", lambda x: relay.layout_transform(x, "NCHW", "NHWC"), x=X)
simple("nn.pad", lambda x: relay.nn.pad(x, ((0, 0), (0, 1), (1, 2), (2, 0)), 0.5), x=X)
simple("nn.pad-edge", lambda x: relay.nn.pad(x, ((0, 0), (0, 0), (1, 2), (2, 0)), pad_mode="edge"), x=X)
simple("nn.pad-reflect", lambda x: relay.nn.pad(x, ((0, 0), (0, 0), (1, 2), (2, 0)), pad_mode="reflect"), x=X)
simple("nn.mirror_pad", lambda x: relay.nn.mirror_pad(x, ((0, 0), (0, 0), (1, 2), (2, 0))), x=X)
simple("nn.depth_to_space", lambda x: relay.nn.depth_to_space(x, 2), x=(1, 8, 3, 2))
simple("nn.depth_to_space-crd", lambda x: relay.nn.depth_to_space(x, 2, mode="CRD"), x=(1, 8, 3, 2))
simple("nn.space_to_depth", lambda x: relay.nn.space_to_depth(x, 2), x=(1, 3, 4, 6))


# -- indices ------------------------------------------------------------------------------------------------


@case("take", x=X)
def _(r, x):
    return relay.take(x, const([2, 0, 9, -1], "int32"), axis=1)


@case("take-flat", x=X)
def _(r, x):
    return relay.take(x, const([[2, 0], [9, 119]], "int32"))


@case("gather", x=(3, 4))
def _(r, x):
    return relay.gather(x, 1, const([[2, 0], [1, 1], [3, 0]], "int32"))


@case("gather_nd", x=(3, 4, 2))
def _(r, x):
    return relay.gather_nd(x, const([[0, 2, 1], [3, 1, 0]], "int32"))


@case("one_hot", x=("index", (2, 3)))
def _(r, x):
    return relay.one_hot(x, const(1.0), const(0.25), 5, -1, "float32")


simple("argsort", lambda x: relay.argsort(x, 1), x=(3, 7))
simple("argsort-down", lambda x: relay.argsort(x, 0, is_ascend=False, dtype="int64"), x=(3, 7))
simple("sort", lambda x: relay.sort(x, 1, is_ascend=False), x=(3, 7))
simple("topk", lambda x: relay.topk(x, 3, 1).astuple(), x=(3, 7))
simple("topk-values", lambda x: relay.topk(x, 2, 1, "values", True), x=(3, 7))
simple("cumsum", lambda x: relay.cumsum(x, 1), x=(3, 7))
simple("cumsum-exclusive", lambda x: relay.cumsum(x, 0, exclusive=True), x=("int32", (3, 7)))


@case("scatter_elements", x=(3, 4))
def _(r, x):
    return relay.scatter_elements(x, const([[2, 0, 1, 0]], "int64"), const(r.normal(size=(1, 4))), 0, "add")


@case("scatter_nd", x=(3, 4, 2))
def _(r, x):
    return relay.scatter_nd(x, const([[0, 2, 1], [3, 1, 0]], "int64"), const(r.normal(size=(3, 2))), "add")


@case("scatter", x=(3, 4))
def _(r, x):
    return relay.scatter(x, const([[2, 0, 1, -1]], "int64"), const(r.normal(size=(1, 4))), 0)


@case("scatter_add", x=(3, 4))
def _(r, x):
    return relay.scatter_add(x, const([[2], [0], [-1]], "int64"), const(r.normal(size=(3, 1))), 1)


@case("adv_index", x=(5, 4, 3))
def _(r, x):
    return relay.adv_index([x, const([[4], [0]], "int64"), const([1, 3, 2], "int64")])


@case("adv_index-one", x=(5, 4, 3))
def _(r, x):
    return relay.adv_index([x, const([[4, 1], [0, 2]], "int64")])


simple("meshgrid", lambda x, y: relay.meshgrid([x, y]).astuple(), x=(3,), y=(4,))
simple("meshgrid-xy", lambda x, y: relay.meshgrid([x, y], "xy").astuple(), x=(3,), y=(4,))
simple("einsum", lambda x, y: relay.einsum([x, y], "bij,bkj->bik"), x=(2, 3, 4), y=(2, 5, 4))


# -- images -------------------------------------------------------------------------------------------------


def resize(name, shape=X, size=(9, 7), **options):
    simple(name, lambda x: relay.image.resize2d(x, size, roi=(0.0,) * 4, **options), x=shape)


resize("image.resize2d")
resize("image.resize2d-align", coordinate_transformation_mode="align_corners")
resize("image.resize2d-nhwc", NHWC, layout="NHWC")
resize(
    "image.resize2d-nearest",
    method="nearest_neighbor",
    coordinate_transformation_mode="asymmetric",
    rounding_method="floor",
)
resize("image.resize2d-cubic", method="cubic", cubic_alpha=-0.75)


def sample(name, **options):
    simple(name, lambda x, y: relay.image.grid_sample(x, y, **options), x=X, y=("unit", (1, 2, 3, 4)))


sample("image.grid_sample")
sample("image.grid_sample-border", padding_mode="border", align_corners=False)
sample("image.grid_sample-nearest", method="nearest")
simple("nn.upsampling", lambda x: relay.nn.upsampling(x, 2, 3), x=X)
simple("nn.upsampling-bilinear", lambda x: relay.nn.upsampling(x, 2, 2, method="bilinear"), x=X)
simple(
    "nn.upsampling-corners",
    lambda x: relay.nn.upsampling(x, 2, 2, method="bilinear", align_corners=True),
    x=X,
)


# -- qnn ----------------------------------------------------------------------------------------------------

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


@case("net-nhwc", x=NHWC)
def _(r, x):
    """Layers one after the other in NHWC: layouts have to be followed through all of them."""
    y = relay.nn.conv2d(
        relay.nn.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))),
        const(r.normal(size=(3, 3, 4, 8))),
        channels=8,
        data_layout="NHWC",
        kernel_layout="HWIO",
        **K3,
    )
    y = relay.nn.batch_norm(
        relay.nn.bias_add(y, const(r.normal(size=8)), axis=3),
        *(const(r.uniform(0.5, 1.5, 8)) for _ in range(4)),
        axis=3,
    )[0]
    y = relay.clip(y, 0.0, 6.0)
    z = relay.multiply(y, const(r.normal(size=8)))
    y = relay.concatenate([relay.add(y, z), y], axis=-1)
    y = relay.nn.max_pool2d(y, (2, 2), (2, 2), layout="NHWC")
    y = relay.mean(y, axis=[1, 2])
    return relay.nn.dense(y, const(r.normal(size=(3, 16))), units=3)


@case("net-let", x=X)
def _(r, x):
    """Bindings instead of nested calls (ANF), as some passes of Relay leave them."""
    y = relay.nn.conv2d(x, const(r.normal(size=(6, 4, 3, 3))), channels=6, **K3)
    function = relay.Function([x], relay.nn.relu(y) + relay.exp(y))
    mod = relay.transform.ToANormalForm()(tvm.IRModule.from_expr(function))
    return relay.bind(mod["main"].body, {mod["main"].params[0]: x})


detection.register(case)


def refused():
    """Modules that an importer has to refuse, by the reason."""
    x = relay.var("x", shape=X)
    plain = tvm.IRModule.from_expr(relay.Function([x], relay.nn.relu(x + const(1.0))))
    flag = relay.var("flag", shape=(), dtype="bool")
    yield "branch", tvm.IRModule.from_expr(relay.Function([flag, x], relay.If(flag, x, relay.exp(x))))
    k = relay.var("k", shape=(), dtype="int32")
    y = relay.var("y", shape=X)
    loop = relay.loops.while_loop(
        lambda k, y: relay.less(k, relay.const(3)), [k, y], lambda k, y: [k + relay.const(1), relay.exp(y)]
    )
    yield "loop", tvm.IRModule.from_expr(relay.Function([x], loop(relay.const(0), x)))
    d = relay.var("d", shape=(relay.Any(), 4))
    yield "dynamic", tvm.IRModule.from_expr(relay.Function([d], relay.exp(d)))
    two = tvm.IRModule.from_expr(relay.Function([x], x))
    helper = relay.GlobalVar("helper")
    two[helper] = relay.Function([y], relay.exp(y), relay.TensorType(X, "float32"))
    two["main"] = relay.Function([x], helper(x))
    yield "functions", two
    yield "fused", relay.transform.FuseOps(2)(relay.transform.InferType()(plain))
    wide = relay.var("wide", shape=(1, 16, 6, 5))
    conv = relay.nn.conv2d(wide, relay.var("w", shape=(16, 16, 3, 3)), channels=16, **K3)
    mod = relay.transform.InferType()(
        tvm.IRModule.from_expr(relay.Function(relay.analysis.free_vars(conv), conv))
    )
    with tvm.target.Target(TARGET), tvm.transform.PassContext(opt_level=3):
        yield "altered", relay.transform.AlterOpLayout()(mod)
    yield "weights", mod
    a, b = relay.var("a", shape=X), relay.var("b", shape=X)
    yield (
        "unknown",
        tvm.IRModule.from_expr(
            relay.Function([a, b], relay.nn.correlation(a, b, 1, 1, 1, 1, 1, True, "NCHW"))
        ),
    )
    double = relay.var("x", shape=X, dtype="float64")
    yield "double", tvm.IRModule.from_expr(relay.Function([double], relay.exp(double)))
    yield "detections", tvm.IRModule.from_expr(detection.detections())
    cut = relay.nn.relu(relay.annotation.compiler_begin(x, "other"))
    yield (
        "partitioned",
        tvm.IRModule.from_expr(relay.Function([x], relay.annotation.compiler_end(cut, "other"))),
    )


def array_for(spec, r):
    kind, shape = spec if isinstance(spec[0], str) else ("normal", spec)
    if kind == "normal":
        return r.normal(size=shape).astype("float32")
    if kind == "small":
        return (r.normal(size=shape) * 10).astype("float32")
    if kind == "positive":
        return r.uniform(0.5, 3, size=shape).astype("float32")
    if kind == "unit":
        return r.uniform(-0.9, 0.9, size=shape).astype("float32")
    if kind == "halves":
        return (r.randint(-20, 21, size=shape) / 4).astype("float32")
    if kind == "bool":
        return r.randint(0, 2, size=shape).astype("bool")
    if kind == "index":
        return r.randint(0, 5, size=shape).astype("int32")
    if kind == "int32":
        return r.randint(-30000, 30000, size=shape).astype("int32")
    if kind == "uint8+":
        return r.randint(1, 256, size=shape).astype("uint8")
    drawn = detection.draw(kind, shape, r)
    if drawn is not None:
        return drawn
    info = np.iinfo(kind)
    return r.randint(info.min, info.max + 1, size=shape).astype(kind)


def packed(array):
    array = np.ascontiguousarray(array)
    return {
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "data": base64.b64encode(array.tobytes()).decode(),
    }


def run(mod, inputs):
    library = relay.build(mod, target=TARGET)
    module = graph_executor.GraphModule(library["default"](tvm.cpu()))
    module.run(**inputs)
    return [module.get_output(k).numpy() for k in range(module.get_num_outputs())]


def main(path, only=""):
    cases, missing = [], {}
    for name, (function, specs) in CASES.items():
        if not name.startswith(only):
            continue
        r = rng(name)
        inputs = {k: array_for(v, r) for k, v in specs.items()}
        variables = {k: relay.var(k, shape=v.shape, dtype=str(v.dtype)) for k, v in inputs.items()}
        try:
            body = function(r, **variables)
            body = body.astuple() if isinstance(body, relay.expr.TupleWrapper) else body
            mod = tvm.IRModule.from_expr(relay.Function(list(variables.values()), body))
            mod = relay.transform.InferType()(mod)
            outputs = run(mod, inputs)
        except Exception as error:
            missing[name] = str(error).strip().splitlines()[-1][:100]
            continue
        cases.append(
            {
                "name": name,
                "json": tvm.ir.save_json(mod),
                "text": mod.astext(),
                "inputs": {k: packed(v) for k, v in inputs.items()},
                "outputs": [packed(v) for v in outputs],
            }
        )
    bad = {}
    for name, mod in refused():
        mod = relay.transform.InferType()(mod)
        bad[name] = {"json": tvm.ir.save_json(mod), "text": mod.astext(), "printed": str(mod)}
    text = json.dumps({"tvm": tvm.__version__, "cases": cases, "missing": missing, "refused": bad})
    Path(path).write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
    print(f"TVM {tvm.__version__}: {len(cases)} cases; missing: {missing}")


if __name__ == "__main__":
    main(*sys.argv[1:])
