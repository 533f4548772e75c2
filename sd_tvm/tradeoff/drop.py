"""Budgets of accuracy: the smallest file whose answers differ from float32's on few enough held-out examples.

There are no labels: a drop is the part of the held-out examples whose largest output is another one than in
float32, which bounds what top-1 accuracy can lose. They fit nothing and choose no form; the compressed
network runs as integer layers, as it will run.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from sd_tvm.calibration.examples import Examples, Part
from sd_tvm.calibration.interpreter import Interpreter
from sd_tvm.calibration.ops import Array
from sd_tvm.errors import BudgetError
from sd_tvm.tradeoff.goal import Budget
from sd_tvm.tradeoff.measure import Progress, measured
from sd_tvm.tradeoff.planner import Planner, SizeLimit, Store

if TYPE_CHECKING:
    from sd_tvm.accelerator.config import AcceleratorConfig
    from sd_tvm.calibration.checkpoint import Checkpoint
    from sd_tvm.model import CompressedModel

#: Every so many examples one is held out.
HOLD_OUT = 3
#: Sizes that are tried at most, and the ratio of neighbouring sizes at which the search ends.
TRIES, CLOSE = 6, 1.02
#: A size that every file has.
_ANY = 1e-9


def smallest_within(
    mod: Any,
    examples: Any,
    budget: Budget,
    progress: Progress,
    store: Store,
    config: AcceleratorConfig | None = None,
    checkpoint: Checkpoint | None = None,
) -> CompressedModel:
    """Bisection over the size of the file, every size fitted and measured; the model is the one measured.

    Parameters are those of :func:`sd_tvm.tradeoff.budget.compress_to_budget`.

    Raises
    ------
    BudgetError
        If the outputs are no scores of classes, there are fewer than three examples, or even the most
        accurate choice drops more; ``best`` is its drop.
    """
    from sd_tvm.calibration.sequential import fit_in_order

    wanted = 0.0 if budget.max_drop is None else budget.max_drop
    fitted_on, held_out = _split(mod, examples)
    answers = _Answers(mod, held_out)
    report = measured(mod, fitted_on, progress, config, checkpoint)
    planner = Planner(mod, report, Budget(), store, config)
    size = SizeLimit(planner, _ANY)
    size.start()
    accurate = planner.choose([size])
    low, high = size.measured(size.least), size.measured(accurate)
    best: CompressedModel | None = None
    lowest = math.inf

    def tried(choice: list[int]) -> tuple[CompressedModel, float]:
        recipe = planner.recipe(choice)
        fitted = fit_in_order(mod, fitted_on, recipe, progress, checkpoint=checkpoint)
        model = store(fitted.module, fitted.weights, fitted.errors, recipe, (), planner.facts(choice))
        return model, answers.drop(model)

    for turn in range(TRIES):
        progress("sizes", turn, TRIES)
        if high <= low * CLOSE:
            break
        size.allowed = round(math.sqrt(low * high))
        model, drop = tried(planner.choose([size]))
        lowest = min(lowest, drop)
        if drop <= wanted:
            best, high = model, size.allowed
        else:
            low = size.allowed
    if best is None:
        best, drop = tried(accurate)
        lowest = min(lowest, drop)
        if drop > wanted:
            raise BudgetError(
                f"max_drop {wanted:g} cannot be reached",
                expected=f"at least {lowest:.4g} points on {answers.count} held-out answers",
                fix="allow more, or pass more calibration examples",
                best=lowest,
            )
    progress("sizes", TRIES, TRIES)
    return best


def _split(mod: Any, examples: Any) -> tuple[Examples, Examples]:
    """Examples that fit, and examples that are held out.

    Raises
    ------
    BudgetError
        If there are too few.
    """
    everything = Examples.of(examples)
    count = everything.count(Interpreter(mod).inputs)
    if count < HOLD_OUT:
        raise BudgetError(
            f"max_drop with {count} calibration examples",
            expected=f"at least {HOLD_OUT}, better some 300: every {HOLD_OUT}rd is held out to measure it",
            fix="pass more examples",
        )
    last = HOLD_OUT - 1
    return Part(everything, lambda i: i % HOLD_OUT != last), Part(everything, lambda i: i % HOLD_OUT == last)


class _Answers:
    """Answers of the float32 network on the held-out examples.

    Raises
    ------
    BudgetError
        If its first output is no scores of classes.
    """

    def __init__(self, mod: Any, examples: Examples) -> None:
        interpreter = Interpreter(mod)
        self.examples, self.specs = examples, interpreter.inputs
        self.wanted = np.stack([_answer(interpreter.run(inputs)) for inputs in examples.batches(self.specs)])
        self.count = self.wanted.size

    def drop(self, model: CompressedModel) -> float:
        """Part of the answers that a compressed model gives differently, in points."""
        from sd_tvm.execute import Runner, compile_module

        run = Runner(compile_module(model, "llvm").executable)
        found = np.stack([_answer(tuple(run(*inputs))) for inputs in self.examples.batches(self.specs)])
        return 100 * float((found != self.wanted).mean())


def _answer(outputs: Any) -> Array:
    scores = np.asarray(outputs[0] if isinstance(outputs, tuple) else outputs)
    if scores.ndim < 2 or scores.shape[-1] < 2:
        raise BudgetError(
            f"max_drop for a network with an output of shape {scores.shape}",
            expected="scores of at least two classes along the last axis",
            fix="budget by size, cycles or energy",
        )
    return np.asarray(scores.argmax(axis=-1))
