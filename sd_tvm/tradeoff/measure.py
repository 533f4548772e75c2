"""Measuring: every layer in every option, error of its output and effect on the network's, on examples.

Half of the examples (every other one) fit the weight, the other half tells its error, so a fit that knows
nothing but its own examples shows; some of this half also tell what the layer alone does to the network's
outputs. Layers are measured one by one: nothing else is compressed. Only second moments of the inputs are
kept, and the activations of one example at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sd_tvm._blas import one_blas_thread
from sd_tvm.calibration.checkpoint import Checkpoint, LayerFit, Stage, remember
from sd_tvm.calibration.data import batches_of
from sd_tvm.calibration.examples import Examples
from sd_tvm.calibration.interpreter import Interpreter
from sd_tvm.calibration.moments import F64, MomentObserver, Moments
from sd_tvm.calibration.ops import Evaluator, evaluate
from sd_tvm.calibration.sequential import biases_of
from sd_tvm.decompose.calibrated import fit_calibrated
from sd_tvm.errors import CalibrationError
from sd_tvm.recipe import Form, Recipe
from sd_tvm.relay_passes._fit import quantize_int8
from sd_tvm.relay_passes._rewrite import IRModule
from sd_tvm.relay_passes._weights import WeightedLayer, weighted_layers
from sd_tvm.tradeoff.cost import Cost, machine_of, network_cost
from sd_tvm.tradeoff.effect import Change, Key, effects
from sd_tvm.tradeoff.model import LayerSensitivity, OptionRow, SensitivityReport, frontier
from sd_tvm.tradeoff.options import OPTIONS, blank_weight, checked_options, option_nbytes, options_of
from sd_tvm.tradeoff.warn import warnings_of
from sd_tvm.weights.tensor import SDWeight, Weight

if TYPE_CHECKING:
    from sd_tvm.accelerator.config import AcceleratorConfig

#: Called with (step, done, total).
Progress = Callable[[str, int, int], None]
#: Held-out examples on which effects on the outputs are measured.
EFFECT_EXAMPLES = 12
#: Rounds of the fits that are measured; a second one lowers errors by 1 to 3 %.
PASSES = 1

ONE_EXAMPLE = (
    "one calibration example: errors are those of the fitted example itself, which flatters; "
    "pass at least two, better some 50"
)
ALONE = (
    "each layer alone, with the inputs of the float32 network; in the compressed network later layers make "
    "up for part of the error of earlier ones"
)


def sensitivity(
    model: Any,
    calibration: Any,
    *,
    example_inputs: Any = None,
    options: Mapping[str, Form | None] | Sequence[str] | None = None,
    config: AcceleratorConfig | str | Path | None = None,
    title: str = "sensitivity",
    progress: Progress | None = None,
) -> SensitivityReport:
    """Measure what each form of each layer costs.

    Parameters
    ----------
    model, example_inputs
        As :func:`sd_tvm.compress`.
    calibration
        Representative inputs, as :func:`sd_tvm.compress` takes them. Every other one is held out.
    options
        Forms by name (None is int8), or names among :data:`~sd_tvm.tradeoff.options.OPTIONS`; None is these.
    config
        Accelerator configuration, its name or YAML file: adds cycles and energy of each option.
    title
        Heading of the report.
    progress
        Called with (step, done, total).

    Raises
    ------
    UnsupportedModelError
        If the model cannot be imported.
    ConfigError
        If the configuration does not exist, is invalid, or is bit-serial: its time depends on data.
    CalibrationError
        If the calibration data do not fit the model.
    BudgetError
        If an option is unknown.
    """
    from sd_tvm.compression import _calibrated, examples_of
    from sd_tvm.frontends import load_model
    from sd_tvm.relay_passes.pipeline import simplify

    chosen = checked_options(options)
    examples = examples_of(calibration)
    mod = load_model(model, example_inputs)
    for step in simplify():
        mod = step(mod)
    machine = None if config is None else machine_of(config)
    if machine is not None:
        mod = _calibrated(mod, examples, Recipe.default(), progress or (lambda _step, _done, _total: None))
    return measure(mod, examples, chosen, title=title, config=machine, progress=progress)


@one_blas_thread
def measure(
    mod: IRModule,
    examples: Any,
    options: Mapping[str, Form | None],
    *,
    title: str = "sensitivity",
    config: AcceleratorConfig | None = None,
    every: bool = True,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
    evaluate: Evaluator = evaluate,
) -> SensitivityReport:
    """As :func:`sensitivity`, for a simplified float32 module (calibrated, if a configuration is given).

    ``every``: also the options that are not worth it by their bytes alone. A checkpoint stores the fits.
    ``evaluate``: how operators are computed; the last bits depend on it.
    """
    from sd_tvm.report.build import package_versions

    report = progress or (lambda _step, _done, _total: None)
    interpreter = Interpreter(mod, evaluate)
    constants = {step.name for step in interpreter.steps if step.constant}
    layers = {
        layer.var: layer
        for layer in weighted_layers(mod)
        if layer.function == "main" and layer.var not in constants
    }
    biased = {var for var, _ in biases_of(interpreter.steps, layers)}
    seen, unseen, count = _moments(interpreter, examples, list(layers), report)
    costs = {} if config is None else _costs(mod, layers, options, config, report)
    chosen = {
        var: dict(options) if every else options_of(layer.info.geometry, options)
        for var, layer in layers.items()
    }
    benches = {
        var: _Bench(layer, seen[var], unseen[var], count, centred=var in biased)
        for var, layer in layers.items()
    }
    rows: list[LayerSensitivity] = []
    changes: dict[Key, Change] = {}
    done, total = 0, sum(len(own) for own in chosen.values())
    report("sensitivity", 0, total)
    names = tuple(layer.info.name for layer in layers.values())
    for var, bench in benches.items():
        found = []
        for name, option in chosen[var].items():
            row, changes[var, name] = bench.row(
                name, option, None if checkpoint is None else checkpoint.measured(name, names)
            )
            cost = costs.get((bench.layer.info.name, name), Cost())
            known = cost.cycles > 0
            found.append(
                replace(
                    row,
                    cycles=cost.cycles if known else None,
                    energy_fj=cost.energy_fj if known else None,
                )
            )
            report("sensitivity", done := done + 1, total)
        layer = bench.layer_row(found)
        for i, row in enumerate(layer.options):
            if i not in layer.undominated():
                del changes[var, row.option]
        rows.append(layer)
    watched = _watched(count)
    effect = effects(interpreter, examples, watched, changes, lambda n, of: report("effects", n, of))
    name = "" if config is None else config.name
    finished = tuple(
        _finished(layer, {row: effect[key, row] for key, row in effect if key == var}, count > 1, name)
        for var, layer in zip(layers, rows, strict=True)
    )
    notes = (ALONE,) if count > 1 else (ALONE, ONE_EXAMPLE)
    return SensitivityReport(
        title, count, count // 2, len(watched), name, finished, notes, package_versions()
    )


def measured(
    mod: IRModule,
    examples: Any,
    progress: Progress | None,
    config: AcceleratorConfig | None,
    checkpoint: Checkpoint | None,
    evaluate: Evaluator = evaluate,
) -> SensitivityReport:
    """What budgets choose from, :func:`measure` of all options that may be worth it; kept in a checkpoint."""
    return remember(
        checkpoint,
        "sensitivity.json",
        SensitivityReport,
        lambda: measure(
            mod,
            examples,
            OPTIONS,
            config=config,
            every=False,
            progress=progress,
            checkpoint=checkpoint,
            evaluate=evaluate,
        ),
    )


def _watched(count: int) -> list[int]:
    """Places of the examples on which effects are measured, spread over the held-out ones."""
    held_out = list(range(1, count, 2)) or [0]
    n = min(len(held_out), EFFECT_EXAMPLES)
    return [held_out[i * len(held_out) // n] for i in range(n)]


def _costs(
    mod: IRModule,
    layers: Mapping[str, WeightedLayer],
    options: Mapping[str, Form | None],
    config: AcceleratorConfig,
    report: Progress,
) -> dict[Key, Cost]:
    """Costs of (layer, option): the network is timed with each option in all layers that can take it."""
    found: dict[Key, Cost] = {}
    report("accelerator", 0, len(options))
    for done, (name, option) in enumerate(options.items(), start=1):
        takes = {
            layer.info.name: name in options_of(layer.info.geometry, {"int8": None, name: option})
            for layer in layers.values()
        }
        weights = {
            layer.info.name: blank_weight(layer.info.geometry, option if takes[layer.info.name] else None)
            for layer in layers.values()
        }
        costs = network_cost(mod, weights, config).layers
        found |= {(layer, name): costs[layer] for layer, own in takes.items() if own and layer in costs}
        report("accelerator", done, len(options))
    return found


def _moments(
    interpreter: Interpreter, examples: Any, layers: list[str], report: Progress
) -> tuple[dict[str, Moments], dict[str, Moments], int]:
    """Input moments on the fitted and on the held-out examples, and how many examples there are."""
    observers = (MomentObserver(layers), MomentObserver(layers))
    examples = Examples.of(examples)
    total, count = examples.count(interpreter.inputs), 0
    report("moments", 0, total)
    for inputs in batches_of(examples, interpreter.inputs):
        interpreter.run(inputs, observers[count % 2])
        count += 1
        report("moments", count, total)
    if not layers:
        raise CalibrationError(
            "the model has no layer with a constant weight",
            expected="convolutions or dense layers",
            fix="there is nothing to compress",
        )
    seen = observers[0].finish()
    return seen, observers[1].finish() if count > 1 else seen, count


@dataclass(frozen=True)
class _Bench:
    """A layer on the bench: its weight, and its inputs' moments on both halves."""

    layer: WeightedLayer
    seen: Moments
    unseen: Moments
    examples: int
    centred: bool

    @property
    def positions(self) -> int:
        """Output positions of one example."""
        return (self.seen.count + (self.unseen.count if self.examples > 1 else 0)) // self.examples

    def row(self, name: str, option: Form | None, stage: Stage | None = None) -> tuple[OptionRow, Change]:
        """Fit the layer in one option and measure it; what the layer becomes."""
        geometry = self.layer.info.geometry
        stored = None if stage is None else stage.load(self.layer.info.name)
        weight = self._fit(option) if stored is None else stored.weight
        if stage is not None and stored is None:
            stage.save(self.layer.info.name, LayerFit(weight))
        dense = weight.dequantize()
        difference = dense.astype(np.float64) - self.layer.array
        nbytes = option_nbytes(geometry, option)
        row = OptionRow(
            option=name,
            kind="int8",
            pattern="",
            alphabet="",
            basis="",
            error=self._error(difference, self.unseen),
            fit_error=self._error(difference, self.seen),
            nbytes=nbytes,
            bits_per_weight=8 * nbytes / dense.size,
            sparsity=float((weight.integer() == 0).mean()),
            shift_add_macs=0,
        )
        if isinstance(weight, SDWeight) and option is not None:
            form = weight.form
            row = replace(
                row,
                kind="sd",
                pattern=form.pattern,
                alphabet=form.alphabet,
                basis=f"{form.basis_kind} x {option.n_bases(geometry)}",
                shift_add_macs=self.positions * int(np.count_nonzero(weight.coef)),
            )
        shift = None
        if self.centred:
            drift = self._by_group(difference) @ self.seen.mean[:, :, None]
            shift = (-drift).reshape(-1).astype(np.float32)
        return row, Change(self.layer, weight, shift)

    def layer_row(self, options: list[OptionRow]) -> LayerSensitivity:
        """The whole layer, without effects."""
        geometry = self.layer.info.geometry
        return LayerSensitivity(
            name=self.layer.info.name,
            op=self.layer.info.op,
            shape=self.layer.info.shape,
            macs=self.positions * self.layer.array.size,
            int8_bytes=option_nbytes(geometry, None),
            inputs=geometry.rows * geometry.s,
            samples=self.seen.count,
            options=tuple(options),
        )

    def _fit(self, option: Form | None) -> Weight:
        if option is None:
            return quantize_int8(self.layer.array)
        geometry, count = self.layer.info.geometry, max(self.seen.count, 1)
        hessian = (self.seen.centred() if self.centred else self.seen.xx) / count
        hessian = (hessian + hessian.transpose(0, 2, 1)) / 2
        form, n_bases = option.weight_form(geometry), option.n_bases(geometry)
        return fit_calibrated(self.layer.array, form, hessian, n_bases=max(n_bases, 1), passes=PASSES)

    def _error(self, difference: npt.NDArray[np.float64], moments: Moments) -> float:
        """Squared output error over the variance of the output, the bias corrected on the fitted half."""
        weight = self.layer.array.astype(np.float64)
        centred = replace(moments, xx=moments.centred())
        spread = float(centred.error(weight).sum())
        if spread <= 1e-12 * float(moments.error(weight).sum()):  # constant output
            spread = float(moments.error(weight).sum())
        if not self.centred:
            wrong = float(moments.error(difference).sum())
        else:
            drift = self._by_group(difference) @ (moments.mean - self.seen.mean)[:, :, None]
            wrong = float(centred.error(difference).sum()) + moments.count * float((drift**2).sum())
        return max(wrong, 0.0) / spread if spread > 0 else 0.0

    def _by_group(self, weight: npt.NDArray[np.float64]) -> F64:
        rows = self.seen.geometry.to_rows(weight).astype(np.float64)
        return rows.reshape(self.seen.groups, -1, self.seen.xx.shape[1])


def _finished(
    layer: LayerSensitivity, effect: Mapping[str, tuple[float, float]], held_out: bool, target: str
) -> LayerSensitivity:
    """The layer with effects, steps and warnings."""
    rows = [
        replace(row, effect=effect[row.option][0], effect_spread=effect[row.option][1])
        if row.option in effect
        else row
        for row in layer.options
    ]
    whole = replace(layer, options=tuple(rows))
    rows = [
        replace(_with_step(whole, row), warnings=warnings_of(whole, row, held_out=held_out, target=target))
        for row in rows
    ]
    return replace(whole, options=tuple(rows))


def _with_step(layer: LayerSensitivity, row: OptionRow) -> OptionRow:
    """The row with the next smaller option that is worth taking, if there is one."""
    found = [layer.options[i] for i in layer.candidates()]
    hull = [found[i] for i in frontier([(o.nbytes, o.effect or 0.0) for o in found])]
    smaller = [o for o in hull if o.nbytes < row.nbytes]
    if row.effect is None or not smaller:
        return row
    step = smaller[-1]
    return replace(
        row,
        next_option=step.option,
        next_bytes=row.nbytes - step.nbytes,
        next_effect=(step.effect or 0.0) - row.effect,
    )
