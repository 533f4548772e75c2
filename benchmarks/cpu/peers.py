"""Other libraries on the same shapes; one that is missing, or fails, gives a reason instead of a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from sd_tvm.bench.contestant import Contestant, Maker
from sd_tvm.bench.sessions import import_torch, onnxruntime_call, openvino_call, torch_call
from sd_tvm.schedules.cpu.isa import Isa

from . import ggml, int4ov, onnxes, tvm_fp32
from .networks import Net
from .shapes import Conv, Dense

Array = np.ndarray[Any, Any]
_NBITS = "onnxruntime int{} (MatMulNBits)"


def dense(shape: Dense, isa: Isa | None, rng: np.random.Generator) -> dict[str, Maker]:
    """y = x W^T in float32, float32 in and out; TVM compiles for ``isa`` (None: not here)."""
    w = rng.normal(size=(shape.m, shape.k)).astype(np.float32)
    x = rng.normal(size=(shape.batch, shape.k)).astype(np.float32)

    def ort(name: str, kind: str, model: Any, nbytes: int) -> Maker:
        return lambda: Contestant(name, kind, onnxruntime_call(model(), x), nbytes)

    return {
        "torch fp32": lambda: _torch_dense(w, x, dynamic=False),
        "torch int8 dynamic": lambda: _torch_dense(w, x, dynamic=True),
        "onnxruntime fp32": ort("onnxruntime fp32", "fp32", lambda: onnxes.matmul(w, x), w.nbytes),
        "onnxruntime int8 dynamic": ort("onnxruntime int8", "int8", lambda: onnxes.dynamic(w, x), w.size),
        **{
            _NBITS.format(b): ort(
                _NBITS.format(b), f"int{b}", lambda b=b: onnxes.nbits(w, x, b), onnxes.nbits_bytes(w.size, b)
            )
            for b in (4, 2)
        },
        "openvino fp32": lambda: Contestant(
            "openvino fp32", "fp32", openvino_call(onnxes.matmul(w, x), x), w.nbytes
        ),
        "openvino int4 weights": lambda: Contestant(
            "openvino int4 weights", "int4", openvino_call(int4ov.matmul(w, x), x),
            w.size // 2 + 2 * w.size // int4ov.GROUP,
        ),
        **tvm_fp32.peer(shape, w, x, isa),
        **ggml.dense(w, x),
    }  # fmt: skip


def conv(shape: Conv, isa: Isa | None, rng: np.random.Generator) -> dict[str, Maker]:
    """A convolution: float32, and uint8 in and out; ``isa`` as for :func:`dense`."""
    w = rng.normal(size=(shape.m, shape.c, shape.kernel, shape.kernel)).astype(np.float32)
    x = rng.normal(size=(1, shape.c, shape.size, shape.size)).astype(np.float32)
    q = rng.integers(0, 256, x.shape).astype(np.uint8)
    return {
        "torch fp32": lambda: _torch_conv(w, x),
        "onnxruntime fp32": lambda: Contestant(
            "onnxruntime fp32", "fp32", onnxruntime_call(onnxes.conv(w, x), x), w.nbytes
        ),
        "onnxruntime int8 (QLinearConv)": lambda: Contestant(
            "onnxruntime int8", "int8", onnxruntime_call(onnxes.qconv(w, q), q), w.size
        ),
        "openvino fp32": lambda: Contestant(
            "openvino fp32", "fp32", openvino_call(onnxes.conv(w, x), x), w.nbytes
        ),
        **tvm_fp32.peer(shape, w, x, isa),
    }


def network(net: Net) -> dict[str, Maker]:
    """A network whole, float32 in and out."""
    x = net.example
    makers: dict[str, Maker] = {
        "torch fp32": lambda: Contestant("torch fp32", "fp32", torch_call(net.build(), x)),
        "onnxruntime fp32": lambda: Contestant(
            "onnxruntime fp32", "fp32", onnxruntime_call(onnxes.network(net, "fp32"), x)
        ),
        "onnxruntime int8 (QDQ, static)": lambda: Contestant(
            "onnxruntime int8", "int8", onnxruntime_call(onnxes.network(net, "int8"), x)
        ),
        "openvino fp32": lambda: Contestant(
            "openvino fp32", "fp32", openvino_call(onnxes.network(net, "fp32"), x)
        ),
        "openvino int8 (the same QDQ)": lambda: Contestant(
            "openvino int8", "int8", openvino_call(onnxes.network(net, "int8"), x)
        ),
    }
    if net.int4:
        makers[_NBITS.format(4)] = lambda: Contestant(
            _NBITS.format(4), "int4", onnxruntime_call(onnxes.network(net, "int4"), x)
        )
        makers["openvino int4 weights"] = lambda: Contestant(
            "openvino int4 weights", "int4",
            openvino_call(int4ov.with_int4(onnxes.network(net, "fp32")), x),
        )  # fmt: skip
    return makers


def _torch_dense(w: Array, x: Array, *, dynamic: bool) -> Contestant:
    torch = import_torch()
    layer = torch.nn.Sequential(torch.nn.Linear(w.shape[1], w.shape[0], bias=False))
    layer[0].weight = torch.nn.Parameter(torch.from_numpy(w))
    layer.eval()
    if dynamic:
        layer = torch.ao.quantization.quantize_dynamic(layer, {torch.nn.Linear}, dtype=torch.qint8)
    name, kind = ("torch int8 dynamic", "int8") if dynamic else ("torch fp32", "fp32")
    return Contestant(name, kind, torch_call(layer, x), w.size if dynamic else w.nbytes)


def _torch_conv(w: Array, x: Array) -> Contestant:
    torch = import_torch()
    weight, pad = torch.from_numpy(w), w.shape[2] // 2
    call = torch_call(lambda v: torch.nn.functional.conv2d(v, weight, padding=pad), x)
    return Contestant("torch fp32", "fp32", call, w.nbytes)
