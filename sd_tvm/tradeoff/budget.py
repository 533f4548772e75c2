"""``compress(budget=...)``: measure, choose a form for each layer, fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sd_tvm.tradeoff.drop import smallest_within
from sd_tvm.tradeoff.goal import Budget
from sd_tvm.tradeoff.measure import Progress, measured
from sd_tvm.tradeoff.planner import Planner, SizeLimit, Store

if TYPE_CHECKING:
    from sd_tvm.accelerator.config import AcceleratorConfig
    from sd_tvm.calibration.checkpoint import Checkpoint
    from sd_tvm.model import CompressedModel


def compress_to_budget(
    mod: Any,
    examples: Any,
    budget: Budget,
    progress: Progress,
    store: Store,
    config: AcceleratorConfig | None = None,
    checkpoint: Checkpoint | None = None,
) -> CompressedModel:
    """Measure, choose, fit; repeat the last two in the rare case that the file came out too large.

    Parameters
    ----------
    mod
        Simplified float32 module, activations calibrated.
    examples
        Calibration data.
    budget
        The budget.
    progress
        Called with (step, done, total).
    store
        Makes a model of its parts.
    config
        The accelerator: needed for budgets of cycles and energy; else for warnings alone.
    checkpoint
        Where measurements and fits are stored as they are made, and taken from if they are there.

    Raises
    ------
    BudgetError
        If no choice of the options meets the budget; ``best`` is the best that one does.
    """
    from sd_tvm.calibration.sequential import fit_in_order

    if budget.max_drop is not None:
        return smallest_within(mod, examples, budget, progress, store, config, checkpoint)
    report = measured(mod, examples, progress, config, checkpoint)
    planner = Planner(mod, report, budget, store, config)
    limits = planner.limits()
    while True:
        choice = planner.choose(limits)
        recipe = planner.recipe(choice)
        fitted = fit_in_order(mod, examples, recipe, progress, checkpoint=checkpoint)
        model = store(fitted.module, fitted.weights, fitted.errors, recipe, (), planner.facts(choice))
        size = next((limit for limit in limits if isinstance(limit, SizeLimit)), None)
        if size is None or model.nbytes <= size.limit:
            return model
        size.grew(choice, model.nbytes)
