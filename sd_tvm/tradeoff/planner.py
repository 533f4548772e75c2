"""Choices of one option a layer, and what a choice costs: bytes of its file, cycles, energy."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sd_tvm.errors import BudgetError
from sd_tvm.format.container import encode
from sd_tvm.format.schema import to_container
from sd_tvm.recipe import RECIPE_VERSION, Form, Recipe
from sd_tvm.tradeoff.cost import Cost, network_cost
from sd_tvm.tradeoff.goal import FJ, Budget
from sd_tvm.tradeoff.model import LayerSensitivity, OptionRow, SensitivityReport
from sd_tvm.tradeoff.options import OPTIONS, blank_weight, option_rule
from sd_tvm.tradeoff.search import choose_within
from sd_tvm.weights.tensor import Weight

if TYPE_CHECKING:
    from sd_tvm.accelerator.config import AcceleratorConfig
    from sd_tvm.format import StoredModel
    from sd_tvm.model import CompressedModel

Choice = Sequence[int]
#: Extra facts of the report's rows, by layer name.
Facts = Mapping[str, Mapping[str, Any]]
#: Makes the model of (module, weights, errors, recipe, notes, facts).
Store = Callable[
    [Any, dict[str, Weight], dict[str, float], Recipe, tuple[str, ...], Facts], "CompressedModel"
]
#: Bytes by which the sum of the layers' bytes may miss the file: its compressed JSON depends on the choice.
_INEXACT = 512
#: Bytes by which the file of a choice may exceed that of the same choice with zeros for codes.
RESERVE = 128


class Limit(ABC):
    """One limited quantity.

    Attributes
    ----------
    points
        Cost of every option of every layer, up to ``overhead``.
    allowed
        Largest cost of a choice.
    overhead
        What a choice costs beside the sum of its points: an estimate, corrected by choices that were tried.
    """

    #: How far ``overhead`` may differ between choices without being looked at again.
    inexact = 0

    def __init__(self, points: list[list[int]], allowed: int) -> None:
        self.points = points
        self.allowed = allowed
        self.least = [own.index(min(own)) for own in points]
        self.overhead = 0

    @abstractmethod
    def measured(self, choice: Choice) -> int:
        """What a choice really costs."""

    @abstractmethod
    def unreachable(self, cost: int) -> BudgetError:
        """The error that says what is in reach: ``cost``."""

    def sum(self, choice: Choice) -> int:
        """Sum of the points of a choice."""
        return sum(own[j] for own, j in zip(self.points, choice, strict=True))

    def start(self) -> None:
        """First estimate of the overhead, from the cheapest choice.

        Raises
        ------
        BudgetError
            If that one costs too much.
        """
        cost = self.measured(self.least)
        if cost > self.allowed:
            raise self.unreachable(cost)
        self.overhead = cost - self.sum(self.least) - self.inexact

    def kept(self, choice: Choice) -> bool:
        """Whether a choice is within the limit; if not, the overhead grows so that it is not tried again."""
        cost, total = self.measured(choice), self.sum(choice)
        if cost <= self.allowed:
            return True
        self.overhead = max(self.allowed - total + 1, cost - total - self.inexact)
        return False


class Planner:
    """Searches choices of options that meet a budget; a choice has a place in ``usable`` for each layer.

    Parameters
    ----------
    mod
        Simplified float32 module, activations calibrated.
    report
        Sensitivities.
    budget
        The budget.
    store
        Makes a model of its parts.
    config
        The accelerator, for budgets of cycles and energy.
    """

    def __init__(
        self,
        mod: Any,
        report: SensitivityReport,
        budget: Budget,
        store: Store,
        config: AcceleratorConfig | None = None,
    ) -> None:
        from sd_tvm.relay_passes._weights import weighted_layers

        self.mod = mod
        self.layers: Sequence[LayerSensitivity] = report.layers
        self.budget = budget
        self.store = store
        self.config = config
        self.weighted = [layer for layer in weighted_layers(mod) if layer.function == "main"]
        self.info = {layer.info.name: layer.info for layer in self.weighted}
        self.usable = [layer.candidates() for layer in self.layers]
        self.errors = [
            [layer.options[i].risk for i in own] for layer, own in zip(self.layers, self.usable, strict=True)
        ]
        self._costs: dict[tuple[int, ...], Cost] = {}

    @cached_property
    def size_points(self) -> list[list[int]]:
        """Bytes of each option's arrays in the file; those of the compressed JSON hardly depend on it."""
        deepest = max(len(usable) for usable in self.usable)
        place = {layer.info.name: i for i, layer in enumerate(self.weighted)}
        points: list[list[int]] = [[] for _ in self.layers]
        for j in range(deepest):
            stored = self.stored([min(j, len(usable) - 1) for usable in self.usable]).stored
            for i, (layer, usable) in enumerate(zip(self.layers, self.usable, strict=True)):
                if j < len(usable):
                    node = stored.report[place[layer.name]]["node"]
                    points[i].append(_array_bytes(stored, node))
        return points

    def limits(self) -> list[Limit]:
        """What the budget limits; the size first.

        Raises
        ------
        BudgetError
            If one cannot be met even by the choice that is best for it alone.
        """
        found: list[Limit] = []
        if self.budget.size is not None:
            found.append(SizeLimit(self, self.budget.size))
        if self.budget.cycles is not None:
            found.append(CostLimit(self, "cycles", self.budget.cycles, 1))
        if self.budget.energy is not None:
            found.append(CostLimit(self, "energy_fj", self.budget.energy, FJ))
        for limit in found:
            limit.start()
        return found

    def choose(self, limits: Sequence[Limit]) -> list[int]:
        """The choice of least summed effect within all limits, each really measured.

        Raises
        ------
        BudgetError
            If there is none.
        """
        while True:
            choice = choose_within(
                [limit.points for limit in limits],
                self.errors,
                [limit.allowed - limit.overhead for limit in limits],
            )
            if choice is None:
                choice = self._least(limits)
            kept = [limit.kept(choice) for limit in limits]  # all of them learn from it
            if all(kept):
                return choice

    def _least(self, limits: Sequence[Limit]) -> list[int]:
        """The cheapest choice, where the estimates allow none.

        Raises
        ------
        BudgetError
            If that one is not within the limits either.
        """
        for limit in limits:
            if all(other.measured(limit.least) <= other.allowed for other in limits):
                return limit.least
        if len(limits) == 1:
            raise limits[0].unreachable(limits[0].measured(limits[0].least))
        raise BudgetError(
            f"no choice was found within {self.budget} together",
            expected="limits that go together; each alone can be reached",
            fix="allow more of one of them",
        )

    def rows(self, choice: Choice) -> list[OptionRow]:
        """The chosen option of each layer."""
        return [
            layer.options[usable[j]]
            for layer, usable, j in zip(self.layers, self.usable, choice, strict=True)
        ]

    def recipe(self, choice: Choice) -> Recipe:
        """Recipe with one rule a layer, by exact name."""
        rules = [
            option_rule(self.info[layer.name], OPTIONS[row.option])
            for layer, row in zip(self.layers, self.rows(choice), strict=True)
        ]
        return Recipe.from_dict({"version": RECIPE_VERSION, "rules": rules}, source="the budget's recipe")

    def facts(self, choice: Choice) -> dict[str, dict[str, Any]]:
        """What the report says of each layer beside what every report says."""
        found: dict[str, dict[str, Any]] = {}
        for layer, row in zip(self.layers, self.rows(choice), strict=True):
            own: dict[str, Any] = {"option": row.option, "held_out_error": round(row.error, 6)}
            own["output_effect"] = round(row.effect or 0.0, 6)
            if row.cycles is not None:
                own["cycles"] = row.cycles
            if row.warnings:
                own["warning"] = "; ".join(row.warnings)
            found[layer.name] = own
        return found

    def blanks(self, choice: Choice) -> dict[str, Weight]:
        """Weights of zeros in the form of a choice, by layer name."""
        return {
            layer.name: blank_weight(self.info[layer.name].geometry, _form(row))
            for layer, row in zip(self.layers, self.rows(choice), strict=True)
        }

    def stored(self, choice: Choice) -> CompressedModel:
        """The model that a choice gives, with zeros for codes: its file has nearly the same size."""
        weights = self.blanks(choice)
        # Numbers as long, and as different, as the fit will put there: the JSON is compressed.
        errors = {name: 0.1 + (i * 618_033 % 900_000) / 1_000_000 for i, name in enumerate(weights)}
        return self.store(self.mod, weights, errors, self.recipe(choice), (), self.facts(choice))

    def cost(self, choice: Choice) -> Cost:
        """What a choice costs on the accelerator (compiled and timed; remembered)."""
        if self.config is None:
            raise TypeError("no configuration")
        key = tuple(choice)
        if key not in self._costs:
            self._costs[key] = network_cost(self.mod, self.blanks(choice), self.config).total
        return self._costs[key]


