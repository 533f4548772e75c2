"""What one compressed layer does to the network's outputs.

The float32 network runs once for an example and all its values are kept. Then the output of one layer is
replaced by that of its compressed weight and only what depends on it is computed again. One example's values
are in memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm.calibration.data import batches_of
from sd_tvm.calibration.interpreter import Interpreter
from sd_tvm.calibration.ops import Array, Evaluator
from sd_tvm.calibration.sequential import _in_graph
from sd_tvm.relay_passes._rewrite import Expr, _vars_in
from sd_tvm.relay_passes._weights import WeightedLayer
from sd_tvm.weights.tensor import Weight

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Change:
    """A compressed weight, ready to take the place of a layer's own.

    Attributes
    ----------
    layer
        The layer.
    weight
        Its compressed weight.
    shift
        float32 (M,), added to the output of each filter; None where the layer has no bias to correct.
    """

    layer: WeightedLayer
    weight: Weight
    shift: Array | None = None

    def apply(self, step: Expr, args: Sequence[Any], evaluate: Evaluator) -> Array:
        """Output of the layer with the compressed weight."""
        dense = _in_graph(self.layer, self.weight.dequantize())
        value: Array = evaluate(step, [args[0], dense, *args[2:]])
        if self.shift is None:
            return value
        shape = [1] * value.ndim
        shape[-1 if self.layer.info.op == "dense" else 1] = -1
        return np.asarray(value + self.shift.reshape(shape))


class Replay:
    """The float32 network on one example, with single layers exchanged.

    Parameters
    ----------
    interpreter
        Of the float32 module.
    """

    def __init__(self, interpreter: Interpreter) -> None:
        self.interpreter = interpreter
        self.steps = interpreter.steps
        self.place = {step.name: i for i, step in enumerate(self.steps)}
        self._reads = [set(_vars_in(step.value)) for step in self.steps]
        self._env: dict[Expr, Any] = {}

    def record(self, inputs: Sequence[Array]) -> list[F64]:
        """Run the network, remember every value, and return the outputs."""
        self.interpreter.fix_constants()
        self._env = dict(zip(self.interpreter.func.params, inputs, strict=True))
        for step in self.steps:
            if not step.constant:
                self._env[step.var] = self.interpreter.step_value(step, self._env)[1]
        return self._outputs(self._env)

    def exchanged(self, change: Change) -> list[F64]:
        """Outputs of the recorded example with the weight of one layer exchanged."""
        first = self.place[change.layer.var]
        step, env = self.steps[first], dict(self._env)
        operands = [self.interpreter.value(a, env) for a in step.value.args]
        env[step.var] = change.apply(step.value, operands, self.interpreter.evaluate)
        dirty = {step.var}
        for later, reads in zip(self.steps[first + 1 :], self._reads[first + 1 :], strict=True):
            if not later.constant and not dirty.isdisjoint(reads):
                env[later.var] = self.interpreter.step_value(later, env)[1]
                dirty.add(later.var)
        return self._outputs(env)

    def _outputs(self, env: dict[Expr, Any]) -> list[F64]:
        value = self.interpreter.value(self.interpreter.func.body.body, env)
        return [np.asarray(v, dtype=np.float64) for v in (value if isinstance(value, tuple) else (value,))]


Key = tuple[str, str]


def effects(
    interpreter: Interpreter,
    examples: Any,
    watched: Sequence[int],
    changes: Mapping[Key, Change],
    progress: Callable[[int, int], None],
) -> dict[Key, tuple[float, float]]:
    """Squared change of the network's outputs over their variance, by change.

    Parameters
    ----------
    interpreter
        Of the float32 module.
    examples
        Calibration data.
    watched
        Places of the examples that are run.
    changes
        What is exchanged, by any key; one at a time.
    progress
        Called with (network runs done, of how many).

    Returns
    -------
    dict
        (mean over the examples, standard error of the mean) of each change. With several outputs, the mean of
        all of them.
    """
    replay, chosen = Replay(interpreter), frozenset(watched)
    outputs: list[list[F64]] = []
    squares: dict[Key, list[list[float]]] = {key: [] for key in changes}
    done, total = 0, len(chosen) * len(changes)
    progress(0, total)
    for place, inputs in enumerate(batches_of(examples, interpreter.inputs)):
        if place not in chosen:
            continue
        before = replay.record(inputs)
        outputs.append(before)
        for key, change in changes.items():
            after = replay.exchanged(change)
            squares[key].append([float(((a - b) ** 2).mean()) for a, b in zip(after, before, strict=True)])
            done += 1
            progress(done, total)
    spread = [_variance([example[i] for example in outputs]) for i in range(len(outputs[0]))]
    found = {}
    for key, rows in squares.items():
        relative = (np.array(rows) / np.array(spread)).mean(axis=1)
        error = float(relative.std(ddof=1)) / len(relative) ** 0.5 if len(relative) > 1 else 0.0
        found[key] = (float(relative.mean()), error)
    return found


def _variance(values: Sequence[F64]) -> float:
    """Variance over all elements of all examples; the mean square of an output that never changes."""
    everything = np.stack([v.reshape(-1) for v in values])
    variance, square = float(everything.var()), float((everything**2).mean())
    return variance if variance > 1e-12 * square else max(square, 1e-30)
