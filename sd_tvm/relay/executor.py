"""What ``relay.build`` returned, on Relax: a library, and a module that is fed by the names of its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sd_tvm.errors import OptionError
from sd_tvm.execute import call_main, load_executable

if TYPE_CHECKING:
    from sd_tvm.relay_passes.report import NodeReport

DEFAULT = "default"


class GraphModule:
    """A compiled model with its inputs and outputs, as Relay's graph executor.

    Parameters
    ----------
    module
        A :class:`Library`, or what ``library["default"](device)`` returned (then it is shared).
    device
        Where it runs; the CPU if None.
    """

    def __init__(self, module: Library | GraphModule, device: Any = None) -> None:
        if isinstance(module, GraphModule):
            self.__dict__ = (
                module.__dict__
            )  # as graph_executor.GraphModule(lib["default"](dev)) is one handle
            return
        from sd_tvm._tvm import relax, tvm

        self._library = module
        self._device = tvm.cpu() if device is None else device
        self._machine = relax.VirtualMachine(module.executable, self._device)
        self._inputs: list[Any] = [None] * len(module.input_names)
        self._outputs: list[Any] | None = None

    def set_input(self, key: str | int | None = None, value: Any = None, **params: Any) -> None:
        """Give inputs by name or number; they stay until they are given again.

        Parameters
        ----------
        key, value
            Name (or number) of an input, and its array or TVM tensor.
        **params
            Further inputs by name.

        Raises
        ------
        OptionError
            If there is no such input.
        """
        given = [*params.items()] if key is None else [(key, value), *params.items()]
        for name, array in given:
            self._inputs[self.get_input_index(name)] = array

    def run(self, **inputs: Any) -> None:
        """Run, after giving inputs by name.

        Raises
        ------
        OptionError
            If an input was never given, or does not fit the model.
        """
        self.set_input(**inputs)
        missing = [n for n, v in zip(self._library.input_names, self._inputs, strict=True) if v is None]
        if missing:
            raise OptionError(
                f"no value for {missing}",
                expected="all inputs",
                fix="call set_input(name, array) before run()",
            )
        from sd_tvm._tvm import tvm

        tensors = [
            value
            if hasattr(value, "numpy")
            else tvm.runtime.tensor(np.ascontiguousarray(value), self._device)
            for value in self._inputs
        ]
        expected = f"the shapes and types of {self._library.input_names}"
        self._outputs = call_main(self._machine, tensors, expected)

    def get_output(self, index: int) -> Any:
        """An output of the last run, a TVM tensor.

        Raises
        ------
        OptionError
            If nothing ran, or there is no such output.
        """
        if self._outputs is None:
            raise OptionError("no output before run()", expected="run() first", fix="call run()")
        if not 0 <= index < len(self._outputs):
            raise OptionError(
                f"output {index}", expected=f"one of {len(self._outputs)} outputs", fix="correct it"
            )
        return self._outputs[index]

    def get_num_outputs(self) -> int:
        """Number of outputs; known after a run."""
        return 0 if self._outputs is None else len(self._outputs)

    def get_num_inputs(self) -> int:
        """Number of inputs; weights are none."""
        return len(self._inputs)

    def get_input_index(self, name: str | int) -> int:
        """Number of an input.

        Raises
        ------
        OptionError
            If there is no such input.
        """
        names = self._library.input_names
        if isinstance(name, int) and 0 <= name < len(names):
            return name
        from sd_tvm.frontends.naming import identifier

        for known in (str(name), identifier(str(name))):  # "input.1" of a front end became "input_1"
            if known in names:
                return names.index(known)
        raise OptionError(
            f"no input {name!r}", expected=f"one of {list(names)}", fix="weights are constants of the library"
        )

    def get_input(self, index: str | int) -> Any:
        """What was given for an input, None if nothing was."""
        return self._inputs[self.get_input_index(index)]

    def benchmark(self, device: Any = None, *, repeat: int = 5, number: int = 5) -> Any:
        """Times of a run, as ``BenchmarkResult`` of TVM; the inputs have to be set."""
        from sd_tvm._tvm import tvm

        self.run()
        tensors = [tvm.runtime.tensor(np.asarray(x), self._device) for x in map(_array, self._inputs)]
        timer = self._machine.time_evaluator("main", device or self._device, number=number, repeat=repeat)
        return timer(*tensors)


class Library:
    """A compiled Relay model: ``library["default"](device)``, ``export_library``, as Relay's factory.

    Attributes
    ----------
    executable
        ``tvm.relax.VMExecutable``.
    input_names
        Names of the inputs, in order.
    ir_mod
        The Relax module that was compiled; None for a library that was loaded.
    nodes
        Where every node runs, and why; empty for other targets than sd_accel.
    """

    def __init__(
        self,
        executable: Any,
        input_names: Sequence[str],
        ir_mod: Any = None,
        nodes: Sequence[NodeReport] = (),
        libmod_name: str = DEFAULT,
    ) -> None:
        self.executable, self.input_names, self.ir_mod = executable, tuple(input_names), ir_mod
        self.nodes, self.libmod_name = list(nodes), libmod_name
        self._module: GraphModule | None = None

    def __getitem__(self, name: str) -> Any:
        """``library["default"]``: makes a :class:`GraphModule` for a device."""
        if name != self.libmod_name:
            raise OptionError(f"no module {name!r}", expected=repr(self.libmod_name), fix="correct the name")
        return lambda device=None: GraphModule(self, device)

    def export_library(self, file_name: str | PathLike[str], **options: Any) -> None:
        """Write a shared library, to be read by :func:`load_module`."""
        self.executable.export_library(fspath(file_name), **options)

    def get_params(self) -> dict[str, Any]:
        """Weights beside the code: none, they are constants of the library."""
        return {}

    def get_executor_config(self) -> str:
        """The compiled program, as text."""
        return str(self.executable.as_text())

    def get_lib(self) -> Any:
        """The runtime module."""
        return self.executable.mod

    # -- the graph executor's own methods, on one module for the CPU ------------------------------------

    @property
    def module(self) -> GraphModule:
        """One :class:`GraphModule` for the CPU, made at its first use."""
        if self._module is None:
            self._module = GraphModule(self)
        return self._module

    def set_input(self, key: str | int | None = None, value: Any = None, **params: Any) -> None:
        """As :meth:`GraphModule.set_input` of :attr:`module`."""
        self.module.set_input(key, value, **params)

    def run(self, **inputs: Any) -> None:
        """As :meth:`GraphModule.run` of :attr:`module`."""
        self.module.run(**inputs)

    def get_output(self, index: int) -> Any:
        """As :meth:`GraphModule.get_output` of :attr:`module`."""
        return self.module.get_output(index)

    def get_num_outputs(self) -> int:
        """As :meth:`GraphModule.get_num_outputs` of :attr:`module`."""
        return self.module.get_num_outputs()


def load_module(path: str | PathLike[str], fmt: str = "") -> Library:
    """Read a library that :meth:`Library.export_library` wrote, as ``tvm.runtime.load_module``.

    Parameters
    ----------
    path
        The file.
    fmt
        Not used; the signature is TVM's.

    Raises
    ------
    OptionError
        If there is no such file, or it is no library of a model.
    """
    del fmt
    module = load_executable(Path(path))
    from sd_tvm._tvm import relax, tvm

    try:
        machine = relax.VirtualMachine(module, tvm.cpu()).module
        arity = int(machine["get_function_arity"]("main"))
        names = [str(machine["get_function_param_name"]("main", k)) for k in range(arity)]
    except (AttributeError, RuntimeError, ValueError) as error:
        raise OptionError(
            f"{fspath(path)!r} holds no model", expected="a library of export_library", fix="build it again"
        ) from error
    return Library(module, names)


def _array(value: Any) -> npt.NDArray[Any]:
    return np.asarray(value.numpy() if hasattr(value, "numpy") else value)


__all__ = ["GraphModule", "Library", "load_module"]
