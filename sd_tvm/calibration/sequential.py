"""Calibrated decomposition, layer after layer in the order of the graph.

Two copies of the network run side by side on the calibration examples, one step at a time: the float32 one
and the one that is being compressed. When the walk comes to a layer, the inputs it really gets in the
compressed copy and the outputs it should give are at hand; its weight is fitted to them, so each layer also
makes up for the error of those before it. Then the mean of what is still wrong goes into its bias.
One sweep, every example's values of one moment in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm._blas import one_blas_thread
from sd_tvm.calibration.data import batches_of
from sd_tvm.calibration.interpreter import Interpreter, Step
from sd_tvm.calibration.moments import MomentObserver, Moments
from sd_tvm.calibration.ops import Array, Evaluator, evaluate
from sd_tvm.decompose.calibrated import DAMPING, RIDGE, fit_calibrated, wanted_weight
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
Env = dict[Expr, Any]
#: Fits a layer: (layer, plan, second moments, cross moments, solver).
Fit = Callable[[WeightedLayer, LayerPlan, F64, F64, Solver], Weight]


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
    """

    module: IRModule
    weights: dict[str, Weight]
    errors: dict[str, float]


@one_blas_thread
def fit_in_order(
    mod: IRModule,
    batches: Any,
    recipe: Recipe,
    progress: Progress | None = None,
    fit: Fit | None = None,
    evaluate: Evaluator = evaluate,
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

    Raises
    ------
    CalibrationError
        As ``Calibrate``.
    RecipeError
        If a rule by name matches nothing.
    """
    return _Walk(mod, batches, recipe, progress, fit or _fit, evaluate).run()


class _Walk:
    """State of one sweep."""

    def __init__(
        self,
        mod: IRModule,
        batches: Any,
        recipe: Recipe,
        progress: Progress | None,
        fit: Fit,
        evaluate: Evaluator,
    ) -> None:
        self.mod = mod
        self.fit = fit
        self.progress = progress
        self.interpreter = Interpreter(mod, evaluate)
        layers = weighted_layers(mod)
        self.solver = recipe.solver
        self.plans = recipe.plan([layer.info for layer in layers])
        self.layers = {layer.var: layer for layer in layers if layer.function == "main"}
        self.bias_of = dict(_biases(self.interpreter.steps, self.layers))
        adds = {
            step.name: step.value.args[1]
            for step in self.interpreter.steps
            if is_call(step.value, "relax.add")
        }
        self.bias_values = {add: _flat(adds[add]) for add in self.bias_of.values()}
        self.qparams = activation_qparams(mod)
        self.shifts: dict[str, Array] = {}  # of bias additions, by variable
        self.weights: dict[str, Weight] = {}
        self.errors: dict[str, float] = {}
        params = self.interpreter.func.params
        examples = list(batches_of(batches, self.interpreter.inputs))
        self.wanted: list[Env] = [dict(zip(params, x, strict=True)) for x in examples]
        self.actual: list[Env] = [dict(zip(params, x, strict=True)) for x in examples]

    def run(self) -> SequentialFit:
        """The sweep."""
        done = 0
        for step in self.interpreter.steps:
            layer = self.layers.get(step.name)
            plan = self.plans[layer.info.name] if layer is not None else None
            if layer is not None and plan is not None and plan.kind != "skip":
                self._layer(step, layer, plan)
            else:
                self._plain(step)
            for env in (*self.wanted, *self.actual):
                for var in step.frees:
                    env.pop(var, None)
            if layer is not None:
                done += 1
                if self.progress is not None:
                    self.progress("decompose", done, len(self.layers))
        return SequentialFit(self._corrected(), self.weights, self.errors)

    def _plain(self, step: Step) -> None:
        shift = self.shifts.get(step.name)
        for wanted, actual in zip(self.wanted, self.actual, strict=True):
            wanted[step.var] = self.interpreter._evaluate(step, wanted)[1]
            if shift is not None:
                actual[step.var] = self.interpreter._evaluate(step, actual)[1] + shift
            elif step.constant:
                actual[step.var] = wanted[step.var]
            else:
                actual[step.var] = self.interpreter._evaluate(step, actual)[1]

    def _layer(self, step: Step, layer: WeightedLayer, plan: LayerPlan) -> None:
        observer = MomentObserver([step.name])
        operands = []
        for wanted, actual in zip(self.wanted, self.actual, strict=True):
            wanted[step.var] = self.interpreter._evaluate(step, wanted)[1]
            args = [self.interpreter._value(a, actual) for a in step.value.args]
            observer.reference = {step.name: _by_filter(step.value, wanted[step.var])}
            observer(step, args, None, step.name)
            operands.append(args)
        bias = self.bias_of.get(step.name)
        moments = per_position(observer.finish()[step.name], centred=bias is not None)
        weight = self.fit(layer, plan, *moments, self.solver)
        scale = self.qparams.get(str(step.value.args[0].name)) if bias is not None else None
        if bias is not None and scale is not None:
            weight = raise_scales(weight, least_scale(self.bias_values[bias], scale.scale))
        self.weights[layer.info.name] = weight
        dense = _in_graph(layer, weight.dequantize())
        for actual, args in zip(self.actual, operands, strict=True):
            actual[step.var] = self.interpreter.evaluate(step.value, [args[0], dense, *args[2:]])
        self._correct(step, layer, bias)

    def _correct(self, step: Step, layer: WeightedLayer, bias: str | None) -> None:
        axis = -1 if layer.info.op == "dense" else 1
        rest = tuple(
            i for i in range(self.wanted[0][step.var].ndim) if i != axis % self.wanted[0][step.var].ndim
        )
        error = square = total = total_square = 0.0
        for wanted, actual in zip(self.wanted, self.actual, strict=True):
            y = wanted[step.var].astype(np.float64)
            d = y - actual[step.var]
            error, square = error + d.mean(axis=rest), square + (d * d).mean(axis=rest)
            total, total_square = total + y.mean(axis=rest), total_square + (y * y).mean(axis=rest)
        n = len(self.wanted)
        mean, spread = np.asarray(error) / n, np.asarray(total_square) / n - (np.asarray(total) / n) ** 2
        left = np.asarray(square) / n - (mean**2 if bias is not None else 0.0)
        self.errors[layer.info.name] = float(left.sum() / max(float(spread.sum()), 1e-30))
        if bias is not None:
            shape = [1] * self.wanted[0][step.var].ndim
            shape[axis] = mean.size
            self.shifts[bias] = mean.reshape(shape).astype(np.float32)

    def _corrected(self) -> IRModule:
        shifts = self.shifts

        def rule(_: Rewriter, var: Expr, value: Expr) -> Expr | None:
            shift = shifts.get(str(var.name))
            old = constant(value.args[1]) if shift is not None else None
            if shift is None or old is None:
                return None
            new = (old + (shift if old.ndim == shift.ndim else shift.reshape(-1))).astype(np.float32)
            return type(value)(value.op, [value.args[0], const(new)], value.attrs, value.ty_args)

        return rewrite(self.mod, rule, "main")


def _biases(steps: Sequence[Step], layers: dict[str, WeightedLayer]) -> Iterator[tuple[str, str]]:
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


def per_position(moments: Moments, *, centred: bool) -> tuple[F64, F64]:
    """Second moments (G, K, K) and cross moments (M, K) of one output position; centred: without means."""
    if moments.yx is None or moments.y is None:
        raise TypeError("moments without a reference")
    count, groups = max(moments.count, 1), moments.groups
    hessian, cross = moments.xx / count, moments.yx / count
    if centred:
        mean = moments.mean
        hessian = moments.centred() / count
        cross = cross - (moments.y / count)[:, None] * np.repeat(mean, cross.shape[0] // groups, axis=0)
    return (hessian + hessian.transpose(0, 2, 1)) / 2, cross


def _fit(layer: WeightedLayer, plan: LayerPlan, hessian: F64, cross: F64, solver: Solver) -> Weight:
    ridge = RIDGE if solver.ridge is None else solver.ridge
    if plan.kind == "sd" and plan.form is not None:
        return fit_calibrated(
            layer.array,
            plan.form,
            hessian,
            cross=cross,
            damping=DAMPING if solver.damping is None else solver.damping,
            ridge=ridge,
            n_bases=max(plan.n_bases, 1),
            weight_bits=solver.weight_bits,
        )
    return fit_int8(layer, hessian, cross, ridge)


def fit_int8(layer: WeightedLayer, hessian: F64, cross: F64, ridge: float) -> RawWeight:
    """int8 weight, rounded from the one that gives the wanted outputs."""
    geometry = layer.info.geometry
    flat = geometry.to_rows(layer.array.astype(np.float64)).reshape(len(hessian), -1, hessian.shape[1])
    target = wanted_weight(flat, hessian, cross.reshape(flat.shape), ridge)
    rows = target.reshape(geometry.shape[0], geometry.rows, geometry.s)
    return quantize_int8(geometry.from_rows(rows).astype(np.float32))


def _flat(expr: Expr) -> Array:
    """A constant as (M,)."""
    array = constant(expr)
    if array is None:
        raise TypeError("a bias is a constant")
    return array.reshape(-1)


def _in_graph(layer: WeightedLayer, array: Array) -> Array:
    """(M, Cg, KH, KW) as the operator takes it."""
    if layer.info.op == "dense":
        return np.ascontiguousarray(array[:, :, 0, 0].T)
    return array.reshape(layer.info.shape)


def _by_filter(call: Expr, value: Array) -> Array:
    """Output of a layer as (M, positions)."""
    if is_call(call, "relax.matmul"):
        return value.reshape(-1, value.shape[-1]).T
    return value.reshape(*value.shape[:2], -1).transpose(1, 0, 2).reshape(value.shape[1], -1)
