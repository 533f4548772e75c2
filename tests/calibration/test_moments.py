"""Input moments against their definition, position by position."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from passes.nets import Net
from passes.running import inputs

from sd_tvm._tvm import relax
from sd_tvm.calibration import Interpreter, collect_moments
from sd_tvm.errors import CalibrationError
from sd_tvm.relay_passes._rewrite import bindings_of
from sd_tvm.weights.rows import RowGeometry

CASES: dict[str, tuple[tuple[int, ...], Any]] = {
    "taps": ((2, 3, 6, 7), lambda n: n.conv(n.x, 5, 3, "y", bias=False, padding=1, strides=[2, 1])),
    "one_by_one": ((1, 7, 4, 3), lambda n: n.conv(n.x, 5, 1, "y", bias=False, strides=2)),
    "grouped": ((1, 8, 5, 5), lambda n: n.conv(n.x, 6, 3, "y", bias=False, groups=2, dilation=2)),
    "depthwise": ((1, 6, 6, 5), lambda n: n.conv(n.x, 6, 3, "y", bias=False, groups=6, padding=[1, 0, 0, 2])),
    "wide": ((1, 4, 1, 20), lambda n: n.call(relax.op.nn.conv2d(n.x, n.const(3, 4, 1, 11)), "y")),
    "dense": ((5, 8), lambda n: n.dense(n.x, 4, "y", bias=False)),
    "tokens": ((2, 5, 8), lambda n: n.call(relax.op.matmul(n.x, n.const(8, 4)), "y")),
    "conv1d": ((1, 4, 12), lambda n: n.call(relax.op.nn.conv1d(n.x, n.const(6, 2, 5), 2, 1, 1, 2), "y")),
}


def columns(call: Any, x: np.ndarray, geometry: RowGeometry, groups: int) -> np.ndarray:
    """(G, K, P): what each element of a filter's rows multiplies, by a convolution with each unit weight."""
    _, cg, kh, kw = geometry.shape
    k = geometry.rows * geometry.s
    found = []
    for element in range(k):
        rows = np.zeros((1, geometry.rows, geometry.s), np.float32)
        rows.reshape(-1)[element] = 1
        unit = RowGeometry((1, cg, kh, kw)).from_rows(rows)
        weight = np.broadcast_to(unit, (groups, cg, kh, kw)).astype(np.float32)
        if call.op.name == "relax.matmul":
            out = (x.reshape(-1, cg) @ weight[0, :, :, 0]).T[:, None, :]
        else:
            weight = weight[:, :, 0] if call.op.name.endswith("conv1d") else weight
            unit_call = relax.Call(call.op, [call.args[0], relax.const(weight)], call.attrs, call.ty_args)
            net = Net(x.shape)
            net.x = call.args[0]
            out = Interpreter(net.module(net.call(unit_call, "u"))).run([x])
            out = out.reshape(*out.shape[:2], -1).transpose(1, 0, 2)
        found.append(out.reshape(groups, -1))
    return np.stack(found, axis=1).astype(np.float64)


@pytest.mark.parametrize("name", CASES)
def test_moments(name: str) -> None:
    shape, build = CASES[name]
    net = Net(shape)
    mod = net.module(build(net))
    call = next(v for v_, v in bindings_of(mod["main"]) if v_.name == "y")
    xs = inputs(mod, 3)
    moments = collect_moments(mod, xs, ["y"], reference=mod)["y"]
    groups = moments.groups
    x = np.concatenate([columns(call, x, moments.geometry, groups) for x in xs], axis=2)
    assert moments.count == x.shape[2]
    np.testing.assert_allclose(moments.xx, x @ x.transpose(0, 2, 1), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(moments.x, x.sum(2), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(moments.mean, x.mean(2), rtol=1e-5, atol=1e-5)
    centred = x - x.mean(2, keepdims=True)
    np.testing.assert_allclose(moments.centred(), centred @ centred.transpose(0, 2, 1), rtol=1e-4, atol=1e-3)

    # the layer's own weight gives its outputs
    array = call.args[1].value.numpy()
    weight = {2: lambda: array.T[:, :, None, None], 3: lambda: array[:, :, None], 4: lambda: array}[
        array.ndim
    ]()
    rows = moments.geometry.to_rows(weight).reshape(groups, -1, x.shape[1]).astype(np.float64)
    y = (rows @ x).reshape(weight.shape[0], -1)
    np.testing.assert_allclose(moments.error(weight), (y**2).sum(1), rtol=1e-4)
    np.testing.assert_allclose(moments.yy, (y**2).sum(1), rtol=1e-4)
    np.testing.assert_allclose(moments.y, y.sum(1), rtol=1e-4, atol=1e-3)
    grouped = y.reshape(groups, -1, y.shape[1])
    np.testing.assert_allclose(
        moments.yx, (grouped @ x.transpose(0, 2, 1)).reshape(y.shape[0], -1), rtol=1e-4, atol=1e-3
    )


def test_reference_is_another_network() -> None:
    nets = [Net((1, 3, 4, 4), seed=s) for s in (0, 1)]
    mod, reference = (n.module(n.relu(n.conv(n.x, 4, 1, "y", bias=False))) for n in nets)
    xs = inputs(mod, 2)
    got = collect_moments(mod, xs, ["y"], reference=reference)["y"]
    own = collect_moments(reference, xs, ["y"], reference=reference)["y"]
    np.testing.assert_allclose(got.yx, own.yx)
    np.testing.assert_allclose(got.xx, own.xx)
    assert collect_moments(mod, xs, ["y"])["y"].yx is None


def test_names_that_are_no_layers() -> None:
    net = Net((1, 3, 4, 4))
    mod = net.module(net.relu(net.conv(net.x, 4, 1, "y"), "r"))
    with pytest.raises(CalibrationError, match=r"no values of the layers \['z'\]"):
        collect_moments(mod, inputs(mod, 1), ["y", "z"])
    with pytest.raises(CalibrationError, match=r"relax\.nn\.relu has no input moments"):
        collect_moments(mod, inputs(mod, 1), ["r"])


def test_progress() -> None:
    net = Net((1, 3, 4, 4))
    mod = net.module(net.conv(net.x, 4, 1, "y"))
    done: list[int] = []
    collect_moments(mod, inputs(mod, 3), ["y"], progress=done.append)
    assert done == [1, 2, 3]
