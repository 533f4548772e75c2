"""Residual additions at the end of kernels: which are, where, and the same integers as before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from passes.nets import Net
from passes.running import GoldenGraph, inputs, run
from passes.test_guard_cpu import HOST
from passes.test_partition import ALL_SD, INT8, integer

from sd_tvm._tvm import relax, tvm
from sd_tvm.relay_passes import LowerToCPU, Offload, node_reports
from sd_tvm.relay_passes._rewrite import bindings_of, is_call, use_counts
from sd_tvm.schedules.cpu.isa import AVX2
from sd_tvm.schedules.cpu.tuning import KernelTuning


def block(net: Net) -> tuple[Any, Any]:
    """(input of a block, its convolution's result)."""
    a = net.relu(net.conv(net.x, 24, 1, "a"), "a_relu")
    return a, net.conv(a, 24, 3, "b", padding=1)


def plus(net: Net, a: Any, b: Any, name: str = "sum") -> Any:
    return net.call(relax.op.add(a, b), name)


def on_the_left() -> Any:
    net = Net((1, 24, 6, 5))
    a, b = block(net)
    return net.module(net.relu(plus(net, b, a), "sum_relu"))


def on_the_right() -> Any:
    net = Net((2, 24, 6, 5))
    a, b = block(net)
    return net.module(net.clip(plus(net, a, b), 0, 6))


def linear() -> Any:
    net = Net((1, 24, 6, 5))
    a, b = block(net)
    return net.module(plus(net, a, b))


def read_twice() -> Any:
    net = Net((1, 24, 6, 5))
    a, b = block(net)
    return net.module(plus(net, net.relu(plus(net, b, a), "sum_relu"), b, "again"))


def result_too() -> Any:
    net = Net((1, 24, 6, 5))
    a, b = block(net)
    return net.module(plus(net, a, b), b)


def same_tensor() -> Any:
    net = Net((1, 24, 6, 5))
    _, b = block(net)
    return net.module(plus(net, b, b))


def two_convolutions() -> Any:
    net = Net((1, 24, 6, 5))
    _, b = block(net)
    return net.module(plus(net, b, net.conv(net.x, 24, 1, "c")))


def other_comes_later() -> Any:
    """The convolution first, then what it is added to, which no kernel computes."""
    net = Net((1, 24, 6, 5))
    a, b = block(net)
    pool = relax.op.nn.max_pool2d(a, (3, 3), padding=(1, 1, 1, 1))
    return net.module(plus(net, b, net.call(pool, "pool")))


def chain() -> Any:
    """Every addition has a convolution of its own."""
    net = Net((1, 24, 6, 5))
    a, b = block(net)
    y = plus(net, b, a, "sum_1")
    for i in (2, 3):
        y = plus(net, y, net.conv(y, 24, 3, f"c{i}", padding=1), f"sum_{i}")
    return net.module(y)


def resnet20() -> Any:
    """Of He et al. (2015), for CIFAR."""
    net = Net((1, 3, 32, 32))
    y, c = net.relu(net.conv(net.x, 16, 3, "stem", padding=1)), 16
    for i, (m, stride) in enumerate([(16, 1)] * 3 + [(32, 2)] + [(32, 1)] * 2 + [(64, 2)] + [(64, 1)] * 2):
        one = net.relu(net.conv(y, m, 3, f"one_{i}", padding=1, strides=stride), f"relu_{i}")
        two = net.conv(one, m, 3, f"two_{i}", padding=1)
        side = y if m == c else net.conv(y, m, 1, f"side_{i}", strides=stride)
        y, c = net.relu(plus(net, two, side, f"add_{i}"), f"add_relu_{i}"), m
    y = net.call(relax.op.mean(y, [2, 3], keepdims=True), "mean")
    return net.module(net.dense(net.call(relax.op.reshape(y, (1, c)), "flat"), 10, "fc"))


#: Network, and the additions that stand at the end of which convolution.
CASES: dict[Callable[[], Any], dict[str, str]] = {
    on_the_left: {"sum": "b"},
    on_the_right: {"sum": "b"},
    linear: {"sum": "b"},
    read_twice: {},
    result_too: {},
    same_tensor: {},
    two_convolutions: {"sum": "c"},
    other_comes_later: {"sum": "b"},
    chain: {"sum_1": "b", "sum_2": "c2", "sum_3": "c3"},
}


@pytest.mark.parametrize("net", CASES, ids=lambda net: net.__name__)
def test_fused(net: Callable[[], Any]) -> None:
    mod = net()
    _, result = integer(mod, ALL_SD)
    lowered = LowerToCPU(HOST)(result)
    rows = {r.node: r for r in node_reports(lowered)}
    ends = {node: row.reason.rpartition("in the kernel of ")[2] for node, row in rows.items()}
    assert {node: end for node, end in ends.items() if end != rows[node].reason} == CASES[net]
    for addition, conv in CASES[net].items():
        assert rows[conv].reason.endswith(f", with the addition {addition}")
        assert rows[addition].target == "cpu-integer"
    names = {str(g.name_hint) for g in lowered.get_global_vars()}
    called = {
        str(v.args[0].name_hint) for _, v in bindings_of(lowered["main"]) if is_call(v, "relax.call_tir")
    }
    assert called == names - {"main"}, "functions that nothing calls"
    x = inputs(mod, 1)[0]
    for got, want in zip(run(lowered, x, HOST), GoldenGraph(result)(x), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("net", [on_the_left, two_convolutions], ids=lambda net: net.__name__)
def test_without_the_form(net: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """An addition that is no one linear form stands alone, in its three scalings."""
    monkeypatch.setattr("sd_tvm.relay_passes.fuse_residual.linear_sum", lambda *_: None)
    mod = net()
    _, result = integer(mod, ALL_SD)
    lowered = LowerToCPU(HOST)(result)
    assert not any("addition" in r.reason for r in node_reports(lowered))
    x = inputs(mod, 1)[0]
    np.testing.assert_array_equal(run(lowered, x, HOST)[0], GoldenGraph(result)(x)[0])


def test_kernel_chosen_by_time() -> None:
    """It is timed without the addition, and then adds."""
    mod = on_the_left()
    _, result = integer(mod, ALL_SD)
    lowered = LowerToCPU(HOST, KernelTuning(tune=2))(result)
    assert sum("with the addition sum" in r.reason for r in node_reports(lowered)) == 1
    x = inputs(mod, 1)[0]
    np.testing.assert_array_equal(run(lowered, x, HOST)[0], GoldenGraph(result)(x)[0])


def test_beside_the_accelerator() -> None:
    """What was offloaded is no convolution of ours any more."""
    mod = on_the_left()
    _, result = integer(mod, ALL_SD)
    placed = LowerToCPU(HOST)(Offload()(result))
    assert not any("addition" in r.reason for r in node_reports(placed))
    x = inputs(mod, 1)[0]
    np.testing.assert_array_equal(run(placed, x, HOST)[0], GoldenGraph(result)(x)[0])


def test_resnet20() -> None:
    """A whole network of int8 weights, for the instruction set that LLVM compiles for soonest."""
    mod, target = resnet20(), tvm.target.Target(AVX2.target)
    _, result = integer(mod, INT8)
    fused = LowerToCPU(target)(result)
    assert sum("with the addition" in r.reason for r in node_reports(fused)) == 9
    x = inputs(mod, 1)[0]
    np.testing.assert_array_equal(run(fused, x, target)[0], GoldenGraph(result)(x)[0])


def test_a_match_cast_reads_its_value() -> None:
    """So that a convolution whose result is cast is not taken for one that only the addition reads."""
    x = relax.Var("x", relax.TensorType((1, 4), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            a = builder.emit(relax.op.nn.relu(x))
            cast = builder.match_cast(a, relax.TensorType((1, 4), "float32"))
            out = builder.emit_output(relax.op.add(a, cast))
        builder.emit_func_output(out)
    func = builder.get()["main"]
    (relu,) = (var for var, value in bindings_of(func) if is_call(value, "relax.nn.relu"))
    assert use_counts(func)[relu] == 2
