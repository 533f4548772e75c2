"""Products of two activations: layers of the accelerator, the same integers everywhere, near float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from passes.nets import Net
from passes.running import calibrated, inputs, run
from passes.test_tokens import dense, layers

from sd_tvm._tvm import relax
from sd_tvm.recipe import Recipe
from sd_tvm.relay_passes.decompose import Decompose
from sd_tvm.relay_passes.lower_cpu import LowerToCPU
from sd_tvm.relay_passes.offload import Offload
from sd_tvm.relay_passes.partition import Partition
from sd_tvm.relay_passes.pipeline import simplify
from sd_tvm.relay_passes.report import node_reports

INT8 = Recipe.named("int8")


def attention(batch: int, tokens: int, heads: int, width: int, *, scaled: str = "after") -> Any:
    """softmax(QK^T / sqrt(d)) V of dense layers on one input, and the dense layer after it."""
    net = Net((batch, tokens, heads * width))
    parts = []
    for name in "qkv":
        y = dense(net, net.x, heads * width, name)
        y = net.call(relax.op.reshape(y, (batch, tokens, heads, width)), f"{name}_split")
        parts.append(net.call(relax.op.permute_dims(y, [0, 2, 1, 3]), f"{name}_heads"))
    q, k, v = parts
    if scaled == "before":
        q = net.call(relax.op.multiply(q, relax.const(width**-0.25)), "q_scaled")
        k = net.call(relax.op.multiply(k, relax.const(width**-0.25)), "k_scaled")
    kt = net.call(relax.op.permute_dims(k, [0, 1, 3, 2]), "kt")
    s = net.call(relax.op.matmul(q, kt), "scores")
    if scaled == "after":
        s = net.call(relax.op.divide(s, relax.const(float(width**0.5))), "scaled")
    p = net.call(relax.op.nn.softmax(s, axis=-1), "soft")
    y = net.call(relax.op.matmul(p, v), "mixed")
    y = net.call(relax.op.permute_dims(y, [0, 2, 1, 3]), "tokens")
    y = net.call(relax.op.reshape(y, (batch, tokens, heads * width)), "merged")
    return net.module(dense(net, y, heads * width, "o"))


def simplified(mod: Any) -> Any:
    for step in simplify():
        mod = step(mod)
    return mod


@pytest.mark.parametrize(
    ("batch", "tokens", "heads", "width"),
    [(1, 16, 2, 16), (2, 32, 3, 32), (1, 7, 2, 16), (1, 20, 2, 8), (2, 5, 1, 16)],
)
def test_attention(batch: int, tokens: int, heads: int, width: int) -> None:
    mod = calibrated(simplified(attention(batch, tokens, heads, width)))
    result = Partition()(Decompose(INT8)(mod))
    rows = {row.node: row for row in node_reports(result)}
    assert {n for n, row in rows.items() if row.target == "cpu"} == {"soft"}
    assert rows["scaled"].layer == rows["scores"].layer == "scores"
    found = layers(result)
    assert found["scores"].groups == found["mixed"].groups == batch * heads
    assert found["scores"].in_hw[1] == tokens
    assert found["scores"].in_zero_point == found["mixed"].in_zero_point == 0
    x = inputs(mod, 1)[0]
    want = run(mod, x)[0]
    on_cpu = run(LowerToCPU()(result), x)[0]
    on_chip = run(LowerToCPU()(Offload("edge")(result)), x)[0]
    np.testing.assert_array_equal(on_cpu, on_chip)
    assert np.abs(on_cpu - want).max() <= 0.06 * np.abs(want).max()
    placed = {row.node: row for row in node_reports(Offload("edge")(result))}
    assert placed["scores"].target == placed["mixed"].target == "sd_accel"
    # lanes of the keys become rows of the weights, which no DMA can do; the values are weights as they are
    assert "on the host" in rows["scores"].reason
    assert ("on the host" in rows["mixed"].reason) == (tokens % 16 != 0 or width % 16 != 0)


def test_scales_of_both_operands_move_behind_the_product() -> None:
    before, after = attention(1, 16, 2, 16, scaled="before"), attention(1, 16, 2, 16)
    mod = simplified(before)
    x = inputs(mod, 1)[0]
    np.testing.assert_allclose(run(mod, x)[0], run(after, x)[0], rtol=2e-4, atol=2e-5)
    rows = {r.node: r for r in node_reports(Partition()(Decompose(INT8)(calibrated(mod))))}
    assert {n for n, row in rows.items() if row.target == "cpu"} == {"soft"}
    assert rows["scores"].layer == "scores_product"


def test_an_operand_with_a_zero_point_is_requantised() -> None:
    """A maximum keeps the quantisation of its input, so the product's operand gets a layer of its own."""
    net = Net((1, 16, 4, 4))
    y = net.conv(net.x, 16, 1, "a")
    y = net.call(relax.op.nn.max_pool2d(y, (3, 3), padding=(1, 1, 1, 1)), "max")
    y = net.call(relax.op.reshape(y, (1, 16, 16)), "flat")
    z = net.call(relax.op.permute_dims(y, [0, 2, 1]), "turned")
    mod = calibrated(net.module(net.relu(net.call(relax.op.matmul(y, z), "gram"), "last")))
    result = Partition()(Decompose(INT8)(mod))
    rows = {r.node: r for r in node_reports(result)}
    assert {row.target for row in rows.values()} == {"integer"}
    x = inputs(mod, 1)[0]
    want, got = run(mod, x)[0], run(result, x)[0]
    np.testing.assert_array_equal(got, run(LowerToCPU()(Offload("edge")(result)), x)[0])
    assert np.abs(got - want).max() <= 0.04 * np.abs(want).max()


def test_without_calibration_products_stay_float32() -> None:
    rows = {r.node: r for r in node_reports(Partition()(Decompose(INT8)(attention(1, 16, 2, 16))))}
    assert rows["scores"].target == "cpu"
    assert "no calibration" in rows["scores"].reason
