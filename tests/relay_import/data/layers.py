"""Convolutions, poolings, normalisations, and small networks of them."""

from __future__ import annotations

import tvm
from registry import NHWC, X, case, const, simple
from tvm import relay

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
