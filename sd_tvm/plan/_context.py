"""What compiled code asks of TVM's runtime, for processes that do not have it.

Code that TVM compiles calls services of ``libtvm_runtime``: memory for intermediate results, and loops over
threads with barriers. Where that library is not loaded, the ones here stand in: plain memory, one thread.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

_ALIGNMENT = 64
#: A global function of libtvm_runtime.
_RUNTIME_MARK = "runtime.config_threadpool"


class _Group(ctypes.Structure):
    """``TVMParallelGroupEnv``."""

    _fields_ = (("sync_handle", ctypes.c_void_p), ("num_task", ctypes.c_int32))


_TASK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.POINTER(_Group), ctypes.c_void_p)
_memory: dict[int, Any] = {}
_provided: list[str] = []


def _allocate(_device: int, _number: int, nbytes: int, _code: int, _bits: int) -> int:
    raw = np.empty(nbytes + _ALIGNMENT, np.uint8)
    at = int(raw.ctypes.data)
    at += -at % _ALIGNMENT
    _memory[at] = raw
    return at


def _free(_device: int, _number: int, at: int) -> int:
    return 0 if _memory.pop(at, None) is not None else -1


def _launch(task: Any, data: int, _tasks: int) -> int:
    return int(task(0, ctypes.byref(_Group(None, 1)), data))


def _barrier(_task: int, _group: int) -> int:
    return 0


_INT, _POINTER = ctypes.c_int, ctypes.c_void_p
_SERVICES: dict[str, Any] = {
    "__TVMBackendAllocWorkspace": ctypes.CFUNCTYPE(_POINTER, _INT, _INT, ctypes.c_uint64, _INT, _INT)(
        _allocate
    ),
    "__TVMBackendFreeWorkspace": ctypes.CFUNCTYPE(_INT, _INT, _INT, _POINTER)(_free),
    "__TVMBackendParallelLaunch": ctypes.CFUNCTYPE(_INT, _TASK, _POINTER, _INT)(_launch),
    "__TVMBackendParallelBarrier": ctypes.CFUNCTYPE(_INT, _INT, _POINTER)(_barrier),
}


def provide_context() -> None:
    """Register the services, unless ``libtvm_runtime`` is there; does nothing the second time."""
    import tvm_ffi

    if _provided or tvm_ffi.get_global_func(_RUNTIME_MARK, allow_missing=True) is not None:
        return
    library = ctypes.CDLL(str(tvm_ffi.libinfo.find_libtvm_ffi()))
    for name, service in _SERVICES.items():
        library.TVMFFIEnvModRegisterContextSymbol(name.encode(), ctypes.cast(service, _POINTER))
        _provided.append(name)
