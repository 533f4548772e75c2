"""ggml's products with weights of 4 and 2 bits, by its C interface; the folder of its libraries is given.

``scripts/build_ggml.sh`` makes them from the sources that llama-cpp-python ships, for one instruction set:
which that is ggml decides when it is compiled.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

import numpy as np

from sd_tvm.bench.contestant import Contestant, Maker
from sd_tvm.bench.turns import threads
from sd_tvm.errors import OptionError

Array = np.ndarray[Any, Any]
#: Folder of libggml-base.so and libggml-cpu.so.
FOLDER = "SD_GGML"
#: ggml.h, enum ggml_type.
_F32 = 0
#: Name: (enum ggml_type, kind).
FORMATS = {"Q4_0": (2, "int4"), "Q4_K": (12, "int4"), "Q2_K": (10, "int2"), "TQ2_0": (35, "int2")}
_GRAPH_BYTES = 1 << 20
#: Of the C functions: (library, result, arguments); p: pointer, z: size_t, i: int, q: int64_t, c: char *.
_FUNCTIONS = {
    "ggml_version": ("base", "c", ""),
    "ggml_init": ("base", "p", None),
    "ggml_new_tensor_2d": ("base", "p", "piqq"),
    "ggml_mul_mat": ("base", "p", "ppp"),
    "ggml_new_graph": ("base", "p", "p"),
    "ggml_build_forward_expand": ("base", "", "pp"),
    "ggml_quantize_chunk": ("base", "z", "ippqqqp"),
    "ggml_row_size": ("base", "z", "iq"),
    "ggml_backend_alloc_ctx_tensors": ("base", "p", "pp"),
    "ggml_backend_alloc_ctx_tensors_from_buft": ("base", "p", "pp"),
    "ggml_backend_tensor_set": ("base", "", "ppzz"),
    "ggml_backend_tensor_get": ("base", "", "ppzz"),
    "ggml_backend_graph_compute": ("base", "i", "pp"),
    "ggml_backend_reg_dev_get": ("base", "p", "pz"),
    "ggml_backend_reg_get_proc_address": ("base", "p", "pc"),
    "ggml_backend_dev_supports_op": ("base", "b", "pp"),
    "ggml_backend_cpu_init": ("cpu", "p", ""),
    "ggml_backend_cpu_set_n_threads": ("cpu", "", "pi"),
    "ggml_backend_cpu_reg": ("cpu", "p", ""),
}
_TYPES = {
    "p": ctypes.c_void_p, "z": ctypes.c_size_t, "i": ctypes.c_int, "q": ctypes.c_int64,
    "c": ctypes.c_char_p, "b": ctypes.c_bool, "": None,
}  # fmt: skip


class _Parameters(ctypes.Structure):
    """ggml.h, struct ggml_init_params: memory is allocated later."""

    _fields_ = (("size", ctypes.c_size_t), ("memory", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


class _Ggml:
    def __init__(self, folder: Path) -> None:
        files = {name: folder / f"libggml-{name}.so" for name in ("base", "cpu")}
        missing = [str(path) for path in files.values() if not path.is_file()]
        if missing:
            raise OptionError(
                f"no {', '.join(missing)}", expected="ggml's libraries", fix="run scripts/build_ggml.sh"
            )
        libraries = {k: ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL) for k, path in files.items()}
        for name, (library, result, arguments) in _FUNCTIONS.items():
            function = getattr(libraries[library], name)
            function.restype = _TYPES[result]
            function.argtypes = [_Parameters] if arguments is None else [_TYPES[a] for a in arguments]
            setattr(self, name, function)

    def __getattr__(self, name: str) -> Any:  # for mypy: set in __init__
        raise AttributeError(name)


def version() -> dict[str, str]:
    """ggml's version by its name; empty without its libraries."""
    folder = os.environ.get(FOLDER)
    return {"ggml": _Ggml(Path(folder)).ggml_version().decode()} if folder else {}


