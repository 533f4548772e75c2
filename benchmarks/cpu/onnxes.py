"""ONNX models of the peers' rows: layers by hand, networks exported and quantised."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sd_tvm.bench.sessions import import_torch

from .networks import Net

Array = np.ndarray[Any, Any]
#: Rows of a scale of MatMulNBits.
_BLOCK = 32


def _model(nodes: list[Any], x: Array, constants: dict[str, Array], out: tuple[str, list[int]]) -> bytes:
    """One-input, one-output ONNX model."""
    from onnx import TensorProto, helper, numpy_helper

    kinds = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kinds[str(x.dtype)], list(x.shape))],
        [helper.make_tensor_value_info("y", kinds[out[0]], out[1])],
        [numpy_helper.from_array(np.ascontiguousarray(a), n) for n, a in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def _node(op: str, inputs: list[str], outputs: list[str], **attrs: Any) -> Any:
    from onnx import helper

    return helper.make_node(op, inputs, outputs, **attrs)


def matmul(w: Array, x: Array) -> bytes:
    """float32."""
    return _model([_node("MatMul", ["x", "w"], ["y"])], x, {"w": w.T}, ("float32", [len(x), len(w)]))


def dynamic(w: Array, x: Array) -> bytes:
    """int8 weights, activations quantised on the way."""
    scale = np.float32(np.abs(w).max() / 127)
    nodes = [
        _node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        _node("MatMulInteger", ["q", "w", "z", "wz"], ["a"]),
        _node("Cast", ["a"], ["f"], to=1),
        _node("Mul", ["s", "ws"], ["m"]),
        _node("Mul", ["f", "m"], ["y"]),
    ]
    constants = {"w": np.rint(w / scale).astype(np.int8).T, "wz": np.int8(0), "ws": scale}
    return _model(nodes, x, {k: np.asarray(v) for k, v in constants.items()}, ("float32", [len(x), len(w)]))


def nbits(w: Array, x: Array, bits: int) -> bytes:
    """MatMulNBits, int8 arithmetic (accuracy level 4)."""
    packed, scale = _nbits_constants(w, bits)
    node = _nbits_node(["x", "w", "s"], "y", w.shape, bits)
    return _model([node], x, {"w": packed, "s": scale}, ("float32", [len(x), len(w)]))


def nbits_bytes(size: int, bits: int) -> int:
    """Bytes of ``size`` weights, scales included."""
    return size * bits // 8 + 4 * size // _BLOCK


def _nbits_node(inputs: list[str], output: str, shape: tuple[int, ...], bits: int, name: str = "") -> Any:
    return _node(
        "MatMulNBits", inputs, [output], name=name, domain="com.microsoft", K=shape[1], N=shape[0], bits=bits,
        block_size=_BLOCK, accuracy_level=4,
    )  # fmt: skip


def _nbits_constants(w: Array, bits: int) -> tuple[Array, Array]:
    """(bytes (M, blocks, block * bits / 8), scales) of weights (M, K), symmetric."""
    m, k = w.shape
    blocks, middle = -(-k // _BLOCK), 1 << (bits - 1)
    padded = np.pad(w, ((0, 0), (0, blocks * _BLOCK - k))).reshape(m, blocks, _BLOCK)
    scale = np.maximum(np.abs(padded).max(axis=2) / (middle - 0.5), 1e-9)
    q = np.clip(np.rint(padded / scale[..., None]) + middle, 0, 2 * middle - 1).astype(np.uint8)
    each = 8 // bits
    packed = np.zeros((m, blocks, _BLOCK // each), np.uint8)
    for i in range(each):
        packed |= q[..., i::each] << (bits * i)
    return packed, scale.astype(np.float32).reshape(-1)


def conv(w: Array, x: Array) -> bytes:
    """float32, padding that keeps the size."""
    pad = [w.shape[2] // 2] * 4
    return _model(
        [_node("Conv", ["x", "w"], ["y"], pads=pad)], x, {"w": w}, ("float32", [1, len(w), *x.shape[2:]])
    )


def qconv(w: Array, q: Array) -> bytes:
    """QLinearConv."""
    scale = (np.abs(w).max(axis=(1, 2, 3)) / 127).astype(np.float32)
    constants = {
        "xs": np.float32(0.02), "xz": np.uint8(128), "ws": scale, "wz": np.zeros(len(w), np.int8),
        "w": np.rint(w / scale[:, None, None, None]).astype(np.int8),
        "ys": np.float32(0.5), "yz": np.uint8(128),
    }  # fmt: skip
    node = _node(
        "QLinearConv", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["y"], pads=[w.shape[2] // 2] * 4
    )
    shape = [1, len(w), *q.shape[2:]]
    return _model([node], q, {k: np.asarray(v) for k, v in constants.items()}, ("uint8", shape))


_FOLDER: list[Any] = []


def network(net: Net, kind: str) -> Path:
    """ONNX file: float32, int8 quantised by onnxruntime (random data: speed only), or weights of 4 bits."""
    if not _FOLDER:
        _FOLDER.append(tempfile.TemporaryDirectory())
    folder = Path(_FOLDER[0].name)
    path, made = folder / f"{net.key}.onnx", folder / f"{net.key}-{kind}.onnx"
    if not path.exists():
        torch = import_torch()
        value = (torch.from_numpy(net.example),)
        torch.onnx.export(net.build(), value, str(path), dynamo=False, opset_version=17)
    if kind == "fp32":
        return path
    if not made.exists():
        if kind == "int4":
            _with_nbits(path, made)
        else:
            _quantised(path, made, net.example)
    return made


def _quantised(path: Path, made: Path, example: Array) -> None:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    ready = path.with_suffix(".ready.onnx")
    quant_pre_process(str(path), str(ready), skip_symbolic_shape=True)
    quantize_static(
        str(ready), str(made), _Reader(str(ready), example), quant_format=QuantFormat.QDQ,
        per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip


def _with_nbits(path: Path, made: Path) -> None:
    """Products with constants of two axes become MatMulNBits of 4 bits."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(path))
    constants = {t.name: t for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "MatMul" or node.input[1] not in constants:
            continue
        w = numpy_helper.to_array(constants[node.input[1]])
        if w.ndim != 2:
            continue
        packed, scale = _nbits_constants(w.T, 4)
        names = [f"{node.name}/{part}" for part in ("packed", "scale")]
        for name, array in zip(names, (packed, scale), strict=True):
            model.graph.initializer.append(numpy_helper.from_array(array, name))
        node.CopyFrom(_nbits_node([node.input[0], *names], node.output[0], w.T.shape, 4, node.name))
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, str(made))


class _Reader:
    """Two random inputs: ranges do not change the speed."""

    def __init__(self, path: str, example: Array) -> None:
        import onnxruntime as ort

        name = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).get_inputs()[0].name
        self._feeds: Iterator[dict[str, Array]] = iter([{name: example}, {name: 0.5 * example}])

    def get_next(self) -> dict[str, Array] | None:
        """Next input, None at the end."""
        return next(self._feeds, None)
