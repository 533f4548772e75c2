"""A plan and its file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm.errors import FormatError

Array = npt.NDArray[Any]

VERSION = 1
_KEY = "sd_plan"
_LIBRARY = "library"
_CONSTANT = "constant."
_DTYPES = frozenset({"float32", "float64", "int8", "uint8", "int16", "int32", "int64", "bool"})
_FIX = "compile the model again with this version of sd-tvm"


@dataclass(frozen=True)
class Value:
    """Shape and type of an array."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * int(np.dtype(self.dtype).itemsize)


@dataclass(frozen=True)
class Step:
    """A call of a function of the library.

    Attributes
    ----------
    function
        Its name.
    args
        Numbers of the values that it reads.
    results
        Numbers of the values that it writes; they are passed after the arguments.
    """

    function: str
    args: tuple[int, ...]
    results: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """A compiled model.

    Attributes
    ----------
    values
        All arrays that steps read or write.
    inputs, outputs
        Numbers of the values that come in and go out, in the order of the model's.
    steps
        Calls, in order.
    constants
        Values that are given.
    library
        Bytes of a shared library for this kind of machine (of TVM's C calling convention, programs of the
        accelerator inside). It is native code: run plans that you trust.
    config
        Text of the accelerator's configuration, empty for the CPU.
    nodes
        Rows of :class:`sd_tvm.relay_passes.report.NodeReport`: where every node runs, and why.
    notes
        Sentences that the user must know.
    """

    values: tuple[Value, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    steps: tuple[Step, ...]
    constants: Mapping[int, Array] = field(repr=False)
    library: bytes = field(repr=False)
    config: str = field(default="", repr=False)
    nodes: tuple[Mapping[str, str], ...] = field(default=(), repr=False)
    notes: tuple[str, ...] = ()

    def to_bytes(self) -> bytes:
        """The file: safetensors, with everything that is no array as JSON among its metadata."""
        from safetensors.numpy import save

        text = json.dumps(
            {
                "version": VERSION,
                "values": [[list(v.shape), v.dtype] for v in self.values],
                "inputs": self.inputs,
                "outputs": self.outputs,
                "steps": [[s.function, s.args, s.results] for s in self.steps],
                "config": self.config,
                "nodes": [dict(n) for n in self.nodes],
                "notes": self.notes,
            },
            sort_keys=True,
        )
        arrays = {_LIBRARY: np.frombuffer(self.library, np.uint8)}
        arrays |= {f"{_CONSTANT}{n}": np.ascontiguousarray(a) for n, a in self.constants.items()}
        return bytes(save(arrays, {_KEY: text}))

    @classmethod
    def from_bytes(cls, data: bytes) -> Plan:
        """Inverse of :meth:`to_bytes`; verified.

        Raises
        ------
        FormatError
            Says what is wrong.
        """
        try:
            size = int.from_bytes(data[:8], "little")
            head = json.loads(data[8 : 8 + size])
            facts = json.loads(head["__metadata__"][_KEY])
            from safetensors.numpy import load

            arrays = load(data)
        except Exception as error:
            raise FormatError(
                f"not a plan ({error!r:.120})", expected="the bytes of a plan", fix=_FIX
            ) from error
        if facts.get("version") != VERSION:
            raise FormatError(
                f"a plan of version {facts.get('version')!r}", expected=f"version {VERSION}", fix=_FIX
            )
        try:
            plan = cls(
                tuple(Value(tuple(int(d) for d in shape), str(dtype)) for shape, dtype in facts["values"]),
                tuple(int(n) for n in facts["inputs"]),
                tuple(int(n) for n in facts["outputs"]),
                tuple(Step(str(f), tuple(map(int, a)), tuple(map(int, r))) for f, a, r in facts["steps"]),
                {int(n.removeprefix(_CONSTANT)): a for n, a in arrays.items() if n != _LIBRARY},
                arrays[_LIBRARY].tobytes(),
                str(facts["config"]),
                tuple(facts["nodes"]),
                tuple(facts["notes"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"a plan misses or distorts {error!r:.120}", fix=_FIX) from error
        plan.check()
        return plan

    def check(self) -> None:
        """Verify that every value is there when it is read and is written once.

        Raises
        ------
        FormatError
            Names the step and the value.
        """
        known: set[int] = set()

        def new(what: str, numbers: tuple[int, ...]) -> None:
            for n in numbers:
                if not 0 <= n < len(self.values) or n in known:
                    raise FormatError(
                        f"{what} writes value {n}", expected="each of the values once", fix=_FIX
                    )
                known.add(n)

        for n, value in enumerate(self.values):
            if value.dtype not in _DTYPES or any(d < 0 for d in value.shape):
                raise FormatError(f"value {n} is {value.dtype} {value.shape}", expected="an array", fix=_FIX)
        new("the list of inputs", self.inputs)
        new("the list of constants", tuple(self.constants))
        for n, array in self.constants.items():
            if (array.shape, str(array.dtype)) != (self.values[n].shape, self.values[n].dtype):
                raise FormatError(
                    f"constant {n} is {array.dtype} {array.shape}", expected=str(self.values[n]), fix=_FIX
                )
        for i, step in enumerate(self.steps):
            missing = sorted(set(step.args) - known)
            if missing:
                raise FormatError(
                    f"step {i} ({step.function}) reads value {missing[0]}, which nobody made", fix=_FIX
                )
            new(f"step {i} ({step.function})", step.results)
        missing = sorted(set(self.outputs) - known)
        if missing:
            raise FormatError(f"output {missing[0]} is made by nobody", fix=_FIX)
