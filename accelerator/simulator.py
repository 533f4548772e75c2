"""Python face of the simulator library ``libsd_accel.so``.

The library is loaded on first use; loading registers the global functions ``sd_accel.*`` and the loader of
saved modules, and maps the library's errors to the classes of :mod:`sd_tvm.errors`.
"""

from __future__ import annotations

import ctypes
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sd_tvm._library import installed_library
from sd_tvm.accelerator.isa.program import n_results
from sd_tvm.accelerator.records import layer_records
from sd_tvm.errors import ProgramError, VersionError

__all__ = [
    "LIBRARY",
    "Mode",
    "Profiler",
    "create_module",
    "layer_records",
    "library_path",
    "load_library",
    "module_config",
    "run_program",
]

Mode = Literal["functional", "timed"]
LIBRARY = "libsd_accel.so"

_lock = threading.Lock()
_library: ctypes.CDLL | None = None


def library_path() -> Path:
    """Path of the installed library.

    Raises
    ------
    VersionError
        If it is not there.
    """
    return installed_library(LIBRARY)


def load_library() -> None:
    """Load the library and register its errors; does nothing the second time.

    Raises
    ------
    VersionError
        If the library is missing, cannot be loaded, or was built for another instruction set.
    """
    global _library
    with _lock:
        if _library is not None:
            return
        import tvm_ffi

        from sd_tvm.accelerator.isa.spec import ISA_VERSION
        from sd_tvm.ffi_errors import register_errors

        path = library_path()
        try:
            library = ctypes.CDLL(str(path))
        except OSError as error:
            raise VersionError(
                f"{path} cannot be loaded ({error})",
                expected="a library built against the installed apache-tvm-ffi",
                fix="install the package again",
            ) from error
        version = tvm_ffi.get_global_func("sd_accel.isa_version")()
        if version != ISA_VERSION:
            raise VersionError(
                f"{path} executes instruction set version {version}",
                expected=f"version {ISA_VERSION}",
                fix="build the package again",
            )
        register_errors()
        _library = library


def _function(name: str) -> Any:
    load_library()
    import tvm_ffi

    return tvm_ffi.get_global_func(f"sd_accel.{name}")


def _config_text(config: Any) -> str:
    return config if isinstance(config, str) else str(config.to_text())


def _tensor(array: npt.NDArray[Any], *, output: bool) -> Any:
    import tvm_ffi

    if output and not (array.flags.c_contiguous and array.flags.writeable):
        raise ProgramError(
            "the result array cannot be written in place",
            expected="a contiguous, writeable array for every result",
            fix="allocate it with numpy.empty",
        )
    usable = np.ascontiguousarray(array)
    return tvm_ffi.from_dlpack(usable if usable.flags.writeable else usable.copy())


def run_program(
    program: bytes, config: Any, tensors: Sequence[npt.NDArray[Any]], mode: Mode = "functional"
) -> dict[str, Any]:
    """Execute one program on the simulator.

    Parameters
    ----------
    program
        Bytes of :class:`sd_tvm.accelerator.isa.Program`.
    config
        :class:`AcceleratorConfig`, or its text.
    tensors
        One array a segment; the last ones receive the results in place.
    mode
        ``functional`` has no notion of time; ``timed`` adds cycles and energy.

    Returns
    -------
    dict
        Statistics: mode, instructions by name, macs, macs_dense, bytes by memory ...

    Raises
    ------
    ProgramError, DeadlockError
        If the program or an operand is invalid.
    ConfigMismatchError, ConfigError
        If the configuration is too small or malformed.
    """
    first_result = len(tensors) - n_results(program)
    converted = [_tensor(t, output=i >= first_result) for i, t in enumerate(tensors)]
    text = _function("run")(program, _config_text(config), mode, converted)
    stats: dict[str, Any] = json.loads(text)
    return stats


def create_module(config: Any, names: Sequence[str], layers: Sequence[str], programs: Sequence[bytes]) -> Any:
    """Runtime module (kind ``sd_accel``) with one function a region of layers.

    Parameters
    ----------
    config
        Configuration the programs were compiled for; a configuration, not its text, can be read back
        from the module (:func:`sd_tvm.accelerator.saved.saved_config`).
    names
        Function names.
    layers
        Of each function, for reports: JSON array of its layers' records
        (:func:`sd_tvm.layers.layer_to_json`); MARK counts them from 0. One record stands for an array of one.
    programs
        Bytes of each program.

    Returns
    -------
    tvm_ffi.Module
        Exportable; calling a function simulates its program on the arguments (results last).

    Raises
    ------
    ProgramError, ConfigMismatchError, ConfigError
        As :func:`run_program`, before anything runs; ``layers`` is no JSON.
    """
    for name, text in zip(names, layers, strict=False):
        try:
            json.loads(text)
        except ValueError as error:
            raise ProgramError(
                f"the layers of {name!r} are {text[:40]!r}", expected="JSON", fix="pass layer_to_json(layer)"
            ) from error
    text = config if isinstance(config, str) else str(config.to_described_text())
    return _function("create_module")(text, list(names), list(layers), list(programs))


def module_config(module: Any) -> str:
    """Text of the configuration that a module of kind ``sd_accel`` was compiled for.

    Raises
    ------
    ProgramError
        If the module is of another kind.
    """
    return str(_function("module_config")(module))


class Profiler:
    """Collects statistics of every call of a compiled function inside a ``with`` block.

    Parameters
    ----------
    config
        Configuration to simulate; None: the one each module was compiled for.
    mode
        As :func:`run_program`.

    Attributes
    ----------
    records
        After the block: one ``{"name", "layers", "stats"}`` a call, in order; :func:`layer_records` makes
        one row a layer of them.
    totals
        After the block: sums over all calls (``calls``, ``instructions``, ``macs``, ``macs_dense``,
        ``dram_read``, ``dram_write``, and ``cycles``, ``energy_fj``, ``energy_total_fj`` if they were
        timed), which the simulator adds up itself, apart from the shares of layers.

    Raises
    ------
    ConfigError
        On entry, if another session is open in this process.
    ProgramError
        At the end, if a module's description of its layers is no JSON.
    """

    def __init__(self, config: Any = None, *, mode: Mode = "timed") -> None:
        self._text = "" if config is None else _config_text(config)
        self._mode = mode
        self.records: list[dict[str, Any]] = []
        self.totals: dict[str, Any] = {}

    def __enter__(self) -> Profiler:
        _function("profiler_start")(self._text, self._mode)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        text = str(_function("profiler_stop")())
        self.totals = json.loads(_function("profiler_totals")())
        try:
            self.records = json.loads(text)
        except ValueError as decode_error:
            raise ProgramError(
                f"a module describes its layers with text that is no JSON ({decode_error})",
                expected="JSON",
                fix="compile the model again",
            ) from decode_error
