"""Programs of a compiled model, read back from the runtime modules that carry them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sd_tvm.accelerator.simulator import load_library
from sd_tvm.errors import ProgramError

KIND = "sd_accel"
_HEAD = struct.Struct("<4sI")
_MAGIC = b"SDMO"
_VERSION = 1
_SIZE = struct.Struct("<Q")


@dataclass(frozen=True)
class SavedLayer:
    """One function of a module of kind ``sd_accel``.

    Attributes
    ----------
    name
        Function name.
    layer
        JSON of the layer (:func:`sd_tvm.layers.layer_to_json`).
    program
        Bytes of :class:`sd_tvm.accelerator.isa.Program`.
    """

    name: str
    layer: str
    program: bytes


def saved_layers(module: Any) -> list[SavedLayer]:
    """Layers of a runtime module and of everything that it imports, in order.

    Parameters
    ----------
    module
        ``tvm_ffi.Module``: of an executable (``executable.mod``), or loaded from a library.

    Raises
    ------
    ProgramError
        If a module of ours was saved by another version.
    """
    load_library()
    return [layer for found in _modules(module, set()) for layer in _layers(found)]


def _modules(module: Any, seen: set[int]) -> Iterator[Any]:
    if id(module) in seen:
        return
    seen.add(id(module))
    if str(module.kind) == KIND:
        yield module
    for imported in module.imports:
        yield from _modules(imported, seen)


def _layers(module: Any) -> Iterator[SavedLayer]:
    import tvm_ffi

    data = bytes(tvm_ffi.get_global_func("sd_accel.save_module")(module))
    magic, version = _HEAD.unpack_from(data)
    if magic != _MAGIC or version != _VERSION:
        raise ProgramError(
            f"a saved sd_accel module of version {version}",
            expected=f"version {_VERSION}",
            fix="build the package again",
        )
    at = _HEAD.size
    _, at = _string(data, at)  # the configuration it was compiled for
    (count,) = _SIZE.unpack_from(data, at)
    at += _SIZE.size
    for _ in range(count):
        name, at = _string(data, at)
        layer, at = _string(data, at)
        program, at = _string(data, at)
        yield SavedLayer(name.decode(), layer.decode(), program)


def _string(data: bytes, at: int) -> tuple[bytes, int]:
    (size,) = _SIZE.unpack_from(data, at)
    start = at + _SIZE.size
    return data[start : start + size], start + size
