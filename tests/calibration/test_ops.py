"""NumPy operators against TVM's own, and the interpreter's fallback."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from passes.nets import Net
from passes.running import inputs, run

from sd_tvm._tvm import relax
from sd_tvm.calibration import Interpreter
from sd_tvm.calibration.ops import EVALUATORS


def conv(x: np.ndarray, w: np.ndarray, stride: Any, pad: Any, dilation: Any, groups: int) -> np.ndarray:
    """Convolution by its definition."""
    (sh, sw), (dh, dw), (t, left, b, r) = stride, dilation, pad
    x = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (t, b), (left, r)))
    n, _, h, wd = x.shape
    m, cg, kh, kw = w.shape
    oh, ow = (h - dh * (kh - 1) - 1) // sh + 1, (wd - dw * (kw - 1) - 1) // sw + 1
    out = np.zeros((n, m, oh, ow))
    for f in range(m):
        first = f // (m // groups) * cg
        for y in range(oh):
            for z in range(ow):
                rows, cols = y * sh + dh * np.arange(kh), z * sw + dw * np.arange(kw)
                part = x[:, first : first + cg][:, :, rows[:, None], cols[None, :]]
                out[:, f, y, z] = (part * w[f]).sum((1, 2, 3))
    return out


@settings(max_examples=60)
@given(st.data())
def test_convolution(data: st.DataObject) -> None:
    draw = data.draw
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    cg, mg = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    stride, dilation = (draw(st.integers(1, 3)), draw(st.integers(1, 2))), (draw(st.integers(1, 2)), 1)
    pad = tuple(draw(st.integers(0, 2)) for _ in range(4))
    net = Net((draw(st.integers(1, 2)), groups * cg, 8, 7), seed=draw(st.integers(0, 99)))
    call = relax.op.nn.conv2d(net.x, net.const(groups * mg, cg, *kernel), stride, pad, dilation, groups)
    mod = net.module(net.call(call, "y"))
    x = inputs(mod, 1)[0]
    got = Interpreter(mod).run([x])
    wanted = conv(x, call.args[1].value.numpy(), stride, pad, dilation, groups)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def _cases() -> dict[str, tuple[tuple[int, ...], Any]]:
    op, nn = relax.op, relax.op.nn

    def of_positive(f: Any) -> Any:
        return lambda x, n: f(n.call(op.exp(x), "positive"))

    def times(x: Any, n: Any, factor: float) -> Any:
        return n.call(op.multiply(x, relax.const(np.float32(factor))), "scaled")

    return {
        "nn.conv1d": ((2, 4, 9), lambda x, n: nn.conv1d(x, n.const(6, 2, 3), 2, (1, 2), 1, 2)),
        "nn.max_pool2d": ((1, 3, 7, 8), lambda x, n: nn.max_pool2d(x, (3, 2), (2, 2), (1, 0, 1, 1))),
        "nn.avg_pool2d": (
            (1, 3, 7, 8),
            lambda x, n: nn.avg_pool2d(x, (3, 2), (2, 2), (1, 0, 1, 1), count_include_pad=True),
        ),
        "nn.adaptive_avg_pool2d": ((2, 3, 4, 5), lambda x, n: nn.adaptive_avg_pool2d(x, (1, 1))),
        "nn.layer_norm": ((2, 3, 8), lambda x, n: nn.layer_norm(x, n.const(8), n.const(8), [-1])),
        "nn.softmax": ((2, 3, 4), lambda x, n: nn.softmax(x, 1)),
        "nn.pad": ((1, 2, 3, 4), lambda x, n: nn.pad(x, [0, 0, 1, 0, 2, 1, 0, 3], "constant", 0.5)),
        "nn.relu": ((5, 6), lambda x, n: nn.relu(x)),
        "nn.relu6": ((5, 6), lambda x, n: nn.relu6(times(x, n, 9))),
        "nn.silu": ((5, 6), lambda x, n: nn.silu(x)),
        "sigmoid": ((5, 6), lambda x, n: op.sigmoid(x)),
        "clip": ((5, 6), lambda x, n: op.clip(x, -0.5, 0.25)),
        "tanh": ((5, 6), lambda x, n: op.tanh(x)),
        "exp": ((5, 6), lambda x, n: op.exp(x)),
        "log": ((5, 6), of_positive(relax.op.log)),
        "sqrt": ((5, 6), of_positive(relax.op.sqrt)),
        "rsqrt": ((5, 6), of_positive(relax.op.rsqrt)),
        "square": ((5, 6), lambda x, n: op.square(x)),
        "negative": ((5, 6), lambda x, n: op.negative(x)),
        "abs": ((5, 6), lambda x, n: op.abs(x)),
        "add": ((5, 6), lambda x, n: op.add(x, n.const(6))),
        "subtract": ((5, 6), lambda x, n: op.subtract(n.const(5, 1), x)),
        "multiply": ((5, 6), lambda x, n: op.multiply(x, n.const(1, 6))),
        "divide": ((5, 6), lambda x, n: op.divide(x, n.const(5, 6))),
        "power": ((5, 6), of_positive(lambda x: op.power(x, relax.const(np.float32(1.5))))),
        "maximum": ((5, 6), lambda x, n: op.maximum(x, n.const(6))),
        "minimum": ((5, 6), lambda x, n: op.minimum(x, n.const(6))),
        "matmul": ((2, 5, 6), lambda x, n: op.matmul(x, n.const(6, 3))),
        "mean": ((2, 5, 6), lambda x, n: op.mean(x, [-1, 0])),
        "sum": ((2, 5, 6), lambda x, n: op.sum(x, [1], keepdims=True)),
        "max": ((2, 5, 6), lambda x, n: op.max(x)),
        "min": ((2, 5, 6), lambda x, n: op.min(x, [2])),
        "reshape": ((2, 5, 6), lambda x, n: op.reshape(x, (10, -1))),
        "broadcast_to": ((5, 1), lambda x, n: op.broadcast_to(x, (2, 5, 3))),
        "permute_dims": ((2, 5, 6), lambda x, n: op.permute_dims(x, [2, 0, 1])),
        "expand_dims": ((2, 5), lambda x, n: op.expand_dims(x, [0, 2])),
        "squeeze": ((1, 5, 1), lambda x, n: op.squeeze(x, [0])),
        "concat": ((2, 5), lambda x, n: op.concat([x, n.const(2, 3)], 1)),
        "take": ((4, 5), lambda x, n: op.take(x, relax.const(np.array([3, 0], np.int64)), 0)),
        "astype": ((2, 5), lambda x, n: op.astype(times(x, n, 9), "int32")),
        "nn.gelu": ((5, 6), lambda x, n: nn.gelu(x)),
        "nn.gelu_tanh": ((5, 6), lambda x, n: nn.gelu_tanh(x)),
        "nn.softplus": ((5, 6), lambda x, n: nn.softplus(x)),
        "nn.leakyrelu": ((5, 6), lambda x, n: nn.leakyrelu(x, 0.2)),
        "nn.selu": ((5, 6), lambda x, n: nn.selu(x)),
        "nn.prelu": ((2, 5, 6), lambda x, n: nn.prelu(x, n.const(5), 1)),
        "erf": ((5, 6), lambda x, n: op.erf(x)),
        "greater": ((5, 6), lambda x, n: op.greater(x, n.const(6))),
        "greater_equal": ((5, 6), lambda x, n: op.greater_equal(x, n.const(6))),
        "less": ((5, 6), lambda x, n: op.less(x, n.const(6))),
        "less_equal": ((5, 6), lambda x, n: op.less_equal(x, n.const(6))),
        "image.resize2d": (
            (1, 2, 3, 4),
            lambda x, n: op.image.resize2d(
                x, (6, 8), method="nearest_neighbor", coordinate_transformation_mode="asymmetric"
            ),
        ),
        "strided_slice": ((4, 6), lambda x, n: op.strided_slice(x, [1], [1], [5], [2])),
        "full": (
            (2, 5),
            lambda x, n: op.add(x, n.call(op.full((2, 5), relax.const(np.float32(0.5)), "float32"), "half")),
        ),
        "where": ((2, 5), lambda x, n: op.where(n.call(op.isnan(x), "nan"), n.const(2, 5), x)),
    }


CASES = _cases()
#: Checked elsewhere: with their results taken apart, or as part of another case.
ELSEWHERE = {"nn.conv2d", "nn.batch_norm", "nn.dropout", "split", "isnan"}


def test_every_operator_has_a_case() -> None:
    assert {n.removeprefix("relax.") for n in EVALUATORS} == set(CASES) | ELSEWHERE


@pytest.mark.parametrize("name", CASES)
def test_operator(name: str) -> None:
    shape, build = CASES[name]
    net = Net(shape)
    mod = net.module(net.call(build(net.x, net), "y"))
    x = inputs(mod, 1)[0]
    got, wanted = Interpreter(mod).run([x]), run(mod, x)[0]
    assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_results_that_are_tuples() -> None:
    net = Net((2, 6, 3))
    stats = [net.const(6), net.const(6), net.const(6), relax.const(np.full(6, 0.5, np.float32))]
    norm = net.call(relax.op.nn.batch_norm(net.x, *stats, axis=1, training=False), "norm")
    drop = net.call(relax.op.nn.dropout(net.call(relax.TupleGetItem(norm, 0), "n0"), 0.5), "drop")
    parts = net.call(relax.op.split(net.call(relax.TupleGetItem(drop, 0), "d0"), [1, 4], 1), "parts")
    fields = [net.call(relax.TupleGetItem(parts, i), f"p{i}") for i in range(3)]
    mod = net.module(*fields)
    x = inputs(mod, 1)[0]
    gamma, beta, mean, var = (s.value.numpy()[None, :, None].astype(np.float64) for s in stats)
    wanted = np.split((x - mean) / np.sqrt(var + 1e-5) * gamma + beta, [1, 4], 1)
    for a, b in zip(Interpreter(mod).run([x]), wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_other_operators_go_through_tvm() -> None:
    net = Net((1, 3, 6, 6))
    y = net.call(relax.op.nn.gelu(net.x), "g")
    y = net.call(relax.op.nn.max_pool2d(y, (3, 3), strides=(2, 2), ceil_mode=True), "p")
    pair = net.call(relax.op.topk(y, 2, axis=-1), "top")
    mod = net.module(net.call(relax.TupleGetItem(pair, 0), "values"))
    x = inputs(mod, 1)[0]
    np.testing.assert_allclose(Interpreter(mod).run([x]), run(mod, x)[0], rtol=1e-5, atol=1e-6)


def test_values_are_dropped_after_their_last_use() -> None:
    net = Net((1, 4))
    y = net.x
    for i in range(6):
        y = net.relu(y, f"r{i}")
    steps = Interpreter(net.module(y)).steps
    assert [[v.name for v in s.frees] for s in steps] == [["x"], *[[f"r{i}"] for i in range(5)], ["r5"]]
