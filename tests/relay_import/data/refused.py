"""Modules that an importer has to refuse."""

from __future__ import annotations

import detection
import tvm
from registry import X, const
from tvm import relay

K3 = {"kernel_size": (3, 3)}


def refused(target):
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
    with tvm.target.Target(target), tvm.transform.PassContext(opt_level=3):
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
