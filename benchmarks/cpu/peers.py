"""Other libraries on the same shapes; one that is missing, or fails, gives a reason instead of a time."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .measure import Contestant, threads
from .networks import Net

Array = np.ndarray[Any, Any]
Maker = Callable[[], Contestant]


def gather(makers: dict[str, Maker]) -> tuple[list[Contestant], dict[str, str]]:
    """Contestants of all makers that work, and why the others do not."""
    found, missing = [], {}
    for name, maker in makers.items():
        try:
            found.append(maker())
        except Exception as error:
            missing[name] = (
                f"{type(error).__name__}: {str(error).splitlines()[0][:160] if str(error) else ''}"
            )
    return found, missing


def versions() -> dict[str, str]:
    """Versions of the peers that are installed."""
    from importlib import metadata

    out = {}
    for package in ("torch", "onnxruntime", "openvino", "apache-tvm", "numpy"):
        try:
            out[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            out[package] = "not installed"
    return out


def dense(m: int, k: int, batch: int, rng: np.random.Generator) -> dict[str, Maker]:
    """y = x W^T in float32, float32 in and out, for W (m, k)."""
    w = rng.normal(size=(m, k)).astype(np.float32)
    x = rng.normal(size=(batch, k)).astype(np.float32)
    return {
        "torch fp32": lambda: _torch_dense(w, x, dynamic=False),
        "torch int8 dynamic": lambda: _torch_dense(w, x, dynamic=True),
        "onnxruntime fp32": lambda: _ort(_onnx_matmul(w, x), x, "fp32", w.nbytes),
        "onnxruntime int8 dynamic": lambda: _ort(_onnx_dynamic(w, x), x, "int8", w.size),
        "onnxruntime int4 (MatMulNBits)": lambda: _ort(_onnx_nbits(w, x), x, "int4", w.size * 9 // 16),
        "openvino fp32": lambda: _openvino(_onnx_matmul(w, x), x, "fp32", w.nbytes),
    }


def conv(m: int, c: int, size: int, kernel: int, rng: np.random.Generator) -> dict[str, Maker]:
    """A convolution, padding that keeps the size: float32, and uint8 in and out."""
    w = rng.normal(size=(m, c, kernel, kernel)).astype(np.float32)
    x = rng.normal(size=(1, c, size, size)).astype(np.float32)
    q = rng.integers(0, 256, x.shape).astype(np.uint8)
    return {
        "torch fp32": lambda: _torch_conv(w, x),
        "onnxruntime fp32": lambda: _ort(_onnx_conv(w, x), x, "fp32", w.nbytes),
        "onnxruntime int8 (QLinearConv)": lambda: _ort(_onnx_qconv(w, q), q, "int8", w.size),
        "openvino fp32": lambda: _openvino(_onnx_conv(w, x), x, "fp32", w.nbytes),
    }


def network(net: Net) -> dict[str, Maker]:
    """A network whole, float32 in and out."""
    return {
        "torch fp32": lambda: _torch_net(net),
        "onnxruntime fp32": lambda: _ort(_net(net, "fp32"), net.example, "fp32"),
        "onnxruntime int8 (QDQ, static)": lambda: _ort(_net(net, "int8"), net.example, "int8"),
        "openvino fp32": lambda: _openvino(_net(net, "fp32"), net.example, "fp32"),
        "openvino int8 (the same QDQ)": lambda: _openvino(_net(net, "int8"), net.example, "int8"),
    }


def _torch() -> Any:
    import torch

    torch.set_num_threads(threads())
    return torch


def _torch_dense(w: Array, x: Array, *, dynamic: bool) -> Contestant:
    torch = _torch()
    layer = torch.nn.Sequential(torch.nn.Linear(w.shape[1], w.shape[0], bias=False))
    layer[0].weight = torch.nn.Parameter(torch.from_numpy(w))
    layer.eval()
    value = torch.from_numpy(x)
    if dynamic:
        layer = torch.ao.quantization.quantize_dynamic(layer, {torch.nn.Linear}, dtype=torch.qint8)
    call = torch.inference_mode()(lambda: layer(value))
    name, kind = ("torch int8 dynamic", "int8") if dynamic else ("torch fp32", "fp32")
    return Contestant(name, kind, call, w.size if dynamic else w.nbytes)


def _torch_conv(w: Array, x: Array) -> Contestant:
    torch = _torch()
    weight, value = torch.from_numpy(w), torch.from_numpy(x)
    pad = w.shape[2] // 2
    call = torch.inference_mode()(lambda: torch.nn.functional.conv2d(value, weight, padding=pad))
    return Contestant("torch fp32", "fp32", call, w.nbytes)


def _torch_net(net: Net) -> Contestant:
    torch = _torch()
    model, value = net.build(), torch.from_numpy(net.example)
    return Contestant("torch fp32", "fp32", torch.inference_mode()(lambda: model(value)))


def _ort(model: bytes | Path, x: Array, kind: str, nbytes: int = 0) -> Contestant:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads(), 1
    options.log_severity_level = 3
    source = model if isinstance(model, bytes) else str(model)
    session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: x}
    names = {"fp32": "fp32", "int8": "int8", "int4": "int4 (MatMulNBits)"}
    return Contestant(f"onnxruntime {names[kind]}", kind, lambda: session.run(None, feed), nbytes)


def _openvino(model: bytes | Path, x: Array, kind: str, nbytes: int = 0) -> Contestant:
    import openvino as ov

    core = ov.Core()
    read = core.read_model(model=model) if isinstance(model, bytes) else core.read_model(str(model))
    config = {
        "INFERENCE_NUM_THREADS": threads(),
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = core.compile_model(read, "CPU", config).create_infer_request()
    tensor = ov.Tensor(x)
    request.set_input_tensor(tensor)
    return Contestant(f"openvino {kind}", kind, request.infer, nbytes)


def _model(nodes: list[Any], x: Array, constants: dict[str, Array], out: tuple[Any, list[int]]) -> bytes:
    """One-input, one-output ONNX model."""
    from onnx import TensorProto, helper, numpy_helper

    kinds = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8}
    graph = helper.make_graph(
        nodes,
        "row",
        [helper.make_tensor_value_info("x", kinds[str(x.dtype)], list(x.shape))],
        [helper.make_tensor_value_info("y", kinds[out[0]], out[1])],
        [numpy_helper.from_array(np.ascontiguousarray(a), n) for n, a in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def _node(op: str, inputs: list[str], outputs: list[str], **attrs: Any) -> Any:
    from onnx import helper

    return helper.make_node(op, inputs, outputs, **attrs)


def _onnx_matmul(w: Array, x: Array) -> bytes:
    return _model([_node("MatMul", ["x", "w"], ["y"])], x, {"w": w.T}, ("float32", [len(x), len(w)]))


def _onnx_dynamic(w: Array, x: Array) -> bytes:
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


def _onnx_nbits(w: Array, x: Array) -> bytes:
    m, k = w.shape
    block = 32
    blocks = -(-k // block)
    padded = np.pad(w, ((0, 0), (0, blocks * block - k))).reshape(m, blocks, block)
    scale = np.abs(padded).max(axis=2) / 7
    q = (np.rint(padded / scale[..., None]) + 8).astype(np.uint8)
    packed = q[..., 0::2] | (q[..., 1::2] << 4)
    node = _node(
        "MatMulNBits", ["x", "w", "s"], ["y"],
        domain="com.microsoft", K=k, N=m, bits=4, block_size=block, accuracy_level=4,
    )  # fmt: skip
    return _model(
        [node], x, {"w": packed, "s": scale.astype(np.float32).reshape(-1)}, ("float32", [len(x), m])
    )


def _onnx_conv(w: Array, x: Array) -> bytes:
    pad = [w.shape[2] // 2] * 4
    return _model(
        [_node("Conv", ["x", "w"], ["y"], pads=pad)], x, {"w": w}, ("float32", [1, len(w), *x.shape[2:]])
    )


def _onnx_qconv(w: Array, q: Array) -> bytes:
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


def _net(net: Net, kind: str) -> Path:
    """ONNX file of a network, float32 or quantised by onnxruntime (random data: speed only)."""
    if not _FOLDER:
        _FOLDER.append(tempfile.TemporaryDirectory())
    folder = Path(_FOLDER[0].name)
    path, quantised = folder / f"{net.key}.onnx", folder / f"{net.key}-int8.onnx"
    if not path.exists():
        torch = _torch()
        value = (torch.from_numpy(net.example),)
        torch.onnx.export(net.build(), value, str(path), dynamo=False, opset_version=17)
    if kind == "fp32":
        return path
    if not quantised.exists():
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        ready = folder / f"{net.key}-ready.onnx"
        quant_pre_process(str(path), str(ready), skip_symbolic_shape=True)
        quantize_static(
            str(ready), str(quantised), _Reader(str(ready), net.example), quant_format=QuantFormat.QDQ,
            per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
    return quantised


class _Reader:
    """Two random inputs: ranges do not change the speed."""

    def __init__(self, path: str, example: Array) -> None:
        import onnxruntime as ort

        name = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).get_inputs()[0].name
        self._feeds: Iterator[dict[str, Array]] = iter([{name: example}, {name: 0.5 * example}])

    def get_next(self) -> dict[str, Array] | None:
        """Next input, None at the end."""
        return next(self._feeds, None)
