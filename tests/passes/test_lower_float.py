"""What float32 operators of a graph get code of ours, which stay TVM's, and that hosts agree to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from passes.nets import Net
from passes.running import calibrated, inputs, run
from passes.test_attention import INT8, attention

from sd_tvm._tvm import relax, tirx, tvm
from sd_tvm.relay_passes._rewrite import bindings_of, is_call
from sd_tvm.relay_passes.decompose import Decompose
from sd_tvm.relay_passes.lower_cpu import LowerToCPU
from sd_tvm.relay_passes.lower_float import LowerFloat
from sd_tvm.relay_passes.offload import Offload
from sd_tvm.relay_passes.partition import Partition
from sd_tvm.relay_passes.report import node_reports
from sd_tvm.schedules.float.table import OPERATORS

NAMES = tuple(row.op for row in OPERATORS)


def left(mod: Any) -> list[str]:
    """Operators of the table that are still in ``main``."""
    return [value.op.name for _, value in bindings_of(mod["main"]) if is_call(value, *NAMES)]


def functions(mod: Any) -> list[str]:
    return sorted(str(g.name_hint) for g, f in mod.functions_items() if isinstance(f, tirx.PrimFunc))


def block() -> Any:
    """Attention, a residual addition and layer normalisation, all float32."""
    net = Net((1, 9, 24))
    y = net.call(relax.op.matmul(net.x, net.call(relax.op.permute_dims(net.x, [0, 2, 1]), "t")), "scores")
    y = net.call(relax.op.nn.softmax(y, axis=-1), "soft")
    y = net.call(relax.op.matmul(y, net.x), "mixed")
    y = net.call(relax.op.add(y, net.x), "sum")
    gamma, beta = (relax.const(np.linspace(0.5, 1 + i, 24, dtype=np.float32)) for i in range(2))
    y = net.call(relax.op.nn.layer_norm(y, gamma, beta, axes=[-1], epsilon=1e-5), "norm")
    return net.module(net.call(relax.op.nn.softmax(y, axis=2), "last"))


def test_every_operator_of_the_table() -> None:
    mod = block()
    lowered = LowerFloat()(mod)
    assert set(left(mod)) == set(NAMES)
    assert left(lowered) == []
    x = inputs(mod, 1)[0]
    want = run(mod, x)[0]
    np.testing.assert_allclose(run(lowered, x)[0], want, rtol=1e-5)
    np.testing.assert_allclose(run(relax.get_pipeline("zero")(lowered), x)[0], want, rtol=1e-5)
    tvm.ir.assert_structural_equal(LowerFloat()(lowered), lowered)


def test_one_function_a_shape() -> None:
    net = Net((2, 3, 8))
    y = net.x
    for i in range(3):
        y = net.call(relax.op.nn.softmax(y, axis=-1), f"s{i}")
    y = net.call(relax.op.reshape(y, (6, 8)), "flat")
    assert functions(LowerFloat()(net.module(net.call(relax.op.nn.softmax(y), "s3")))) == [
        "float_softmax",
        "float_softmax1",
    ]


@pytest.mark.parametrize("case", ["axis", "axes", "type", "symbolic"])
def test_what_stays(case: str) -> None:
    """An axis that is not last, another type, a shape that is not known: TVM's code, as before."""
    n = tirx.Var("n", "int64") if case == "symbolic" else 3
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((2, n, 8), "float64" if case == "type" else "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            if case == "axes":
                one = relax.const(np.ones((2, 8), np.float32))
                y = relax.op.nn.layer_norm(x, one, one, axes=[0, 2])
            else:
                y = relax.op.nn.softmax(x, axis=1 if case == "axis" else -1)
            y = builder.emit_output(y)
        builder.emit_func_output(y)
    mod = builder.get()
    tvm.ir.assert_structural_equal(LowerFloat()(mod), mod)
    assert len(left(mod)) == 1


def test_the_host_of_the_accelerator_computes_the_same_bits() -> None:
    mod = Partition()(Decompose(INT8)(calibrated(attention(1, 20, 2, 16))))
    on_cpu, on_chip = LowerToCPU()(mod), LowerToCPU()(Offload("edge")(mod))
    assert left(on_cpu) == left(on_chip) == []
    assert "float_softmax" in functions(on_cpu)
    assert "float_softmax" in functions(on_chip)
    assert [r.target for r in node_reports(on_cpu) if r.node == "soft"] == ["cpu"]
    x = inputs(mod, 1)[0]
    np.testing.assert_array_equal(run(on_cpu, x)[0], run(on_chip, x)[0])
