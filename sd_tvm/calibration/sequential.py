"""Calibrated decomposition, layer after layer in the order of the graph.

Two copies of the network run side by side on the calibration examples: the float32 one and the one that is
being compressed. When the walk comes to a layer, second moments of the inputs that it really gets in the
compressed copy and of the outputs that it should give are collected; its weight is fitted to them, so each
layer also makes up for the error of those before it. Then the mean of what is still wrong goes into its bias.
Never more than a few examples' values are needed in memory (:mod:`sd_tvm.calibration.sweep`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm._blas import one_blas_thread
from sd_tvm.calibration.checkpoint import Checkpoint, LayerFit
from sd_tvm.calibration.data import Array
from sd_tvm.calibration.examples import Examples
from sd_tvm.calibration.interpreter import Interpreter, Step
from sd_tvm.calibration.moments import Moments
from sd_tvm.calibration.ops import Evaluator, evaluate
from sd_tvm.calibration.residual import left_over, per_position, wanted_array
from sd_tvm.calibration.sweep import MEMORY, sweep
from sd_tvm.calibration.twin import Twin
from sd_tvm.calibration.validation import FOLDS, Fit, validated
from sd_tvm.decompose.calibrated import DAMPING, RIDGE, fit_calibrated
from sd_tvm.decompose.scale_floor import least_scale, raise_scales
from sd_tvm.recipe import LayerPlan, Recipe, Solver
from sd_tvm.relay_passes._fit import quantize_int8
from sd_tvm.relay_passes._rewrite import Expr, IRModule, Rewriter, const, constant, is_call, rewrite
from sd_tvm.relay_passes._weights import WeightedLayer, weighted_layers
from sd_tvm.relay_passes.calibrate import activation_qparams
from sd_tvm.weights.tensor import RawWeight, Weight

F64 = npt.NDArray[np.float64]
#: Called with (step, done, total).
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class SequentialFit:
    """Result of :func:`fit_in_order`.

    Attributes
    ----------
    module
        The float32 module with corrected biases; ``Decompose(weights=...)`` puts the weights in.
    weights
        Layer name -> weight, layers that the recipe skips left out.
    errors
        Layer name -> squared error of the layer's output after the fit, relative to the output's variance.
    facts
        Layer name -> what cross-validation chose and found (:mod:`sd_tvm.calibration.validation`).
    """

    module: IRModule
    weights: dict[str, Weight]
    errors: dict[str, float]
    facts: dict[str, dict[str, Any]]


@one_blas_thread
def fit_in_order(
    mod: IRModule,
    batches: Any,
    recipe: Recipe,
    progress: Progress | None = None,
    fit: Fit | None = None,
    evaluate: Evaluator = evaluate,
    *,
    checkpoint: Checkpoint | None = None,
    memory: int = MEMORY,
) -> SequentialFit:
    """Fit every weight to the outputs of the float32 network.

    Parameters
    ----------
    mod
        Simplified float32 module.
    batches
        Example inputs, as :class:`sd_tvm.relay_passes.Calibrate` takes them; some 20 to 200.
    recipe
        Which layer takes which form.
    progress
        Called with ("decompose", layers done, layers).
    fit
        Another way to fit one layer, for comparisons: gets layer, plan, second moments (G, K, K) and cross
        moments (M, K), as :func:`~sd_tvm.decompose.calibrated.fit_calibrated` does, and the solver.
    evaluate
        How operators are computed; the last bits, and so now and then a code, depend on it.
    checkpoint
        Where each layer's fit is stored as soon as it is done, and taken from if it is there.
    memory
        Bytes of activations to keep in memory at most; more goes to temporary files or is computed again. The
        result does not depend on it.

    Raises
    ------
    CalibrationError
        As ``Calibrate``.
    RecipeError
        If a rule by name matches nothing.
    """
    walk = _Walk(mod, recipe, memory, fit or _fit, evaluate)
    return walk.run(Examples.of(batches), checkpoint, progress or (lambda _step, _done, _total: None))


class _Walk:
    """State of one sweep."""

    def __init__(self, mod: IRModule, recipe: Recipe, memory: int, fit: Fit, evaluate: Evaluator) -> None:
        self.mod = mod
        self.memory = memory
        self.fit = fit
        self.interpreter = Interpreter(mod, evaluate)
        layers = weighted_layers(mod)
        self.recipe = recipe
        plans = recipe.plan([layer.info for layer in layers])
        self.layers = {layer.var: layer for layer in layers if layer.function == "main"}
        self.plans = {layer.info.name: plans[layer.info.name] for layer in self.layers.values()}
        fitted = [var for var, layer in self.layers.items() if self.plans[layer.info.name].kind != "skip"]
        steps = self.interpreter.steps
        self.bias_of = {var: add for var, add in biases_of(steps, self.layers) if var in fitted}
        second = {step.name: step.value.args[1] for step in steps if is_call(step.value, "relax.add")}
        self.bias_values = {add: bias_constant(second[add]) for add in self.bias_of.values()}
        self.qparams = activation_qparams(mod)
        self.twin = Twin(self.interpreter, fitted, list(self.bias_of.values()))
        self.fits: dict[str, LayerFit] = {}

    def run(self, examples: Examples, checkpoint: Checkpoint | None, progress: Progress) -> SequentialFit:
        """The sweep."""
        stage = None if checkpoint is None else checkpoint.stage("fit", self.recipe, self.plans)
        todo = []
        for place in self.twin.places:
            step = self.twin.steps[place]
            layer = self.layers[step.name]
            stored = None if stage is None else stage.load(layer.info.name)
            if stored is None:
                todo.append(place)
            else:
                self._apply(step, layer, stored)
        done = len(self.layers) - len(todo)
        progress("decompose", done, len(self.layers))
        folds = FOLDS if self.recipe.solver.validates else 1
        for place, moments in sweep(self.twin, examples, todo, self.memory, folds=folds):
            step = self.twin.steps[place]
            layer = self.layers[step.name]
            fit = self._fit(step, layer, moments)
            if stage is not None:
                stage.save(layer.info.name, fit)
            self._apply(step, layer, fit)
            done += 1
            progress("decompose", done, len(self.layers))
        weights = {name: fit.weight for name, fit in self.fits.items()}
        errors = {name: fit.error for name, fit in self.fits.items()}
        facts = {name: fit.facts for name, fit in self.fits.items() if fit.facts}
        return SequentialFit(self._corrected(), weights, errors, facts)

    def _apply(self, step: Step, layer: WeightedLayer, fit: LayerFit) -> None:
        self.fits[layer.info.name] = fit
        self.twin.changed[step.name] = _in_graph(layer, fit.weight.dequantize())
        if fit.bias is not None:
            self.twin.changed[self.bias_of[step.name]] = fit.bias

    def _fit(self, step: Step, layer: WeightedLayer, folds: Sequence[Moments]) -> LayerFit:
        bias, plan = self.bias_of.get(step.name), self.plans[layer.info.name]
        solver, facts = self.recipe.solver, dict[str, Any]()
        if solver.validates:
            solver, facts = validated(layer, plan, folds, solver, self.fit, biased=bias is not None)
        moments = reduce(Moments.plus, folds)
        weight = self.fit(layer, plan, *per_position(moments, centred=bias is not None), solver)
        scale = self.qparams.get(str(step.value.args[0].name)) if bias is not None else None
        if bias is not None and scale is not None:
            weight = raise_scales(weight, least_scale(self.bias_values[bias].reshape(-1), scale.scale))
        error, mean = left_over(weight.dequantize(), moments, biased=bias is not None)
        if bias is None:
            return LayerFit(weight, error, None, facts)
        old = self.bias_values[bias]
        return LayerFit(weight, error, (old + mean.reshape(old.shape)).astype(np.float32), facts)

    def _corrected(self) -> IRModule:
        changed = {add: self.twin.changed[add] for add in self.bias_of.values()}

        def rule(_: Rewriter, var: Expr, value: Expr) -> Expr | None:
            new = changed.get(str(var.name))
            if new is None:
                return None
            return type(value)(value.op, [value.args[0], const(new)], value.attrs, value.ty_args)

        return rewrite(self.mod, rule, "main")


def biases_of(steps: Sequence[Step], layers: dict[str, WeightedLayer]) -> Iterator[tuple[str, str]]:
    """(layer variable, variable of its bias addition), for layers whose result goes nowhere else."""
    uses: dict[Expr, int] = {}
    by_var = {step.var: step for step in steps}
    for step in steps:
        for arg in getattr(step.value, "args", []):
            if arg in by_var:
                uses[arg] = uses.get(arg, 0) + 1
    for step in steps:
        if not is_call(step.value, "relax.add"):
            continue
        source, other = by_var.get(step.value.args[0]), constant(step.value.args[1])
        if source is None or other is None or source.name not in layers or uses[source.var] != 1:
            continue
        if other.size == layers[source.name].array.shape[0]:
            yield source.name, step.name


def _fit(layer: WeightedLayer, plan: LayerPlan, hessian: F64, cross: F64, solver: Solver) -> Weight:
    ridge, damping = solver.strengths(RIDGE, DAMPING)
    if plan.kind == "sd" and plan.form is not None:
        return fit_calibrated(
            layer.array,
            plan.form,
            hessian,
            cross=cross,
            damping=damping,
            ridge=ridge,
            n_bases=max(plan.n_bases, 1),
            weight_bits=solver.weight_bits,
        )
    return fit_int8(layer, hessian, cross, ridge)


def fit_int8(layer: WeightedLayer, hessian: F64, cross: F64, ridge: float) -> RawWeight:
    """int8 weight, rounded from the one that gives the wanted outputs."""
    return quantize_int8(wanted_array(layer.array, hessian, cross, ridge).astype(np.float32))


def bias_constant(expr: Expr) -> Array:
    """The bias that a bias addition of :func:`biases_of` adds."""
    array = constant(expr)
    if array is None:
        raise TypeError("a bias is a constant")
    return array


def _in_graph(layer: WeightedLayer, array: Array) -> Array:
    """(M, Cg, KH, KW) as the operator takes it."""
    if layer.info.op == "dense":
        return np.ascontiguousarray(array[:, :, 0, 0].T)
    return array.reshape(layer.info.shape)
