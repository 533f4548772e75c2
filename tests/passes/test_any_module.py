"""Modules that no front end of ours made: branches, dynamic shapes, bindings outside dataflow, functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from passes import nets
from passes.running import QUICK, arrays, run

from sd_tvm import backend
from sd_tvm._tvm import relax, tvm
from sd_tvm.relay_passes.pipeline import to_integer
from sd_tvm.relay_passes.report import node_reports

backend.register()
RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=(16, 16, 1, 1)).astype(np.float32)
X = RNG.normal(size=(1, 16, 4, 4)).astype(np.float32)
CONV = np.einsum("mc,nchw->nmhw", WEIGHT[:, :, 0, 0], X)


def integer(mod: Any) -> Any:
    for step in to_integer(mod):
        mod = step(mod)
    return mod


def near(got: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(got, expected, atol=0.05 * np.abs(expected).max())


def conv(x: Any) -> Any:
    return relax.op.nn.conv2d(x, relax.const(WEIGHT))


def build(body: Any, *shape: Any) -> Any:
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(shape or X.shape, "float32"))
    with builder.function("main", [x]):
        builder.emit_func_output(body(builder, x))
    return builder.get()


def test_bindings_outside_dataflow() -> None:
    mod = build(lambda b, x: b.emit(relax.op.nn.relu(b.emit(conv(x), "c"))))
    rows = {r.node: r for r in node_reports(integer(mod))}
    assert rows["c"].layer == "c"
    near(run(mod, X, "sd_accel")[0], np.maximum(CONV, 0))


def test_several_dataflow_blocks() -> None:
    def body(b: Any, x: Any) -> Any:
        with b.dataflow():
            first = b.emit_output(b.emit(conv(x), "a"))
        middle = b.emit(relax.op.nn.relu(first), "middle")
        with b.dataflow():
            return b.emit_output(relax.op.add(b.emit(conv(middle), "b"), first))

    mod = build(body)
    assert sum(r.target == "integer" for r in node_reports(integer(mod))) == 2
    expected = np.einsum("mc,nchw->nmhw", WEIGHT[:, :, 0, 0], np.maximum(CONV, 0)) + CONV
    near(run(mod, X, "sd_accel")[0], expected)


def test_a_branch() -> None:
    """Branches stay as they are; what stands around them is still taken."""

    builder = relax.BlockBuilder()
    x, c = relax.Var("x", relax.TensorType(X.shape, "float32")), relax.Var("c", relax.TensorType((), "bool"))
    with builder.function("main", [x, c]):
        a = builder.emit(relax.op.nn.relu(x), "a")
        branches = [relax.SeqExpr([], f(a)) for f in (relax.op.negative, relax.op.exp)]
        y = builder.emit(relax.If(c, *branches), "y")
        builder.emit_func_output(builder.emit(relax.op.nn.relu(y), "z"))
    executable = tvm.compile(builder.get(), target="sd_accel")
    main = relax.VirtualMachine(executable, tvm.cpu())["main"]
    got = arrays(main(tvm.runtime.tensor(X), tvm.runtime.tensor(np.array(False))))[0]
    np.testing.assert_allclose(got, np.exp(np.maximum(X, 0)), rtol=1e-5)


def test_dynamic_batch_runs_on_the_cpu() -> None:
    mod = build(lambda b, x: b.emit(conv(x), "c"), tvm.tirx.Var("n", "int64"), 16, 4, 4)
    (row,) = node_reports(integer(mod))
    assert (row.target, row.reason) == ("cpu", "dynamic shape")
    both = np.concatenate([X, X])
    near(run(mod, both, "sd_accel")[0], np.concatenate([CONV, CONV]))


def test_several_functions() -> None:
    mod = build(lambda b, x: b.emit(conv(x), "c"))
    mod["other"] = nets.conv_relu()["main"].with_attr("global_symbol", "other")
    rows = node_reports(integer(mod))
    assert len({r.layer for r in rows if r.op == "relax.nn.conv2d"}) == 2
    assert {r.target for r in rows if r.op == "relax.nn.conv2d"} == {"integer"}
    executable = tvm.compile(mod, target="sd_accel")
    near(arrays(relax.VirtualMachine(executable, tvm.cpu())["main"](tvm.runtime.tensor(X)))[0], CONV)


def test_nothing_to_do() -> None:
    mod = build(lambda b, x: b.emit(relax.op.exp(x), "e"))
    (row,) = node_reports(integer(mod))
    assert row.target == "cpu"
    np.testing.assert_allclose(run(mod, X, "sd_accel")[0], np.exp(X), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int32"])
def test_other_types_run_on_the_cpu(dtype: str) -> None:
    x = relax.Var("x", relax.TensorType((4, 4), dtype))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        builder.emit_func_output(builder.emit(relax.op.add(x, x)))
    mod = builder.get()
    value = np.arange(16).reshape(4, 4).astype(dtype)
    np.testing.assert_array_equal(run(mod, value, "sd_accel")[0], 2 * value)
    np.testing.assert_array_equal(run(mod, value, tvm.target.Target(QUICK))[0], 2 * value)


def test_a_value_of_rank_one_stays_float() -> None:
    def body(b: Any, x: Any) -> Any:
        with b.dataflow():
            means = b.emit(relax.op.mean(b.emit(conv(x), "c"), [0, 2, 3]))
            return b.emit_output(
                relax.op.sigmoid(b.emit(relax.op.add(means, relax.const(1.0)), "more")), "out"
            )

    mod = build(body)
    rows = {r.node: r for r in node_reports(integer(mod))}
    assert {rows[n].reason for n in ("more", "out")} == {"rank 1, not 2, 3 or 4"}
    near(run(mod, X, "sd_accel")[0], 1 / (1 + np.exp(-1 - CONV.mean((0, 2, 3)))))
