"""Compile and run: the few lines of plain TVM that the command line, the profiler and the demo share.

Nothing here is needed to use the backend: ``tvm.compile(mod, target="sd_accel")`` and a Relax virtual
machine do the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sd_tvm.errors import OptionError, SDError

if TYPE_CHECKING:
    from sd_tvm.accelerator.config import AcceleratorConfig
    from sd_tvm.relay_passes.report import NodeReport

ACCELERATOR = "sd_accel"
CPU = "llvm"
#: Where LLVM's names of processors are looked up, after this machine's architecture.
_TRIPLES = ("x86_64-linux-gnu", "aarch64-linux-gnu")
_TARGETS = f"{ACCELERATOR}, {ACCELERATOR}/CONFIGURATION, {CPU} or {CPU}/PROCESSOR"


@dataclass(frozen=True)
class Compiled:
    """A compiled model.

    Attributes
    ----------
    executable
        ``tvm.relax.VMExecutable``, with ``export_library(path)``.
    nodes
        Where every node of the graph runs, and why.
    requires
        Features that the processor must have (LLVM's names): the library refuses to run on one without them.
        Only for the CPU.
    """

    executable: Any
    nodes: list[NodeReport]
    requires: tuple[str, ...] = ()


def check_target(target: str) -> None:
    """Refuse a target before a model is read; loads no TVM.

    Raises
    ------
    OptionError
        If the target is none of ours.
    ConfigError
        If it names a configuration that does not exist or is invalid.
    """
    if not isinstance(target, str):
        raise OptionError(f"target {target!r}", expected=_TARGETS, fix="pass a string")
    family, slash, name = target.partition("/")
    if target in (CPU, ACCELERATOR):
        return
    if family == CPU and name:
        return  # LLVM knows the names
    if family != ACCELERATOR or not slash or not name:
        raise OptionError(f"unknown target {target!r}", expected=_TARGETS, fix="correct the target")
    from sd_tvm.accelerator.config import AcceleratorConfig

    AcceleratorConfig.load(name)


def read_module(source: Any, example_inputs: Any = None) -> Any:
    """Relax module of a ``.sd`` file, or of anything that ``sd_tvm.load_model`` takes.

    Raises
    ------
    FormatError, UnsupportedModelError
        As ``sd_tvm.load`` and ``sd_tvm.load_model``.
    """
    if hasattr(source, "to_relax"):
        return source.to_relax()
    if isinstance(source, str | PathLike) and Path(source).suffix == ".sd":
        from sd_tvm.model import load

        return load(source).to_relax()
    from sd_tvm.frontends import load_model

    return load_model(source, example_inputs)


def compile_module(
    module: Any,
    target: str = ACCELERATOR,
    *,
    config: AcceleratorConfig | None = None,
    tiles: str | Path | None = None,
    tune: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Compiled:
    """Compile a Relax module with TVM.

    Parameters
    ----------
    module
        ``IRModule``, or anything with ``to_relax()``.
    target
        ``sd_accel``, ``sd_accel/<configuration name or YAML file>``, or the same integer layers on the CPU:
        ``llvm`` for this machine's processor, ``llvm/<LLVM's name>`` for another, of x86-64 or AArch64.
    config
        Configuration to compile for, instead of one that the target names. Layers are tiled for this very
        object, whatever its name.
    tiles, tune, progress
        Of :class:`sd_tvm.relay_passes.offload.Offload`; for the CPU, of
        :class:`sd_tvm.schedules.cpu.tuning.KernelTuning` (a file of kernels).

    Raises
    ------
    OptionError
        If the target is none of these, or names a configuration while ``config`` is given, or kernels are
        to be timed for a processor that is not this one.
    ConfigError
        If the configuration does not exist or is invalid.
    """
    check_target(target)
    if config is not None and target != ACCELERATOR:
        raise OptionError(
            f"target {target!r} and a configuration", expected=ACCELERATOR, fix="pass one of them"
        )
    tuned = tiles is not None or tune > 0
    on_cpu = target.partition("/")[0] == CPU
    from sd_tvm._tvm import tvm

    host = _processor(target.partition("/")[2]) if on_cpu else None
    mod = read_module(module)
    if host is not None:
        from sd_tvm import backend
        from sd_tvm.relay_passes.guard_cpu import asked_features
        from sd_tvm.relay_passes.lower_cpu import LowerToCPU
        from sd_tvm.relay_passes.pipeline import to_integer
        from sd_tvm.relay_passes.report import node_reports
        from sd_tvm.schedules.cpu.tuning import KernelTuning

        backend.register()  # TVM's default pipeline then makes the module ask for its processor
        tuning = KernelTuning(tiles, tune, progress) if tuned else None
        for step in (*to_integer(mod), LowerToCPU(host, tuning)):
            mod = step(mod)
        nodes = node_reports(mod)
        mod = tvm.relax.get_pipeline("zero")(mod)
        return Compiled(tvm.compile(mod, target=host), nodes, tuple(asked_features(host)))
    chosen = _accelerator_target(target)
    pipeline: Any = "default"
    if config is not None or tuned:
        from sd_tvm.relay_passes.offload import Offload
        from sd_tvm.relay_passes.pipeline import compile_for

        machine = config or target.partition("/")[2] or None
        offload = Offload(machine, tiles=tiles, tune=tune, progress=progress)
        pipeline = compile_for(machine, lambda: tvm.relax.pipeline.default_build_pipeline(), offload)
    seen = _Placement()
    with tvm.transform.PassContext(instruments=[seen.instrument()]):
        executable = tvm.compile(mod, target=chosen, relax_pipeline=pipeline)
    return Compiled(executable, seen.nodes)


def _processor(name: str) -> Any:
    """Target of a processor by LLVM's name; without one, of this machine's."""
    from sd_tvm._tvm import tvm

    if not name:
        name = tvm.get_global_func("tvm.codegen.llvm.GetHostCPUName")()
        return tvm.target.Target({"kind": CPU, "mcpu": name})
    known: set[str] = set()
    for where in ({}, *({"mtriple": triple} for triple in _TRIPLES)):
        target = tvm.target.Target({"kind": CPU, **where})
        names = {str(n) for n in tvm.get_global_func("target.llvm_get_cpu_archlist")(target)}
        if name in names:
            return tvm.target.Target({"kind": CPU, "mcpu": name, **where})
        known |= names
    raise OptionError(
        f"unknown processor {name!r}",
        expected=f"one of {', '.join(sorted(known))}",
        fix="correct the target",
    )


def is_foreign(target: str) -> bool:
    """Whether code for a target can be neither linked nor run here: its processor is of another architecture.

    Raises
    ------
    OptionError
        If LLVM knows no such processor.
    """
    family, _, name = target.partition("/")
    if family != CPU or not name:
        return False
    from sd_tvm._tvm import tvm
    from sd_tvm.schedules.cpu.isa import platform_of

    return platform_of(_processor(name)) != platform_of(tvm.target.Target({"kind": CPU}))


def _accelerator_target(target: str) -> Any:
    from sd_tvm import backend
    from sd_tvm._tvm import tvm
    from sd_tvm.target import target_of

    backend.register()
    _, _, name = target.partition("/")
    return tvm.target.Target(target_of(name) if name else ACCELERATOR)


class _Placement:
    """Remembers what the passes recorded about every node."""

    def __init__(self) -> None:
        self.nodes: list[NodeReport] = []

    def instrument(self) -> Any:
        """The instrument to put into a PassContext."""
        from sd_tvm._tvm import tvm
        from sd_tvm.relay_passes.report import node_reports

        outer = self

        @tvm.instrument.pass_instrument
        class _Instrument:
            def run_after_pass(self, mod: Any, info: Any) -> None:
                if str(info.name).startswith("sd.") and isinstance(mod, tvm.IRModule):
                    outer.nodes = node_reports(mod) or outer.nodes

        return _Instrument()


def load_executable(path: str | PathLike[str]) -> Any:
    """Load a library that ``export_library`` wrote.

    Raises
    ------
    OptionError
        If there is no such file, or it is no library of a model.
    """
    from sd_tvm import backend
    from sd_tvm._tvm import tvm

    if not Path(path).is_file():
        raise OptionError(
            f"no file {fspath(path)!r}", expected="a library that was exported", fix="correct the path"
        )
    backend.register()
    try:
        return tvm.runtime.load_module(fspath(path))
    except SDError:
        raise
    except Exception as error:
        raise OptionError(
            f"cannot load {fspath(path)!r}: {str(error).splitlines()[-1][:200] if str(error) else error!r}",
            expected="a library that `sd-tvm compile` or export_library wrote",
            fix="compile the model again",
        ) from error


def open_model(source: Any, target: str = ACCELERATOR) -> Any:
    """Executable of a library (``.so``), or of a model that is compiled now.

    Raises
    ------
    OptionError, ConfigError
        As :func:`compile_module` and :func:`load_executable`; the target is checked first.
    """
    check_target(target)
    if isinstance(source, str | PathLike) and Path(source).suffix in (".so", ".dylib", ".dll"):
        return load_executable(source)
    if is_foreign(target):
        raise OptionError(
            f"target {target!r} on this machine",
            expected="a processor of this machine's architecture",
            fix="compile for it, and run the library there",
        )
    return compile_module(source, target).executable


def call_main(machine: Any, tensors: Sequence[Any], expected: str) -> list[Any]:
    """Run ``main`` of a virtual machine; its outputs, TVM tensors.

    Raises
    ------
    OptionError
        If the inputs are not those that the model takes: ``expected`` says which.
    """
    try:
        result = machine["main"](*tensors)
    except (RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, RuntimeError) and "loc=param" not in str(error):
            raise  # not about the inputs
        raise OptionError(
            f"inputs {[f'{x.dtype} {list(x.shape)}' for x in tensors]} do not fit the model: "
            f"{str(error).splitlines()[-1][:200] if str(error) else error!r}",
            expected=expected,
            fix="correct the inputs",
        ) from error
    return [result] if hasattr(result, "numpy") else list(result)


class Runner:
    """A compiled model, ready to run.

    Parameters
    ----------
    executable
        What :func:`open_model` returned.
    """

    def __init__(self, executable: Any) -> None:
        from sd_tvm._tvm import relax, tvm

        self._device = tvm.cpu()
        self._machine = relax.VirtualMachine(executable, self._device)

    def __call__(self, *inputs: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """Run ``main``.

        Parameters
        ----------
        inputs
            Arrays of the shapes and types that the model was compiled for.

        Returns
        -------
        list of numpy.ndarray
            The outputs.

        Raises
        ------
        OptionError
            If the inputs are not those that the model takes.
        """
        from sd_tvm._tvm import tvm

        wanted = int(self._machine.module["get_function_arity"]("main"))
        if len(inputs) != wanted:
            raise OptionError(
                f"{len(inputs)} inputs", expected=f"{wanted}, as the model takes", fix="correct the inputs"
            )
        arrays = [np.ascontiguousarray(x) for x in inputs]
        for i, x in enumerate(arrays):
            if x.dtype.kind not in "biuf":
                raise OptionError(
                    f"input {i} is an array of {x.dtype}",
                    expected="numbers, of the type that the model was compiled for",
                    fix="correct the inputs",
                )
        tensors = [tvm.runtime.tensor(x, self._device) for x in arrays]
        expected = "the shapes and types that the model was compiled for"
        return [part.numpy() for part in call_main(self._machine, tensors, expected)]
