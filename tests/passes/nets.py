"""Small float32 Relax networks, built without a front end; every value has a name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sd_tvm._tvm import relax, tvm

Expr = Any


class Net:
    """Builds ``main`` of one input, operator by operator."""

    def __init__(self, shape: tuple[int, ...], seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.x = relax.Var("x", relax.TensorType(shape, "float32"))
        self.bindings: list[Any] = []
        self.normalize = relax.BlockBuilder().normalize

    def call(self, value: Expr, name: str) -> Expr:
        value = self.normalize(value)
        var = relax.DataflowVar(name, value.ty)
        self.bindings.append(relax.VarBinding(var, value))
        return var

    def const(self, *shape: int, scale: float = 1.0) -> Expr:
        return relax.const((self.rng.normal(size=shape) * scale).astype(np.float32))

    def conv(
        self, x: Expr, m: int, k: int, name: str, *, bias: bool = True, groups: int = 1, **kw: Any
    ) -> Expr:
        cg = int(x.ty.shape[1]) // groups
        weight = self.const(m, cg, k, k, scale=(cg * k * k) ** -0.5)
        y = self.call(relax.op.nn.conv2d(x, weight, groups=groups, **kw), name)
        if not bias:
            return y
        return self.call(relax.op.add(y, self.const(1, m, 1, 1, scale=0.3)), f"{name}_bias")

    def conv1d(self, x: Expr, m: int, k: int, name: str, **kw: Any) -> Expr:
        weight = self.const(m, int(x.ty.shape[1]), k, scale=0.2)
        y = self.call(relax.op.nn.conv1d(x, weight, **kw), name)
        return self.call(relax.op.add(y, self.const(1, m, 1, scale=0.3)), f"{name}_bias")

    def dense(self, x: Expr, m: int, name: str, *, bias: bool = True) -> Expr:
        k = int(x.ty.shape[1])
        y = self.call(relax.op.matmul(x, self.const(k, m, scale=k**-0.5)), name)
        return self.call(relax.op.add(y, self.const(m, scale=0.3)), f"{name}_bias") if bias else y

    def relu(self, x: Expr, name: str = "relu") -> Expr:
        return self.call(relax.op.nn.relu(x), name)

    def clip(self, x: Expr, lo: float, hi: float, name: str = "clip") -> Expr:
        return self.call(relax.op.clip(x, relax.prim_value(lo), relax.prim_value(hi)), name)

    def module(self, *outputs: Expr) -> Any:
        value = outputs[0] if len(outputs) == 1 else relax.Tuple(list(outputs))
        value = self.normalize(value)
        out = relax.Var("out", value.ty)
        block = relax.DataflowBlock([*self.bindings, relax.VarBinding(out, value)])
        func = relax.Function([self.x], relax.SeqExpr([block], out), out.ty)
        mod = relax.transform.Normalize()(tvm.IRModule({"main": func.with_attr("global_symbol", "main")}))
        relax.analysis.well_formed(mod)
        return mod


def conv_relu() -> Any:
    net = Net((1, 5, 9, 7))
    return net.module(net.relu(net.conv(net.x, 19, 3, "c", padding=1, strides=2)))


def conv_clip_no_bias() -> Any:
    net = Net((1, 16, 6, 6))
    return net.module(net.clip(net.conv(net.x, 16, 1, "c", bias=False), -0.5, 1.5))


def depthwise() -> Any:
    net = Net((1, 20, 8, 8))
    y = net.clip(net.conv(net.x, 20, 3, "dw", groups=20, padding=1), 0, 6)
    return net.module(net.conv(y, 10, 1, "pw"))


def grouped_dilated_asymmetric() -> Any:
    net = Net((1, 12, 11, 9))
    return net.module(
        net.relu(net.conv(net.x, 18, 3, "c", groups=3, dilation=2, padding=[1, 2, 3, 0], strides=[2, 1]))
    )


def residual() -> Any:
    net = Net((1, 24, 6, 5))
    a = net.relu(net.conv(net.x, 24, 1, "a"), "a_relu")
    b = net.conv(a, 24, 3, "b", padding=1)
    return net.module(net.relu(net.call(relax.op.add(b, a), "sum"), "sum_relu"))


def residual_linear() -> Any:
    net = Net((1, 8, 4, 4))
    return net.module(net.call(relax.op.add(net.conv(net.x, 8, 1, "a"), net.x), "sum"))


def pools() -> Any:
    net = Net((1, 17, 12, 12))
    y = net.relu(net.conv(net.x, 17, 3, "c", padding=1))
    y = net.call(relax.op.nn.max_pool2d(y, (3, 3), strides=(2, 2), padding=(1, 1, 1, 1)), "max")
    pool = relax.op.nn.avg_pool2d(y, (2, 2), strides=(2, 2), padding=(1, 0, 1, 0), count_include_pad=True)
    return net.module(net.call(pool, "avg"))


def classifier() -> Any:
    net = Net((2, 3, 10, 10))  # batch 2
    y = net.clip(net.conv(net.x, 40, 3, "stem", padding=1, strides=2), 0, 6)
    y = net.call(relax.op.mean(y, [2, 3], keepdims=True), "mean")
    y = net.call(relax.op.reshape(y, (2, 40)), "flat")
    return net.module(net.dense(y, 10, "fc"))


def classifier_adaptive() -> Any:
    net = Net((1, 3, 8, 8))
    y = net.relu(net.conv(net.x, 21, 3, "stem"))
    y = net.call(relax.op.nn.adaptive_avg_pool2d(y, (1, 1)), "pool")
    y = net.call(relax.op.squeeze(y, [2, 3]), "flat")
    y = net.relu(net.dense(y, 30, "fc1"), "fc1_relu")
    return net.module(net.dense(y, 7, "fc2", bias=False))


def flatten_moves_data() -> Any:
    net = Net((1, 3, 6, 6))
    y = net.relu(net.conv(net.x, 8, 3, "c"))
    y = net.call(relax.op.reshape(y, (1, 8 * 16)), "flat")
    return net.module(net.dense(y, 5, "fc"))


def softmax_between() -> Any:
    net = Net((1, 6, 5, 5))
    y = net.conv(net.x, 6, 1, "a")
    y = net.call(relax.op.nn.softmax(y, axis=1), "soft")
    return net.module(net.relu(net.conv(y, 6, 3, "b")))


def sigmoid_gate() -> Any:
    net = Net((1, 16, 4, 4))
    y = net.conv(net.x, 16, 1, "a")
    gate = net.call(relax.op.sigmoid(y), "gate")
    y = net.call(relax.op.multiply(y, gate), "silu")  # y is read twice
    return net.module(net.conv(y, 16, 1, "b"))


def several_consumers() -> Any:
    net = Net((1, 16, 6, 6))
    y = net.conv(net.x, 16, 1, "a")
    left, right = net.relu(y, "left"), net.conv(y, 16, 3, "right", padding=1)
    return net.module(net.call(relax.op.add(left, right), "sum"))


def two_outputs() -> Any:
    net = Net((1, 4, 6, 6))
    y = net.relu(net.conv(net.x, 4, 3, "a"))
    return net.module(y, net.relu(net.conv(y, 4, 3, "b"), "b_relu"))


def output_twice() -> Any:
    net = Net((1, 4, 6, 6))
    y = net.relu(net.conv(net.x, 4, 3, "a"))
    return net.module(y, y)


def conv1d() -> Any:
    net = Net((1, 9, 30))
    y = net.relu(net.conv1d(net.x, 12, 5, "a", padding=2, strides=2), "a_relu")
    return net.module(net.conv1d(y, 7, 3, "b", dilation=2))


def relu_alone() -> Any:
    net = Net((1, 9, 5, 5))
    return net.module(net.clip(net.relu(net.x), 0.25, 2.0))


def batch_of_three() -> Any:
    net = Net((3, 10, 6, 6))
    y = net.relu(net.conv(net.x, 18, 3, "a", padding=1))
    return net.module(net.relu(net.conv(y, 12, 1, "b"), "b_relu"))


def double_add() -> Any:
    net = Net((1, 8, 4, 4))
    y = net.relu(net.conv(net.x, 8, 1, "a"))
    return net.module(net.call(relax.op.add(y, y), "twice"))


NETS: dict[str, Callable[[], Any]] = {
    f.__name__: f
    for f in (
        conv_relu,
        conv_clip_no_bias,
        depthwise,
        grouped_dilated_asymmetric,
        residual,
        residual_linear,
        pools,
        classifier,
        classifier_adaptive,
        flatten_moves_data,
        softmax_between,
        sigmoid_gate,
        several_consumers,
        two_outputs,
        output_twice,
        conv1d,
        relu_alone,
        batch_of_three,
        double_add,
    )
}
