"""Budgets: what is allowed, the recipe that meets it, and the model made with that recipe."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sd_tvm.errors import BudgetError
from sd_tvm.format.container import encode
from sd_tvm.format.schema import to_container
from sd_tvm.recipe import RECIPE_VERSION, Form, LayerPlan, Recipe
from sd_tvm.tradeoff.measure import Progress, measure
from sd_tvm.tradeoff.model import LayerSensitivity, SensitivityReport
from sd_tvm.tradeoff.options import OPTIONS, option_rule
from sd_tvm.tradeoff.search import Point, choose
from sd_tvm.weights.tensor import RawWeight, SDWeight, Weight

if TYPE_CHECKING:
    from sd_tvm.format import StoredModel
    from sd_tvm.model import CompressedModel
    from sd_tvm.relay_passes._weights import WeightedLayer

#: Quantities that a budget may limit, with what they mean.
QUANTITIES = {"size": "how many times smaller than float32 the whole file is, for example 7.0"}
#: Extra facts of the report's rows, by layer name.
Facts = Mapping[str, Mapping[str, Any]]
#: Makes the model of (module, weights, errors, recipe, notes, facts).
Store = Callable[
    [Any, dict[str, Weight], dict[str, float], Recipe, tuple[str, ...], Facts], "CompressedModel"
]
#: Bytes by which the sum of the layers' bytes may miss the file: its compressed JSON depends on the choice.
_INEXACT = 512
#: Bytes by which the file of a choice may exceed that of the same choice with zeros for codes.
_RESERVE = 128


@dataclass(frozen=True)
class Budget:
    """A checked budget: the file is to be ``size`` times smaller than float32 weights, or more."""

    size: float

    @classmethod
    def parse(cls, data: Any) -> Budget:
        """Budget from ``{"size": 7.0}``.

        Raises
        ------
        BudgetError
            For anything else.
        """
        expected = "; ".join(f"{key}: {text}" for key, text in QUANTITIES.items())
        if not isinstance(data, Mapping):
            raise BudgetError(
                f"a budget of type {type(data).__name__}", expected=expected, fix='pass budget={"size": 7.0}'
            )
        unknown = [str(key) for key in data if key not in QUANTITIES]
        if unknown or not data:
            raise BudgetError(
                f"unknown budget {', '.join(map(repr, unknown))}" if unknown else "an empty budget",
                expected=expected,
                fix="budget by size",
            )
        value = data["size"]
        if isinstance(value, bool) or not isinstance(value, int | float | np.number):
            raise BudgetError(f"size {value!r}", expected=expected)
        if not math.isfinite(value) or value <= 0:
            raise BudgetError(f"size {value!r}", expected=f"a finite number > 0; {expected}")
        return cls(float(value))


def compress_to_budget(
    mod: Any, examples: Any, budget: Budget, progress: Progress, store: Store
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

    Raises
    ------
    BudgetError
        If no choice of the options meets the budget; ``best`` is the best that one does.
    """
    from sd_tvm.calibration.sequential import fit_in_order

    report = measure(mod, examples, OPTIONS, progress=progress)
    planner = _Planner(mod, report, budget, store)
    choice = planner.first()
    while True:
        recipe, facts = planner.recipe(choice), planner.facts(choice)
        fitted = fit_in_order(mod, examples, recipe, progress)
        model = store(fitted.module, fitted.weights, fitted.errors, recipe, (), facts)
        if model.nbytes <= planner.limit:
            return model
        choice = planner.smaller(choice, model.nbytes)