def dense(w: Array, x: Array) -> dict[str, Maker]:
    """y = x W^T, W (M, K) in each format; ggml rounds x to 8 bits itself."""
    return {f"ggml {name}": lambda name=name: _contestant(name, w, x) for name in FORMATS}


def _contestant(name: str, w: Array, x: Array) -> Contestant:
    folder = os.environ.get(FOLDER)
    if not folder:
        raise OptionError(
            f"{FOLDER} is not set", expected="the folder of ggml's libraries", fix="run scripts/build_ggml.sh"
        )
    number, kind = FORMATS[name]
    call, nbytes = _product(_Ggml(Path(folder)), number, w, x)
    error = np.abs(call() - x @ w.T).mean() / np.abs(x @ w.T).mean()
    if not error < (0.2 if kind == "int4" else 1.0):
        raise OptionError(
            f"ggml {name}: mean error {error:.2f}", expected="that of its format", fix="build it again"
        )
    return Contestant(f"ggml {name}", kind, call, nbytes)


def _product(ggml: Any, number: int, w: Array, x: Array) -> tuple[Any, int]:
    """(call, bytes of the weight). Weights are rearranged once, as llama.cpp does, where ggml can."""
    (m, k), batch = w.shape, x.shape[0]
    backend, registry = ggml.ggml_backend_cpu_init(), ggml.ggml_backend_cpu_reg()
    ggml.ggml_backend_cpu_set_n_threads(backend, threads())
    device = ggml.ggml_backend_reg_dev_get(registry, 0)
    for kind in (*_extra_buffers(ggml, registry, device), None):
        weights, values = (ggml.ggml_init(_Parameters(_GRAPH_BYTES, None, True)) for _ in range(2))
        weight = ggml.ggml_new_tensor_2d(weights, number, k, m)
        value = ggml.ggml_new_tensor_2d(values, _F32, k, batch)
        product = ggml.ggml_mul_mat(values, weight, value)
        if kind is None:
            ggml.ggml_backend_alloc_ctx_tensors(weights, backend)
        elif not ggml.ggml_backend_alloc_ctx_tensors_from_buft(weights, kind):
            continue
        if kind is None or ggml.ggml_backend_dev_supports_op(device, product):
            break
    graph = ggml.ggml_new_graph(values)
    ggml.ggml_build_forward_expand(graph, product)
    ggml.ggml_backend_alloc_ctx_tensors(values, backend)

    source = np.ascontiguousarray(w, dtype=np.float32)
    packed = np.zeros(ggml.ggml_row_size(number, k) * m, dtype=np.uint8)
    ggml.ggml_quantize_chunk(number, source.ctypes.data, packed.ctypes.data, 0, m, k, None)
    ggml.ggml_backend_tensor_set(weight, packed.ctypes.data, 0, packed.nbytes)
    given, out = np.ascontiguousarray(x, dtype=np.float32), np.zeros((batch, m), dtype=np.float32)

    def call() -> Array:
        ggml.ggml_backend_tensor_set(value, given.ctypes.data, 0, given.nbytes)
        status = ggml.ggml_backend_graph_compute(backend, graph)
        if status:
            raise OptionError(f"ggml: status {status}", expected="0", fix="build it again")
        ggml.ggml_backend_tensor_get(product, out.ctypes.data, 0, out.nbytes)
        return out

    return call, packed.nbytes


def _extra_buffers(ggml: Any, registry: Any, device: Any) -> list[Any]:
    """Kinds of memory that rearrange weights for this processor."""
    address = ggml.ggml_backend_reg_get_proc_address(registry, b"ggml_backend_dev_get_extra_bufts")
    if not address:
        return []
    found = ctypes.CFUNCTYPE(ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p)(address)(device)
    kinds = []
    while found and found[len(kinds)]:
        kinds.append(found[len(kinds)])
    return kinds