class SizeLimit(Limit):
    """The whole file."""

    inexact = _INEXACT

    def __init__(self, planner: Planner, ratio: float) -> None:
        super().__init__(planner.size_points, 0)
        self.planner, self.ratio = planner, ratio
        self.fp32_bytes = planner.stored(self.least).fp32_bytes
        self.limit = math.floor(self.fp32_bytes / ratio * (1 + 1e-12))  # a ratio of integers is met
        self.allowed = self.limit - RESERVE  # for files with zeros for codes

    def measured(self, choice: Choice) -> int:
        """Bytes of the file, which is not verified."""
        return len(encode(*to_container(self.planner.stored(choice).stored)))

    def unreachable(self, cost: int) -> BudgetError:
        """The error that says which size is in reach."""
        best = self.fp32_bytes / (cost + RESERVE)
        return BudgetError(
            f"size {self.ratio:g} cannot be reached",
            expected=f"at most {math.floor(best * 1000) / 1000:g} with the options {list(OPTIONS)}",
            fix="ask for less",
            best=best,
        )

    def grew(self, choice: Choice, nbytes: int) -> None:
        """The real file of a choice was too large.

        Raises
        ------
        BudgetError
            If it was the smallest one.
        """
        if list(choice) == self.least:
            raise self.unreachable(nbytes)
        self.allowed = min(self.allowed, self.limit - (nbytes - self.measured(choice)))


