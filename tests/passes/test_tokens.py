"""Dense layers over tokens: rows are pixels, heads are views, and nothing is copied between them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from passes.nets import Net
from passes.running import calibrated, inputs, run

from sd_tvm._tvm import relax
from sd_tvm.layers import ConvLayer, layer_from_json
from sd_tvm.recipe import Recipe
from sd_tvm.relay_passes.decompose import Decompose
from sd_tvm.relay_passes.partition import Partition
from sd_tvm.relay_passes.report import node_reports

INT8 = Recipe.named("int8")


def layers(mod: Any) -> dict[str, Any]:
    """Integer layers of a module by name."""
    found = [
        layer_from_json(str(f.attrs["sd.layer"])) for _, f in mod.functions_items() if "sd.layer" in f.attrs
    ]
    return {layer.name: layer for layer in found}


def dense(net: Net, x: Any, m: int, name: str) -> Any:
    k = int(x.ty.shape[-1])
    y = net.call(relax.op.matmul(x, net.const(k, m, scale=k**-0.5)), name)
    return net.call(relax.op.add(y, net.const(m, scale=0.3)), f"{name}_bias")


def mlp(shape: tuple[int, ...]) -> Any:
    net = Net(shape)
    y = net.relu(dense(net, net.x, 40, "up"))
    y = dense(net, y, shape[-1], "down")
    return net.module(net.relu(net.call(relax.op.add(y, net.x), "sum"), "last"))


@pytest.mark.parametrize(
    ("shape", "batch", "pixels"),
    [((1, 24), 1, 1), ((12, 24), 1, 12), ((2, 7, 24), 2, 7), ((2, 3, 5, 24), 2, 15)],
)
@pytest.mark.parametrize("calibrate", [True, False], ids=["calibrated", "dynamic"])
def test_rows_are_pixels(shape: tuple[int, ...], batch: int, pixels: int, calibrate: bool) -> None:
    mod = mlp(shape)
    mod = calibrated(mod) if calibrate else mod
    result = Partition()(Decompose(INT8)(mod))
    found = layers(result)
    for name in ("up", "down"):
        layer = found[name]
        assert isinstance(layer, ConvLayer)
        assert layer.batch == batch
        assert layer.in_hw[0] * layer.in_hw[1] == pixels
    x = inputs(mod, 1)[0]
    got, want = run(result, x)[0], run(mod, x)[0]
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= 0.03 * np.abs(want).max()
    if calibrate:
        rows = node_reports(result)
        assert {row.target for row in rows} == {"integer"}, rows


def test_heads_and_back_are_views() -> None:
    """Splitting tokens into heads and merging them again moves nothing; between them a ReLU runs on heads."""
    net = Net((2, 7, 64))
    y = dense(net, net.x, 64, "a")
    y = net.call(relax.op.reshape(y, (2, 7, 4, 16)), "split")
    y = net.call(relax.op.permute_dims(y, [0, 2, 1, 3]), "heads")
    y = net.clip(y, -0.5, 0.5)
    y = net.call(relax.op.permute_dims(y, [0, 2, 1, 3]), "tokens")
    y = net.call(relax.op.reshape(y, (2, 7, 64)), "merged")
    mod = calibrated(net.module(net.relu(dense(net, y, 20, "b"), "last")))
    result = Partition()(Decompose(INT8)(mod))
    rows = {row.node: row for row in node_reports(result)}
    assert {row.target for row in rows.values()} == {"integer"}
    assert all("no code" in rows[n].reason for n in ("split", "heads", "tokens", "merged"))
    assert not [g for g in result.get_global_vars() if "relayout" in str(g.name_hint)]
    x = inputs(mod, 1)[0]
    got, want = run(result, x)[0], run(mod, x)[0]
    assert np.abs(got - want).max() <= 0.03 * np.abs(want).max()


def test_small_heads_are_laid_out_by_the_host() -> None:
    """Heads of 8 channels share words; a dense layer on them needs another layout, made on the host."""
    net = Net((1, 6, 64))
    y = dense(net, net.x, 64, "a")
    y = net.call(relax.op.reshape(y, (1, 6, 8, 8)), "split")
    y = net.call(relax.op.permute_dims(y, [0, 2, 1, 3]), "heads")
    mod = calibrated(net.module(net.relu(dense(net, y, 20, "b"), "last")))
    result = Partition()(Decompose(INT8)(mod))
    rows = {row.node: row for row in node_reports(result)}
    assert rows["b"].target == "integer"
    assert "on the host" in rows["b"].reason
    x = inputs(mod, 1)[0]
    got, want = run(result, x)[0], run(mod, x)[0]
    assert np.abs(got - want).max() <= 0.03 * np.abs(want).max()


def test_an_image_becomes_tokens() -> None:
    """ViT: patches of a convolution are flattened and turned; the dense layer reads the same bytes."""
    net = Net((1, 3, 16, 16))
    y = net.conv(net.x, 48, 4, "patches", strides=4)
    y = net.call(relax.op.reshape(y, (1, 48, 16)), "flat")
    y = net.call(relax.op.permute_dims(y, [0, 2, 1]), "tokens")
    mod = calibrated(net.module(net.relu(dense(net, y, 20, "b"), "last")))
    result = Partition()(Decompose(INT8)(mod))
    assert {row.target for row in node_reports(result)} == {"integer"}
    x = inputs(mod, 1)[0]
    got, want = run(result, x)[0], run(mod, x)[0]
    assert np.abs(got - want).max() <= 0.03 * np.abs(want).max()
