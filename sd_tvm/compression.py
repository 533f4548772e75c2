"""``sd_tvm.compress``: from a trained network to a compressed one."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sd_tvm.accelerator.config import AcceleratorConfig
    from sd_tvm.calibration.checkpoint import Checkpoint
    from sd_tvm.calibration.examples import Examples
    from sd_tvm.errors import BudgetError, CheckpointError
    from sd_tvm.model import CompressedModel
    from sd_tvm.recipe import LayerPlan, Recipe
    from sd_tvm.relay_passes._weights import WeightedLayer
    from sd_tvm.tradeoff.goal import Budget
    from sd_tvm.weights.tensor import Weight

_LOG = logging.getLogger(__name__)

#: Called with (step, done, total); total 0 when it is unknown.
Progress = Callable[[str, int, int], None]

NOT_CALIBRATED = (
    "not calibrated: activation scales are computed at run time and weights are fitted without data; "
    "pass calibration= with some 20 representative inputs"
)


def compress(
    model: Any,
    example_inputs: Sequence[Any] | Any | None = None,
    *,
    recipe: Recipe | str | Path | None = None,
    calibration: Any = None,
    budget: Mapping[str, float] | None = None,
    weights: Mapping[str, Weight] | None = None,
    config: AcceleratorConfig | str | Path | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> CompressedModel:
    """Compress a trained network.

    Batch norm is folded, activations are calibrated to 8 bits, every weight takes the form that the recipe
    says, and what a layer's compression does to its output is made up for by the layers after it.

    Parameters
    ----------
    model, example_inputs
        As :func:`sd_tvm.load_model`: a torch module with example inputs, an exported program, a ``.pt2`` or
        ``.onnx`` file, ``"module:callable"``, or a Relax module.
    recipe
        A recipe, the name of a preset, or a YAML file; None is ``default``.
    calibration
        Representative inputs, no labels: an array or memory map with examples along its first axis, an
        iterable of examples, a ``.npy`` file, or a folder of ``.npy`` or ``.npz`` files, one example each.
        Read one by one, several times (a generator is copied to a temporary file). None: weights are fitted
        without data and activation scales are computed at run time.
    budget
        Instead of a recipe, what is allowed: ``size`` (a ratio: the file is at least so many times smaller
        than float32), ``cycles``, ``energy`` (microjoules; both of one example on the accelerator), or any of
        these together; or ``max_drop`` alone (points of held-out examples whose largest output may change;
        the smallest such file is made). Each layer's form is chosen by its measured effect on the network's
        outputs (:mod:`sd_tvm.tradeoff`); needs calibration data, at least two examples, better some hundred.
        The chosen recipe is stored with the model.
    config
        Accelerator configuration, its name or YAML file: that of the cycles and energy of a budget (None: the
        default one). If given, layers that SD form makes slower there are warned of, and the report has their
        cycles.
    weights
        Layer name -> weight that is compressed already, by retraining: :mod:`sd_tvm.training` passes its own.
        The model holds what these rebuild. They keep their codes, batch norm goes into their scales, and no
        bias is touched; layers without one are fitted without data. Calibration sets ranges only.
    checkpoint
        A folder where finished work is stored: the same call, made again after whatever ended it, takes it up
        there and ends in the same bytes (:mod:`sd_tvm.calibration.checkpoint`). Not for ``weights``, where
        nothing is fitted.
    progress
        Called with (step, done, total).

    Returns
    -------
    CompressedModel

    Raises
    ------
    UnsupportedModelError
        If the model cannot be imported or stored, or is compressed already.
    NumericsError
        If a weight, a bias or a statistic of the model is NaN or infinite; names the layer.
    RecipeError
        If the recipe is invalid or one of its patterns matches nothing.
    CalibrationError
        If the calibration data do not fit the model.
    ConfigError
        If the configuration does not exist, is invalid, or is bit-serial (its time depends on data).
    BudgetError
        If the budget is invalid, comes with a recipe or without calibration data, or cannot be met.
    CheckpointError
        If the checkpoint is of another model, recipe, budget, calibration data or version, or is damaged.
    """
    from sd_tvm.frontends import load_model
    from sd_tvm.recipe import Recipe
    from sd_tvm.relay_passes.pipeline import simplify

    chosen = recipe if isinstance(recipe, Recipe) else Recipe.load("default" if recipe is None else recipe)
    goal = None if budget is None else _checked_budget(budget, recipe, calibration)
    machine = _machine(config, goal)
    if goal is not None and weights is not None:
        raise _budget_with_weights()
    if checkpoint is not None and weights is not None:
        raise _checkpoint_with_weights()
    report = progress or (lambda _step, _done, _total: None)
    report("import", 0, 1)
    mod = load_model(model, example_inputs)
    for step in simplify():
        mod = step(mod)
    report("import", 1, 1)
    if weights is not None:
        return _with_weights(mod, weights, calibration, chosen, report)
    examples = None if calibration is None else examples_of(calibration)
    point = None if checkpoint is None else _opened(checkpoint, mod, chosen, goal, examples)
    if examples is None:
        facts = _slower(mod, chosen, machine)
        return _warned(
            _store(
                mod, fit_without_data(mod, chosen, report, point=point), {}, chosen, (NOT_CALIBRATED,), facts
            )
        )
    mod = _calibrated(mod, examples, chosen, report, point)
    if goal is not None:
        from sd_tvm.tradeoff.budget import compress_to_budget

        return _warned(compress_to_budget(mod, examples, goal, report, _store, machine, checkpoint=point))
    facts = _slower(mod, chosen, machine)
    if chosen.solver.method == "official":
        return _warned(_store(mod, fit_without_data(mod, chosen, report, point=point), {}, chosen, (), facts))
    from sd_tvm.calibration.sequential import fit_in_order

    fitted = fit_in_order(mod, examples, chosen, report, checkpoint=point)
    every = _joined(facts, fitted.facts)
    return _warned(_store(fitted.module, fitted.weights, fitted.errors, chosen, (), every))


def _with_weights(
    mod: Any, weights: Mapping[str, Weight], calibration: Any, recipe: Recipe, report: Progress
) -> CompressedModel:
    from sd_tvm.relay_passes._given import least_scales, place
    from sd_tvm.relay_passes._weights import weighted_layers
    from sd_tvm.weights.tensor import RawWeight

    notes: tuple[str, ...] = (NOT_CALIBRATED.partition(" and weights")[0],)
    if calibration is not None:
        mod, notes = _calibrated(mod, examples_of(calibration), recipe, report), ()
    given, rounded, left = place(weighted_layers(mod), weights, least_scales(mod))
    others = fit_without_data(mod, recipe, report, set(given))
    facts: dict[str, dict[str, Any]] = {
        name: {"kind": "int8" if isinstance(weight, RawWeight) else "sd", "reason": "trained in this form"}
        for name, weight in given.items()
    }
    for name, note in rounded.items():
        facts[name]["warning"] = note
    if left:
        notes += (f"{', '.join(left)}: no layer that can be compressed; stored in float32, as rebuilt",)
        _LOG.warning("%s", notes[-1])
    return _warned(_store(mod, given | others, {}, recipe, notes, facts))


def _budget_with_weights() -> BudgetError:
    from sd_tvm.errors import BudgetError

    return BudgetError(
        "a budget with weights that are compressed already",
        expected="one of them: a budget chooses forms, these weights have theirs",
        fix="drop one",
    )


def _opened(
    folder: str | os.PathLike[str], mod: Any, recipe: Recipe, budget: Budget | None, examples: Examples | None
) -> Checkpoint:
    """The checkpoint in a folder, for these inputs."""
    from sd_tvm.calibration.checkpoint import Checkpoint, code_digest, module_digest
    from sd_tvm.calibration.interpreter import Interpreter
    from sd_tvm.report.build import package_versions

    return Checkpoint(
        folder,
        {
            "the model": module_digest(mod),
            "the recipe": recipe.to_dict() if budget is None else None,
            "the budget": None if budget is None else asdict(budget),
            "the calibration data": None if examples is None else examples.digest(Interpreter(mod).inputs),
            "the code of sd_tvm": code_digest(),
            "versions": package_versions(),
        },
    )


def _checkpoint_with_weights() -> CheckpointError:
    from sd_tvm.errors import CheckpointError

    return CheckpointError(
        "a checkpoint with weights that are compressed already",
        expected="one of them: with weights nothing is fitted",
        fix="drop the checkpoint",
    )


def _warned(model: CompressedModel) -> CompressedModel:
    """The model, its layers' warnings logged."""
    for row in model.report:
        if "warning" in row:
            _LOG.warning("%s: %s", row["node"], row["warning"])
    return model