class CostLimit(Limit):
    """Cycles or energy on the accelerator."""

    def __init__(self, planner: Planner, field: str, limit: float, unit: int) -> None:
        super().__init__(
            [
                [getattr(layer.options[i], field) or 0 for i in own]
                for layer, own in zip(planner.layers, planner.usable, strict=True)
            ],
            math.floor(limit * unit),
        )
        self.planner, self.field, self.unit = planner, field, unit

    def measured(self, choice: Choice) -> int:
        """Cycles, or fJ, of the whole network."""
        return int(getattr(self.planner.cost(choice), self.field))

    def unreachable(self, cost: int) -> BudgetError:
        """The error that says what is in reach."""
        name = self.field.removesuffix("_fj")
        unit = " uJ" if self.unit > 1 else ""
        best = cost / self.unit
        target = "" if self.planner.config is None else f" on {self.planner.config.name}"
        return BudgetError(
            f"{name} {self.allowed / self.unit:g}{unit} cannot be reached{target}",
            expected=f"at least {best:,.10g}{unit} with the options {list(OPTIONS)}",
            fix="allow more, or choose another configuration",
            best=best,
        )


def _form(row: OptionRow) -> Form | None:
    return OPTIONS[row.option]


def _array_bytes(stored: StoredModel, node: str) -> int:
    """Bytes of one layer's arrays in a file."""
    part = replace(
        stored,
        graph={},
        tensors={},
        weights={node: stored.weights[node]},
        activations={},
        recipe=None,
        report=[],
        versions={},
    )
    tensors, _ = to_container(part)
    return sum(array.nbytes for array in tensors.values())
