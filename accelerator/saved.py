"""Programs and configuration of a compiled model, read back from the runtime modules that carry them."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.simulator import load_library, module_config
from sd_tvm.errors import ConfigError, ProgramError

KIND = "sd_accel"
_HEAD = struct.Struct("<4sI")
_MAGIC = b"SDMO"
_VERSION = 2
_SIZE = struct.Struct("<Q")


@dataclass(frozen=True)
class SavedProgram:
    """One function of a module of kind ``sd_accel``: a region of layers.

    Attributes
    ----------
    name
        Function name.
    layers
        Records of its layers (:func:`sd_tvm.layers.layer_to_json`), in the order that MARK counts.
    program
        Bytes of :class:`sd_tvm.accelerator.isa.Program`.
    """

    name: str
    layers: tuple[dict[str, Any], ...]
    program: bytes


def saved_programs(module: Any) -> list[SavedProgram]:
    """Functions of a runtime module and of everything that it imports, in order.

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
    return [program for found in _modules(module, set()) for program in _programs(found)]


def saved_config(module: Any) -> AcceleratorConfig:
    """Configuration that a runtime module, or what it imports, was compiled for.

    Raises
    ------
    ConfigError
        If there is no module of ours, there are several configurations, or the configuration cannot be
        read back (:meth:`AcceleratorConfig.from_text`).
    """
    load_library()
    texts = {module_config(found) for found in _modules(module, set())}
    if len(texts) != 1:
        raise ConfigError(
            f"{len(texts)} accelerator configurations in the compiled model",
            expected="one",
            fix="pass the configuration (config=, --config)",
        )
    return AcceleratorConfig.from_text(texts.pop())


def _modules(module: Any, seen: set[int]) -> Iterator[Any]:
    if id(module) in seen:
        return
    seen.add(id(module))
    if str(module.kind) == KIND:
        yield module
    for imported in module.imports:
        yield from _modules(imported, seen)


def _programs(module: Any) -> Iterator[SavedProgram]:
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
        layers, at = _string(data, at)
        program, at = _string(data, at)
        yield SavedProgram(name.decode(), tuple(json.loads(layers)), program)


def _string(data: bytes, at: int) -> tuple[bytes, int]:
    (size,) = _SIZE.unpack_from(data, at)
    start = at + _SIZE.size
    return data[start : start + size], start + size
