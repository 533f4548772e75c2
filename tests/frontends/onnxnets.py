"""ONNX models made by hand, and their values in plain NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def _weights(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return (rng.normal(size=shape) * 0.4).astype(np.float32)

    return {
        "stem.weight": normal(4, 2, 1, 1),
        "stem.bias": normal(4),
        "low": np.float32(0),
        "high": np.float32(6),
        "gamma": normal(4) + np.float32(1),
        "beta": normal(4),
        "mean": normal(4),
        "var": np.abs(normal(4)) + np.float32(0.5),
        "fc.weight": normal(3, 4),
        "fc.bias": normal(3),
    }


def classifier(dims: tuple[Any, ...] = (1, 2, 5, 5), dtype: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """1x1 convolution, clip, batch norm, relu, global average, dense."""
    nodes = [
        helper.make_node("Conv", ["image", "stem.weight", "stem.bias"], ["c"], name="/stem/Conv"),
        helper.make_node("Clip", ["c", "low", "high"], ["r"], name="/stem/act/Clip"),
        helper.make_node("BatchNormalization", ["r", "gamma", "beta", "mean", "var"], ["n"], epsilon=1e-3),
        helper.make_node("Relu", ["n"], ["p"]),
        helper.make_node("GlobalAveragePool", ["p"], ["g"], name="/pool"),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "fc.weight", "fc.bias"], ["scores"], name="/fc/Gemm", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("image", dtype, dims)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in _weights().items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def classifier_values(x: np.ndarray) -> np.ndarray:
    """What :func:`classifier` computes."""
    w = {n: np.asarray(a, np.float64) for n, a in _weights().items()}
    c = np.einsum("mc,nchw->nmhw", w["stem.weight"][:, :, 0, 0], x) + w["stem.bias"][None, :, None, None]
    r = np.clip(c, 0, 6)
    scale = w["gamma"] / np.sqrt(w["var"] + 1e-3)
    n = r * scale[None, :, None, None] + (w["beta"] - w["mean"] * scale)[None, :, None, None]
    return np.maximum(n, 0).mean((2, 3)) @ w["fc.weight"].T + w["fc.bias"]


def unknown_operator() -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("StringNormalizer", ["x"], ["y"])],
        "odd",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
