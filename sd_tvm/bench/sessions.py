"""How other libraries are asked to run a model, with as many threads as everybody."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from sd_tvm.bench.turns import threads


def import_torch() -> Any:
    """Torch, with everybody's threads."""
    import torch

    torch.set_num_threads(threads())
    return torch


def torch_call(function: Callable[..., Any], *examples: Any) -> Callable[[], object]:
    """A torch module, or any function of tensors, on arrays or tensors."""
    torch = import_torch()
    tensors = [x if isinstance(x, torch.Tensor) else torch.from_numpy(x) for x in examples]
    call: Callable[[], object] = torch.inference_mode()(lambda: function(*tensors))
    return call


def onnxruntime_call(model: bytes | Path, *examples: Any) -> Callable[[], object]:
    """An ONNX model in ONNX Runtime."""
    ort: Any = import_module("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads(), 1
    options.log_severity_level = 3
    source = model if isinstance(model, bytes) else str(model)
    session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    feed = {i.name: x for i, x in zip(session.get_inputs(), examples, strict=True)}
    return lambda: session.run(None, feed)


def openvino_call(model: Any, *examples: Any) -> Callable[[], object]:
    """An ONNX model (bytes or path), or one of OpenVINO's own, in OpenVINO."""
    ov: Any = import_module("openvino")
    core = ov.Core()
    if isinstance(model, bytes):
        model = core.read_model(model=model)
    elif isinstance(model, str | Path):
        model = core.read_model(str(model))
    config = {
        "INFERENCE_NUM_THREADS": threads(),
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = core.compile_model(model, "CPU", config).create_infer_request()
    for i, x in enumerate(examples):
        request.set_input_tensor(i, ov.Tensor(x))
    call: Callable[[], object] = request.infer
    return call
