"""Transposed convolutions: equal to torch as phases, the same integers on every back end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from passes.running import calibrated, inputs, run
from torch import nn

from sd_tvm.frontends.onnx import from_proto as from_onnx
from sd_tvm.frontends.torch import from_module
from sd_tvm.layers import ConvLayer, InterleaveLayer, layer_from_json
from sd_tvm.recipe import Recipe
from sd_tvm.relay_passes._rewrite import bindings_of
from sd_tvm.relay_passes.decompose import Decompose
from sd_tvm.relay_passes.lower_cpu import LowerToCPU
from sd_tvm.relay_passes.offload import Offload
from sd_tvm.relay_passes.partition import Partition
from sd_tvm.relay_passes.pipeline import simplify
from sd_tvm.relay_passes.report import node_reports

#: kernel, stride, padding, output_padding, dilation
GEOMETRIES: dict[str, tuple[Any, ...]] = {
    "U-Net": (2, 2, 0, 0, 1),
    "4x4 at 2": (4, 2, 1, 0, 1),
    "3x3 at 2": (3, 2, 1, 1, 1),
    "3x3 at 2, odd": (3, 2, 1, 0, 1),
    "5x5 at 2": (5, 2, 2, 1, 1),
    "stride 1": (3, 1, 1, 0, 1),
    "stride 1, full": (3, 1, 0, 0, 1),
    "16x16 at 8": (16, 8, 4, 0, 1),
    "gaps": (2, 3, 0, 0, 1),
    "gaps and more": (1, 2, 0, 1, 1),
    "dilated": (3, 2, 2, 1, 2),
    "uneven": ((3, 4), (1, 2), (0, 1), (0, 1), (1, 1)),
    "padding beyond the kernel": (2, 2, 3, 1, 1),
    "large padding": (3, 3, 4, 2, 1),
}


def simplified(mod: Any) -> Any:
    for step in simplify():
        mod = step(mod)
    return mod


def ops(mod: Any) -> set[str]:
    return {str(getattr(getattr(v, "op", None), "name", "")) for _, v in bindings_of(mod["main"])}


def transposed(
    geometry: str, channels: int = 5, filters: int = 7, *, bias: bool = True
) -> nn.ConvTranspose2d:
    kernel, stride, padding, output_padding, dilation = GEOMETRIES[geometry]
    torch.manual_seed(3)
    return nn.ConvTranspose2d(
        channels, filters, kernel, stride, padding, output_padding, bias=bias, dilation=dilation
    )


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_equals_torch(geometry: str) -> None:
    net = transposed(geometry, bias=geometry != "dilated")
    x = torch.randn(2, 5, 7, 6)
    mod = simplified(from_module(net, (x,)))
    assert "relax.nn.conv2d_transpose" not in ops(mod)
    want = net(x).detach().numpy()
    got = run(mod, x.numpy())[0]
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def decoder() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(3, 24, 3, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(24, 20, 4, stride=2, padding=1),
        nn.BatchNorm2d(20),
        nn.ReLU(),
        nn.ConvTranspose2d(20, 16, 2, stride=2),
        nn.ReLU6(),
        nn.Conv2d(16, 5, 1),
    ).eval()


def test_batch_norm_bias_and_activation_run_on_the_phases() -> None:
    net, x = decoder(), torch.randn(1, 3, 6, 5)
    with torch.no_grad():
        net[3].running_mean.normal_()
        net[3].running_var.uniform_(0.5, 2)
    mod = simplified(from_module(net, (x,)))
    assert not {"relax.nn.conv2d_transpose", "relax.nn.batch_norm"} & ops(mod)
    np.testing.assert_allclose(run(mod, x.numpy())[0], net(x).detach().numpy(), rtol=1e-3, atol=1e-4)
    result = Partition()(Decompose(Recipe.named("int8"))(calibrated(mod)))
    rows = node_reports(result)
    assert {row.target for row in rows} == {"integer"}, [r for r in rows if r.target != "integer"]
    found = [
        layer_from_json(str(f.attrs["sd.layer"]))
        for _, f in result.functions_items()
        if "sd.layer" in f.attrs
    ]
    convs = {layer.name: layer for layer in found if isinstance(layer, ConvLayer)}
    assert convs["2"].weight_shape == (4 * 32, 24, 2, 2)  # the user's name; two taps a side, filters padded
    assert convs["5"].weight_shape == (4 * 16, 20, 1, 1)
    assert sorted(layer.out_hw for layer in found if isinstance(layer, InterleaveLayer)) == [
        (12, 10),
        (24, 20),
    ]


SPARSE = Recipe.from_dict(
    {"version": 1, "rules": [{"op": "*", "kind": "sd", "form": {"pattern": "8:16"}, "even_if_larger": True}]}
)


@pytest.mark.parametrize("recipe", [Recipe.named("int8"), SPARSE], ids=["int8", "8:16"])
def test_the_same_integers_on_every_back_end(recipe: Recipe) -> None:
    mod = calibrated(simplified(from_module(decoder(), (torch.zeros(1, 3, 6, 5),))))
    result = Partition()(Decompose(recipe)(mod))
    placed = Offload("edge")(result)
    assert {row.target for row in node_reports(placed)} == {"sd_accel"}
    for x in inputs(mod, 2, seed=7):
        on_cpu, on_chip = run(LowerToCPU()(result), x)[0], run(LowerToCPU()(placed), x)[0]
        np.testing.assert_array_equal(on_cpu, on_chip)
        if recipe is not SPARSE:
            want = run(mod, x)[0]
            assert np.abs(on_cpu - want).max() <= 0.06 * np.abs(want).max()


@pytest.mark.parametrize("geometry", ["U-Net", "4x4 at 2", "3x3 at 2, odd", "uneven", "large padding"])
def test_geometries_on_the_accelerator(geometry: str) -> None:
    net = nn.Sequential(transposed(geometry, 16, 20), nn.ReLU(), nn.Conv2d(20, 4, 1)).eval()
    mod = calibrated(simplified(from_module(net, (torch.zeros(1, 16, 7, 6),))))
    result = Partition()(Decompose(Recipe.named("int8"))(mod))
    placed = Offload("edge")(result)
    assert {row.target for row in node_reports(placed)} == {"sd_accel"}
    x = inputs(mod, 1, seed=9)[0]
    got, want = run(LowerToCPU()(placed), x)[0], run(mod, x)[0]
    np.testing.assert_array_equal(got, run(LowerToCPU()(result), x)[0])
    assert np.abs(got - want).max() <= 0.06 * np.abs(want).max()


def test_groups_stay_float32() -> None:
    net = nn.ConvTranspose2d(8, 8, 2, stride=2, groups=8)
    mod = calibrated(simplified(from_module(net, (torch.zeros(1, 8, 4, 4),))))
    rows = node_reports(Partition()(Decompose(Recipe.named("int8"))(mod)))
    assert any("conv2d_transpose is not supported" in row.reason for row in rows)


@pytest.mark.parametrize("geometry", ["U-Net", "3x3 at 2", "dilated"])
def test_onnx(geometry: str) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    net = transposed(geometry)
    kernel, stride, padding, output_padding, dilation = GEOMETRIES[geometry]
    node = helper.make_node(
        "ConvTranspose",
        ["x", "w", "b"],
        ["y"],
        kernel_shape=[kernel] * 2,
        strides=[stride] * 2,
        pads=[padding] * 4,
        output_padding=[output_padding] * 2,
        dilations=[dilation] * 2,
    )
    x = torch.randn(1, 5, 6, 6)
    want = net(x).detach().numpy()
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 5, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, list(want.shape))],
        [
            numpy_helper.from_array(net.weight.detach().numpy(), "w"),
            numpy_helper.from_array(net.bias.detach().numpy(), "b"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    onnx.checker.check_model(model)
    mod = simplified(from_onnx(model))
    assert "relax.nn.conv2d_transpose" not in ops(mod)
    np.testing.assert_allclose(run(mod, x.numpy())[0], want, rtol=1e-4, atol=1e-5)
