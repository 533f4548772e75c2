"""OpenVINO's models with weights of 4 bits: constants, converted and scaled by group before the product."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
#: Weights of a scale.
GROUP = 128


def matmul(w: Array, x: Array) -> Any:
    """y = x W^T, W (M, K) with K a multiple of :data:`GROUP`."""
    import openvino as ov
    from openvino import opset13 as op

    value = op.parameter(x.shape, np.float32, name="x")
    return ov.Model([op.matmul(value, _weights(w), False, True)], [value], "int4")


def with_int4(path: Path) -> Any:
    """An ONNX model whose products with constants of two axes have weights of 4 bits."""
    import openvino as ov
    from openvino import opset13 as op

    model = ov.Core().read_model(str(path))
    for node in model.get_ordered_ops():
        if node.get_type_name() != "MatMul":
            continue
        source = node.input_value(1).get_node()
        if source.get_type_name() != "Constant" or len(source.shape) != 2:
            continue
        attributes = node.get_attributes()
        w = source.data if attributes["transpose_b"] else source.data.T
        if w.shape[1] % GROUP or attributes["transpose_a"]:
            continue
        replacement = op.matmul(node.input_value(0), _weights(w), False, True)
        for target in node.output(0).get_target_inputs():
            target.replace_source_output(replacement.output(0))
    model.validate_nodes_and_infer_types()
    return model


def _weights(w: Array) -> Any:
    """(M, K) float32 from int4 and a scale of every group."""
    import openvino as ov
    from openvino import opset13 as op

    m, k = w.shape
    grouped = np.ascontiguousarray(w).reshape(m, k // GROUP, GROUP)
    scale = np.maximum(np.abs(grouped).max(axis=2, keepdims=True) / 7, 1e-9).astype(np.float16)
    q = np.rint(grouped / scale.astype(np.float32)).clip(-7, 7).astype(np.int8)
    packed = (q[..., 0::2] & 15 | (q[..., 1::2] & 15) << 4).astype(np.uint8)
    tensor = ov.Tensor(packed.reshape(-1), list(grouped.shape), ov.Type.i4)
    parts = op.multiply(op.convert(ov.op.Constant(tensor, shared_memory=False), "f16"), op.constant(scale))
    flat = op.reshape(parts, op.constant(np.array([m, k], np.int64)), False)
    return op.convert(flat, "f32")