def _checked_budget(budget: Any, recipe: Any, calibration: Any) -> Budget:
    from sd_tvm.errors import BudgetError
    from sd_tvm.tradeoff.goal import Budget

    goal = Budget.parse(budget)
    if recipe is not None:
        raise BudgetError(
            "a budget and a recipe", expected="one of them: a budget chooses the recipe", fix="drop one"
        )
    if calibration is None:
        raise BudgetError(
            "a budget without calibration data",
            expected="representative inputs, on which errors are measured",
            fix="pass calibration=",
        )
    return goal


def _machine(config: Any, goal: Budget | None) -> AcceleratorConfig | None:
    """The accelerator whose costs are asked for, None if none are."""
    if config is None and (goal is None or not goal.on_accelerator):
        return None
    from sd_tvm.tradeoff.cost import machine_of

    return machine_of(config)


def _joined(*parts: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Facts of layers from several sources, their warnings one after the other."""
    found: dict[str, dict[str, Any]] = {}
    for part in parts:
        for name, facts in part.items():
            own = found.setdefault(name, {})
            warnings = [w for w in (own.get("warning"), facts.get("warning")) if w]
            own.update(facts)
            if warnings:
                own["warning"] = "; ".join(warnings)
    return found


def _slower(mod: Any, recipe: Recipe, machine: AcceleratorConfig | None) -> Mapping[str, Mapping[str, Any]]:
    """Cycles of each layer on the accelerator, and a warning where int8 would take fewer."""
    if machine is None:
        return {}
    from sd_tvm.relay_passes._weights import weighted_layers
    from sd_tvm.tradeoff.cost import cycle_facts

    return cycle_facts(mod, recipe.plan([layer.info for layer in weighted_layers(mod)]), machine)


def examples_of(calibration: Any) -> Examples:
    """The data in a form that can be read again and again.

    Raises
    ------
    CalibrationError
        If it is no data.
    """
    from sd_tvm.calibration.examples import Examples

    return Examples.of(calibration)


def _calibrated(
    mod: Any, data: Any, recipe: Recipe, report: Progress, point: Checkpoint | None = None
) -> Any:
    from sd_tvm.calibration.interpreter import Interpreter
    from sd_tvm.relay_passes._rewrite import set_attr
    from sd_tvm.relay_passes.calibrate import CALIBRATION_ATTR, Calibrate, calibration

    ranges = None if point is None else point.read_json("ranges.json")
    if ranges is not None:
        return set_attr(mod, CALIBRATION_ATTR, ranges)
    examples = examples_of(data)
    activations, total = recipe.activations, examples.count(Interpreter(mod).inputs)
    report("calibrate", 0, total)
    step: Any = Calibrate(
        examples,
        method=activations.range,
        percentile=activations.percentile,
        dtype=activations.dtype,
        progress=lambda done: report("calibrate", done, total),
    )
    mod = step(mod)
    if point is not None:
        point.write_json("ranges.json", calibration(mod))
    return mod


def fit_without_data(
    mod: Any,
    recipe: Recipe,
    report: Progress = lambda _step, _done, _total: None,
    done_already: Collection[str] = (),
    point: Checkpoint | None = None,
) -> dict[str, Weight]:
    """Weights of a module's layers, by name, fitted one by one without examples.

    Parameters
    ----------
    mod
        Simplified float32 module.
    recipe
        Which layer takes which form; those that it skips are left out.
    report
        Called with ("decompose", layers done, layers).
    done_already
        Names that are left out, too.
    point
        Checkpoint that fitted layers are read from and saved to.
    """
    from sd_tvm.calibration.checkpoint import LayerFit
    from sd_tvm.relay_passes._fit import fit_layer
    from sd_tvm.relay_passes._weights import weighted_layers

    layers = weighted_layers(mod)
    plans = recipe.plan([layer.info for layer in layers])
    stage = None if point is None else point.stage("data-free", recipe, plans)
    weights = {}
    report("decompose", 0, len(layers))
    for done, layer in enumerate(layers, start=1):
        name = layer.info.name
        if plans[name].kind != "skip" and name not in done_already:
            stored = None if stage is None else stage.load(name)
            weights[name] = fit_layer(layer, plans[name], recipe, None) if stored is None else stored.weight
            if stage is not None and stored is None:
                stage.save(name, LayerFit(weights[name]))
        report("decompose", done, len(layers))
    return weights


def _store(
    mod: Any,
    weights: dict[str, Weight],
    errors: dict[str, float],
    recipe: Recipe,
    notes: tuple[str, ...] = (),
    facts: Mapping[str, Mapping[str, Any]] | None = None,
) -> CompressedModel:
    from sd_tvm.format import QParams, StoredModel
    from sd_tvm.model import CompressedModel
    from sd_tvm.relay_passes._weights import weighted_layers
    from sd_tvm.relay_passes.graph_io import graph_activations, node_names, to_graph
    from sd_tvm.report.build import package_versions

    layers = weighted_layers(mod)
    plans = recipe.plan([layer.info for layer in layers])
    nodes = {str(var.name): name for var, name in node_names(mod).items()}
    stored = {nodes[layer.var]: weights[layer.info.name] for layer in layers if layer.info.name in weights}
    graph, tensors = to_graph(mod, without_weights=list(stored))
    activations = {
        name: QParams(q.scale, q.zero_point, q.dtype) for name, q in graph_activations(mod).items()
    }
    rows = [
        _row(
            nodes[layer.var],
            layer,
            plans[layer.info.name],
            errors.get(layer.info.name),
            (facts or {}).get(layer.info.name, {}),
        )
        for layer in layers
    ]
    notes += tuple(f"{row['node']}: {row['warning']}" for row in rows if "warning" in row)
    notes += _shared(layers)
    return CompressedModel(
        StoredModel(graph.to_json(), tensors, stored, activations, recipe, rows, package_versions()), notes
    )


def _shared(layers: Sequence[WeightedLayer]) -> tuple[str, ...]:
    """A note for every weight that several layers hold."""
    users: dict[tuple[tuple[int, ...], bytes], list[str]] = {}
    for layer in layers:
        users.setdefault((layer.array.shape, layer.array.tobytes()), []).append(layer.info.name)
    return tuple(
        f"{', '.join(names)} hold the same weight; each is fitted to its own inputs and stored by itself, "
        "and the float32 size counts it as often"
        for names in users.values()
        if len(names) > 1
    )


def _row(
    name: str, layer: WeightedLayer, plan: LayerPlan, error: float | None, facts: Mapping[str, Any]
) -> dict[str, Any]:
    from sd_tvm.tradeoff.warn import larger_than_int8

    row: dict[str, Any] = {
        "node": name,
        "op": layer.info.op,
        "shape": "x".join(map(str, layer.info.shape)),
        "kind": plan.kind,
        "reason": plan.reason,
    }
    if error is not None:
        row["relative_output_error"] = round(error, 6)
    row |= facts
    larger = larger_than_int8(plan.sd_bytes, plan.int8_bytes) if plan.kind == "sd" and plan.sd_bytes else None
    if larger and larger not in row.get("warning", ""):
        row["warning"] = "; ".join(w for w in (larger, row.get("warning")) if w)
    return row
