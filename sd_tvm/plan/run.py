"""Running a plan: NumPy, apache-tvm-ffi, and the simulator's library."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm.errors import OptionError, VersionError
from sd_tvm.plan.model import Plan, Value

Array = npt.NDArray[Any]
#: Compiled code loads whole vectors.
_ALIGNMENT = 64


class Runner:
    """A plan, ready to run; not for several threads at once.

    Parameters
    ----------
    plan
        The plan.

    Raises
    ------
    VersionError
        If apache-tvm-ffi is missing, or the plan's library was made for another machine.
    """

    def __init__(self, plan: Plan) -> None:
        from sd_tvm.accelerator.simulator import load_library

        load_library()  # it knows how to read programs of the accelerator
        self.plan = plan
        self._library = _load(plan.library)
        names = dict.fromkeys(step.function for step in plan.steps)
        self._functions = {name: self._library.get_function(name, query_imports=True) for name in names}
        self._constants = {n: _tensor(_aligned(array)) for n, array in plan.constants.items()}
        self._last_use = {n: i for i, step in enumerate(plan.steps) for n in (*step.args, *step.results)}

    @property
    def library(self) -> Any:
        """The loaded library (``tvm_ffi.Module``)."""
        return self._library

    def __call__(self, *inputs: Array) -> list[Array]:
        """Run the plan.

        Parameters
        ----------
        inputs
            Arrays of the shapes and types of the plan's inputs.

        Returns
        -------
        list of numpy.ndarray
            The outputs, which are the caller's.

        Raises
        ------
        OptionError
            If the inputs are others.
        ProgramError, ConfigMismatchError
            As :func:`sd_tvm.accelerator.simulator.run_program`.
        """
        plan = self.plan
        if len(inputs) != len(plan.inputs):
            raise OptionError(
                f"{len(inputs)} inputs", expected=str(len(plan.inputs)), fix="correct the inputs"
            )
        arrays: dict[int, Array] = {}
        for n, x in zip(plan.inputs, inputs, strict=True):
            wanted = plan.values[n]
            if (tuple(x.shape), str(x.dtype)) != (wanted.shape, wanted.dtype):
                raise OptionError(
                    f"an input of {x.dtype} {list(x.shape)}",
                    expected=f"{wanted.dtype} {list(wanted.shape)}",
                    fix="correct the inputs",
                )
            arrays[n] = _aligned(x)
        tensors = {**self._constants, **{n: _tensor(x) for n, x in arrays.items()}}
        kept = set(plan.outputs)
        for i, step in enumerate(plan.steps):
            for n in step.results:
                arrays[n] = _empty(plan.values[n])
                tensors[n] = _tensor(arrays[n])
            self._functions[step.function](*(tensors[n] for n in (*step.args, *step.results)))
            for n in (*step.args, *step.results):
                if self._last_use[n] == i and n not in kept and n in arrays:
                    del arrays[n], tensors[n]
        return [arrays[n] if n in arrays else plan.constants[n].copy() for n in plan.outputs]


def _load(library: bytes) -> Any:
    import tvm_ffi

    from sd_tvm.plan._context import provide_context

    provide_context()
    with tempfile.TemporaryDirectory(prefix="sd_tvm_plan_") as folder:
        path = Path(folder) / "plan.so"
        path.write_bytes(library)
        try:
            return tvm_ffi.load_module(str(path), keep_module_alive=False)
        except Exception as error:
            raise VersionError(
                f"the plan's library does not load: {str(error).splitlines()[-1][:200]}",
                expected="a library for this kind of machine",
                fix="compile the model again, on this machine",
            ) from error


def _tensor(array: Array) -> Any:
    import tvm_ffi

    return tvm_ffi.from_dlpack(array)


def _empty(value: Value) -> Array:
    """An array at an aligned address."""
    raw = np.empty(value.nbytes + _ALIGNMENT, np.uint8)
    skip = -raw.ctypes.data % _ALIGNMENT
    return raw[skip : skip + value.nbytes].view(value.dtype).reshape(value.shape)


def _aligned(array: Array) -> Array:
    """The same numbers, contiguous, writeable for DLPack and at an aligned address."""
    if array.flags.c_contiguous and array.flags.writeable and array.ctypes.data % _ALIGNMENT == 0:
        return array
    out = _empty(Value(tuple(array.shape), str(array.dtype)))
    out[...] = array
    return out