class _Planner:
    """Searches choices of options whose file meets the budget."""

    def __init__(self, mod: Any, report: SensitivityReport, budget: Budget, store: Store) -> None:
        from sd_tvm.relay_passes._weights import weighted_layers

        self.mod = mod
        self.layers: Sequence[LayerSensitivity] = report.layers
        self.budget = budget
        self.store = store
        self.weighted = [layer for layer in weighted_layers(mod) if layer.function == "main"]
        self.info = {layer.info.name: layer.info for layer in self.weighted}
        self.usable = [layer.usable() for layer in self.layers]
        self.points = self._points()
        self.least = [points.index(min(points)) for points in self.points]
        smallest = self._stored(self.least)
        self.fp32_bytes = smallest.fp32_bytes
        self.smallest = _size(smallest.stored)
        self.limit = math.floor(self.fp32_bytes / budget.size * (1 + 1e-12))  # a ratio of integers is met
        self.allowed = self.limit - _RESERVE  # for files with zeros for codes
        self.overhead = self.smallest - self._sum(self.least)

    def _points(self) -> list[list[Point]]:
        """(bytes in the file, error) of each layer's usable options; bytes in the header count too."""
        deepest = max(len(usable) for usable in self.usable)
        place = {layer.info.name: i for i, layer in enumerate(self.weighted)}
        points: list[list[Point]] = [[] for _ in self.layers]
        for j in range(deepest):
            choice = [min(j, len(usable) - 1) for usable in self.usable]
            stored = self._stored(choice).stored
            rules = self.recipe(choice).rules
            for i, (layer, usable) in enumerate(zip(self.layers, self.usable, strict=True)):
                if j < len(usable):
                    row = stored.report[place[layer.name]]
                    part = replace(
                        stored,
                        graph={},
                        tensors={},
                        weights={row["node"]: stored.weights[row["node"]]},
                        activations={},
                        recipe=Recipe(rules=(rules[i],)),
                        report=[row],
                        versions={},
                    )
                    points[i].append((_part_size(part), layer.options[usable[j]].error))
        return points

    def first(self) -> list[int]:
        """The choice of least error whose file, with weights of zeros, fits."""
        if self.smallest > self.allowed:
            raise self._unreachable(self.smallest + _RESERVE)
        return self._fitting()

    def smaller(self, choice: list[int], nbytes: int) -> list[int]:
        """The next choice after one whose real file was too large (its errors took more digits)."""
        if choice == self.least:
            raise self._unreachable(nbytes)
        surprise = nbytes - _size(self._stored(choice).stored)
        self.allowed = min(self.allowed, self.limit - surprise)
        return self._fitting()

    def _fitting(self) -> list[int]:
        """Choices by rising error until the file of one fits; sums of bytes are off by a few (padding)."""
        self.overhead -= _INEXACT
        while True:
            choice = choose(self.points, self.allowed - self.overhead) or self.least
            size = _size(self._stored(choice).stored)
            if size <= self.allowed or choice == self.least:
                return choice
            exact = size - self._sum(choice)
            self.overhead = max(self.allowed - self._sum(choice) + 1, exact - _INEXACT)

    def recipe(self, choice: Sequence[int]) -> Recipe:
        """Recipe with one rule a layer, by exact name."""
        rules = [
            option_rule(self.info[layer.name], self._option(layer, usable[j]))
            for layer, usable, j in zip(self.layers, self.usable, choice, strict=True)
        ]
        return Recipe.from_dict({"version": RECIPE_VERSION, "rules": rules}, source="the budget's recipe")

    def facts(self, choice: Sequence[int]) -> dict[str, dict[str, Any]]:
        """What the report says of each layer beside what every report says."""
        found: dict[str, dict[str, Any]] = {}
        for layer, usable, j in zip(self.layers, self.usable, choice, strict=True):
            row = layer.options[usable[j]]
            found[layer.name] = {"option": row.option, "held_out_error": round(row.error, 6)}
            if row.warnings:
                found[layer.name]["warning"] = "; ".join(row.warnings)
        return found

    def _option(self, layer: LayerSensitivity, index: int) -> Form | None:
        return OPTIONS[layer.options[index].option]

    def _sum(self, choice: Sequence[int]) -> int:
        return sum(points[j][0] for points, j in zip(self.points, choice, strict=True))

    def _stored(self, choice: Sequence[int]) -> CompressedModel:
        """The model that a choice gives, with zeros for codes: its file has the same size."""
        recipe = self.recipe(choice)
        plans = recipe.plan([layer.info for layer in self.weighted])
        weights = {
            layer.info.name: _zeros(layer, plans[layer.info.name])
            for layer in self.weighted
            if plans[layer.info.name].kind != "skip"
        }
        # Numbers as long, and as different, as the fit will put there: the JSON is compressed.
        errors = {name: 0.1 + (i * 618_033 % 900_000) / 1_000_000 for i, name in enumerate(weights)}
        return self.store(self.mod, weights, errors, recipe, (), self.facts(choice))

    def _unreachable(self, nbytes: int) -> BudgetError:
        best = self.fp32_bytes / nbytes
        return BudgetError(
            f"size {self.budget.size:g} cannot be reached",
            expected=f"at most {math.floor(best * 1000) / 1000:g} with the options {list(OPTIONS)}",
            fix="ask for less",
            best=best,
        )


def _size(stored: StoredModel) -> int:
    """Bytes of the file, which is not verified."""
    return len(encode(*to_container(stored)))


def _part_size(part: StoredModel) -> int:
    """Bytes of one layer's arrays in a file; what the compressed JSON takes hardly depends on the choice."""
    tensors, _ = to_container(part)
    return sum(array.nbytes for array in tensors.values())


def _zeros(layer: WeightedLayer, plan: LayerPlan) -> Weight:
    """A weight of zeros in the form of a plan."""
    geometry = layer.info.geometry
    m = geometry.shape[0]
    scale = np.ones(m, dtype=np.float32)
    if plan.kind != "sd" or plan.form is None:
        return RawWeight(np.zeros(geometry.shape, dtype=np.int8), scale)
    s = geometry.s
    coef = np.zeros((m, geometry.rows, s), dtype=np.int8)
    basis = np.zeros((plan.n_bases, s, s), dtype=np.int8)
    ids = np.zeros(m, dtype=np.uint8) if plan.form.basis_kind == "codebook" else None
    return SDWeight(geometry.shape, plan.form, coef, basis, scale, ids)
