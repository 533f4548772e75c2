"""Two copies of a network side by side on one example: float32, and as far as it is compressed.

Values that do not depend on a compressed layer are computed once for both.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

from sd_tvm.calibration.data import Array
from sd_tvm.calibration.interpreter import Interpreter, Step
from sd_tvm.calibration.moments import LAYERS
from sd_tvm.errors import UnsupportedModelError
from sd_tvm.relay_passes._rewrite import Expr, _vars_in, constant, is_call

#: Values by variable.
Env = dict[Expr, Any]
#: Seconds a multiply-accumulate and a byte read or written; depthwise convolutions run slower.
_MAC, _MAC_DEPTHWISE, _BYTE = 1 / 30e9, 1 / 2e9, 1 / 5e9


class Twin:
    """Evaluates both copies.

    Parameters
    ----------
    interpreter
        Of the float32 network.
    layers
        Names of the steps whose weights change.
    biases
        Names of the steps whose second operand, a bias, changes.
    """

    def __init__(self, interpreter: Interpreter, layers: Collection[str], biases: Collection[str]) -> None:
        self.interpreter = interpreter
        self.steps = interpreter.steps
        #: Second operand of steps in the compressed copy, by name; filled as layers are fitted.
        self.changed: dict[str, Array] = {}
        self._differs: set[Expr] = set()
        for step in self.steps:
            changes = step.name in layers or step.name in biases
            if changes or any(v in self._differs for v in _vars_in(step.value)):
                self._differs.add(step.var)
        #: Numbers of the steps whose weights change.
        self.places = [i for i, step in enumerate(self.steps) if step.name in layers]
        interpreter.fix_constants()
        self._fixed = interpreter.fixed.keys() - self._differs
        self._needed, self._live = self._liveness()
        self._trees: dict[Expr, Any] = {}
        self._nbytes: dict[Expr, int] = {}
        self._seconds: list[float] = []

    def _liveness(self) -> tuple[set[int], dict[int, list[Expr]]]:
        """Steps that a fitted layer needs, and the variables that live before each layer."""
        live: dict[Expr, None] = {}
        needed: set[int] = set()
        at: dict[int, list[Expr]] = {}
        places = set(self.places)
        for i in range(len(self.steps) - 1, -1, -1):
            step = self.steps[i]
            wanted = step.var in live
            live.pop(step.var, None)
            if (wanted or i in places) and step.var not in self._fixed:
                needed.add(i)
                live.update(dict.fromkeys(v for v in _vars_in(step.value) if v not in self._fixed))
            if i in places:
                at[i] = list(live)
        return needed, at

    def start(self, inputs: Sequence[Array]) -> tuple[Env, Env]:
        """State before the first step."""
        env: Env = dict(zip(self.interpreter.func.params, inputs, strict=True))
        return env, dict(env)

    def advance(self, state: tuple[Env, Env], begin: int, end: int) -> None:
        """Run the steps from begin up to end, not included."""
        wanted, actual = state
        for i in range(begin, end):
            step = self.steps[i]
            if i in self._needed:
                wanted[step.var] = self.wanted(step, wanted)
                if step.var not in self._differs:
                    actual[step.var] = wanted[step.var]
                else:
                    actual[step.var] = _plain(
                        self.interpreter.step_value(step, actual, second=self.changed.get(step.name))[1]
                    )
            for var in step.frees:
                wanted.pop(var, None)
                actual.pop(var, None)

    def wanted(self, step: Step, env: Env) -> Any:
        """Value of a step in the float32 copy."""
        fixed = self.interpreter.fixed.get(step.var)
        return _plain(self.interpreter.step_value(step, env)[1]) if fixed is None else fixed

    def probe(self, inputs: Sequence[Array]) -> None:
        """Run the float32 copy once: learn the structure and the size of all values, estimate times."""
        env: Env = dict(zip(self.interpreter.func.params, inputs, strict=True))
        for var, value in env.items():
            self._learn(var, value)
        self._seconds = []
        for i, step in enumerate(self.steps):
            seconds = 0.0
            if i in self._needed:
                value = env[step.var] = self.wanted(step, env)
                self._learn(step.var, value)
                seconds = _seconds(step, self._nbytes[step.var], value)
            self._seconds.append(seconds * (2 if step.var in self._differs else 1))
            for var in step.frees:
                env.pop(var, None)

    def nbytes(self, place: int) -> int:
        """Bytes of what :meth:`pack` gives for one example; after :meth:`probe`."""
        return sum(self._nbytes[v] * (2 if v in self._differs else 1) for v in self._live[place])

    def seconds(self, begin: int, end: int) -> float:
        """Estimated time of :meth:`advance` for one example; after :meth:`probe`."""
        return sum(self._seconds[begin:end])

    def pack(self, state: tuple[Env, Env], place: int) -> list[Array]:
        """The arrays of a state before the step of that number, as far as fitted layers need them."""
        wanted, actual = state
        found: list[Array] = []
        for var in self._live[place]:
            _flatten(wanted[var], found)
            if var in self._differs:
                _flatten(actual[var], found)
        return found

    def unpack(self, arrays: Iterator[Array], place: int) -> tuple[Env, Env]:
        """The state of one example that :meth:`pack` packed; takes its arrays from the iterator."""
        wanted: Env = {}
        actual: Env = {}
        for var in self._live[place]:
            wanted[var] = actual[var] = _unflatten(self._trees[var], arrays)
            if var in self._differs:
                actual[var] = _unflatten(self._trees[var], arrays)
        return wanted, actual

    def _learn(self, var: Expr, value: Any) -> None:
        arrays: list[Array] = []
        self._trees[var] = _flatten(value, arrays)
        self._nbytes[var] = sum(a.nbytes for a in arrays)


def _plain(value: Any) -> Any:
    """Arrays in C order: results must not depend on whether a value has been stored in between."""
    if isinstance(value, tuple):
        return tuple(_plain(v) for v in value)
    return np.asarray(value, order="C") if isinstance(value, np.ndarray) else value


def _flatten(value: Any, found: list[Array]) -> Any:
    """Append the arrays of a value; returns its structure, None for an array."""
    if isinstance(value, tuple):
        return tuple(_flatten(v, found) for v in value)
    if not isinstance(value, np.ndarray):
        raise UnsupportedModelError(
            f"a value of type {type(value).__name__} between layers", expected="tensors and tuples of them"
        )
    found.append(value)
    return None


def _unflatten(tree: Any, arrays: Iterator[Array]) -> Any:
    return next(arrays) if tree is None else tuple(_unflatten(t, arrays) for t in tree)


def _seconds(step: Step, nbytes: int, value: Any) -> float:
    """Estimated time of a step with an output of so many bytes."""
    weight = constant(step.value.args[1]) if is_call(step.value, *LAYERS) else None
    if weight is None or not isinstance(value, np.ndarray):
        return 2 * nbytes * _BYTE
    macs = int(value.size) * (int(weight.size) // int(value.shape[-1 if weight.ndim == 2 else 1]))
    depthwise = weight.ndim > 2 and weight.shape[1] == 1
    return 2 * nbytes * _BYTE + macs * (_MAC_DEPTHWISE if depthwise else _MAC)
