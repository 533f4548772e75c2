"""Activations, gates, concatenation and enlargement as torch and ONNX spell them become integer layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from onnx import TensorProto, helper, numpy_helper
from passes.running import GoldenGraph, run
from passes.test_elementwise import layers

from sd_tvm.frontends import load_model
from sd_tvm.frontends.torch import from_module
from sd_tvm.layers import ConcatLayer, LutLayer, MulLayer, ResizeLayer
from sd_tvm.recipe import Recipe
from sd_tvm.relay_passes import Calibrate, Decompose, LowerToCPU, Partition, node_reports
from sd_tvm.relay_passes.pipeline import simplify

SHAPE = (1, 4, 6, 6)
TORCH: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "leaky relu": lambda x: F.leaky_relu(x, 0.1),
    "elu": F.elu,
    "selu": F.selu,
    "celu": F.celu,
    "mish": F.mish,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "logsigmoid": F.logsigmoid,
    "prelu": lambda x: F.prelu(x, torch.tensor([0.2])),
    "square": lambda x: x * x,
    "exp": torch.exp,
}


def images(n: int) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [rng.normal(size=SHAPE).astype(np.float32) for _ in range(n)]


def integer(mod: Any) -> Any:
    for step in (*simplify(), Calibrate(images(4), method="minmax"), Decompose(Recipe.named("int8"))):
        mod = step(mod)
    return Partition()(mod)


class Around(torch.nn.Module):
    """conv -> function -> conv."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = torch.nn.Conv2d(4, 16, 3, padding=1), torch.nn.Conv2d(16, 8, 1)
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.function(self.a(x)))


def check(mod: Any, want: np.ndarray, n_host: int = 0) -> None:
    """Golden and LLVM agree; near the float32 values; nothing on the host."""
    assert sum(row.target == "cpu" for row in node_reports(mod)) == n_host
    (got,) = GoldenGraph(mod)(images(1)[0])
    (built,) = run(LowerToCPU()(mod), images(1)[0])
    np.testing.assert_array_equal(got, built)
    np.testing.assert_allclose(got, want, atol=0.06 * np.abs(want).max())


@pytest.mark.parametrize("name", TORCH)
def test_torch_activation_is_one_table(name: str) -> None:
    net = Around(TORCH[name]).eval()
    mod = integer(from_module(net, (torch.zeros(SHAPE),)))
    assert len(layers(mod, LutLayer)) == 1
    with torch.no_grad():
        want = net(torch.from_numpy(images(1)[0])).numpy()
    check(mod, want)


def weight(*shape: int, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=shape) / math.sqrt(shape[1])).astype(np.float32)


A, B, D = weight(16, 4, 1, 1, seed=1), weight(8, 16, 1, 1, seed=2), weight(8, 32, 1, 1, seed=3)


def pointwise(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    return np.einsum("nchw,mc->nmhw", x.astype(np.float64), w[:, :, 0, 0].astype(np.float64))


def onnx_net(nodes: list[Any], constants: dict[str, np.ndarray] | None = None) -> onnx.ModelProto:
    """Nodes between ``h``, a pointwise convolution of the image, and ``y``."""
    tensors = {"A": A, "B": B, "D": D, **(constants or {})}
    used = {i for n in nodes for i in n.input} | {"A"}
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "A"], ["h"]), *nodes],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in tensors.items() if n in used],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


ERF = np.vectorize(math.erf)
#: operator -> (attributes, its values in NumPy)
ONNX: dict[str, tuple[dict[str, Any], Callable[[np.ndarray], np.ndarray]]] = {
    "Sigmoid": ({}, lambda x: 1 / (1 + np.exp(-x))),
    "Tanh": ({}, np.tanh),
    "HardSwish": ({}, lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
    "HardSigmoid": ({"alpha": 0.25, "beta": 0.5}, lambda x: np.clip(0.25 * x + 0.5, 0, 1)),
    "Gelu": ({}, lambda x: 0.5 * x * (1 + ERF(x / math.sqrt(2)))),
    "LeakyRelu": ({"alpha": 0.1}, lambda x: np.where(x > 0, x, 0.1 * x)),
    "Elu": ({"alpha": 1.0}, lambda x: np.where(x > 0, x, np.expm1(x))),
    "Erf": ({}, ERF),
    "Softplus": ({}, lambda x: np.log1p(np.exp(x))),
    "Exp": ({}, np.exp),
    "Abs": ({}, np.abs),
}


@pytest.mark.parametrize("name", ONNX)
def test_onnx_activation_is_one_table(name: str) -> None:
    attributes, function = ONNX[name]
    nodes = [
        helper.make_node(name, ["h"], ["f"], **attributes),
        helper.make_node("Conv", ["f", "B"], ["y"]),
    ]
    mod = integer(load_model(onnx_net(nodes)))
    # a factor, an offset and a clip all join the convolution before them
    assert len(layers(mod, LutLayer)) == (0 if name == "HardSigmoid" else 1)
    check(mod, pointwise(function(pointwise(images(1)[0], A)), B))


def test_onnx_gate() -> None:
    """x * sigmoid(mean of x): squeeze and excite without its convolutions."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["h"], ["g"]),
        helper.make_node("Sigmoid", ["g"], ["s"]),
        helper.make_node("Mul", ["s", "h"], ["m"]),
        helper.make_node("Conv", ["m", "B"], ["y"]),
    ]
    mod = integer(load_model(onnx_net(nodes)))
    assert len(layers(mod, MulLayer)) == 1
    h = pointwise(images(1)[0], A)
    gate = 1 / (1 + np.exp(-h.mean(axis=(2, 3), keepdims=True)))
    check(mod, pointwise(h * gate, B))


def test_onnx_enlargement_and_concatenation() -> None:
    nodes = [
        helper.make_node("MaxPool", ["h"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node(
            "Resize",
            ["p", "", "scales"],
            ["u"],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
        helper.make_node("Concat", ["u", "h"], ["k"], axis=1),
        helper.make_node("Conv", ["k", "D"], ["y"]),
    ]
    mod = integer(load_model(onnx_net(nodes, {"scales": np.array([1, 1, 2, 2], np.float32)})))
    assert len(layers(mod, ResizeLayer)) == len(layers(mod, ConcatLayer)) == 1
    h = pointwise(images(1)[0], A)
    up = h.reshape(1, 16, 3, 2, 3, 2).max(axis=(3, 5)).repeat(2, axis=2).repeat(2, axis=3)
    check(mod, pointwise(np.concatenate([up, h], axis=1), D))
