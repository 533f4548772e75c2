"""One way for all: import, calibrate once a split, then fit in SD form or in plain integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sd_tvm import CompressedModel
from sd_tvm.calibration.sequential import Fit, fit_in_order
from sd_tvm.compression import _calibrated, _store
from sd_tvm.format import dumps
from sd_tvm.format.schema import to_container
from sd_tvm.frontends import load_model
from sd_tvm.recipe import LayerInfo, Recipe
from sd_tvm.relay_passes._weights import weighted_layers
from sd_tvm.relay_passes.pipeline import simplify
from sd_tvm.tradeoff.files import report_from_json, report_to_json
from sd_tvm.tradeoff.goal import Budget
from sd_tvm.tradeoff.measure import measured
from sd_tvm.tradeoff.model import SensitivityReport
from sd_tvm.tradeoff.planner import Facts, Planner
from sd_tvm.weights.rownumbers import row_bits

from .fast import evaluate
from .integers import WIDTHS, fit_integers, width_of


@dataclass(frozen=True)
class Fitted:
    """A compressed network and its bytes; for peers as if their integers were packed.

    Attributes
    ----------
    model
        The network.
    file, file_entropy
        Bytes of the ``.sd`` file, plain and entropy coded (integers in the container of int8 then take what
        they would take by themselves).
    weight_bytes, fp32_weight_bytes
        Bytes of the layers' weights: codes, indices, bases, scales; in float32.
    """

    model: CompressedModel
    file: int
    file_entropy: int
    weight_bytes: int
    fp32_weight_bytes: int

    @property
    def ratio(self) -> float:
        """float32 weights and biases over the file."""
        return self.model.fp32_bytes / self.file


class Network:
    """A network on one set of calibration data; sensitivities are kept in the file ``kept``."""

    def __init__(self, model: Any, example: Any, calibration: Any, kept: Path | None = None) -> None:
        mod = load_model(model, example)
        for step in simplify():
            mod = step(mod)
        self.calibration, self.kept = calibration, kept
        self.module = _calibrated(mod, calibration, Recipe.default(), lambda *_: None)
        self.layers: Sequence[LayerInfo] = [layer.info for layer in weighted_layers(self.module)]

    def sd(self, recipe: Recipe) -> Fitted:
        """In SD form, as ``sd_tvm.compress`` does."""
        return self._fitted(recipe, None, 0)

    def budget(self, size: float) -> Fitted:
        """In SD form, as ``sd_tvm.compress(budget={"size": size})`` does; the file is not measured again."""
        planner = Planner(self.module, self._sensitivity, Budget.parse({"size": size}), _store)
        choice = planner.choose(planner.limits())
        return self._fitted(planner.recipe(choice), None, 0, planner.facts(choice))

    @cached_property
    def _sensitivity(self) -> SensitivityReport:
        """What every budget of these calibration data chooses from."""
        if self.kept is not None and self.kept.is_file():
            return report_from_json(self.kept.read_text(encoding="utf-8"))
        report = measured(self.module, self.calibration, None, None, None, evaluate)
        if self.kept is not None:
            self.kept.write_text(report_to_json(report), encoding="utf-8")
        return report

    def integers(self, recipe: Recipe) -> Fitted:
        """In integers of few bits, with the same solver; of a recipe's forms only pattern and width count."""
        return self._fitted(recipe, fit_integers, self._saved(recipe))

    def _fitted(self, recipe: Recipe, fit: Fit | None, saved: int, facts: Facts | None = None) -> Fitted:
        found = fit_in_order(self.module, self.calibration, recipe, fit=fit, evaluate=evaluate)
        stored = _store(found.module, found.weights, found.errors, recipe, (), facts).stored
        tensors, _ = to_container(stored)
        weights = sum(a.nbytes for name, a in tensors.items() if name.startswith("weights/"))
        return Fitted(
            CompressedModel(stored),
            len(dumps(stored)) - saved,
            len(dumps(stored, "entropy")),
            weights - saved,
            4 * sum(layer.n_weights for layer in self.layers),
        )

    def bytes_of(self, recipe: Recipe) -> int:
        """What the layers of a peer's recipe take, with one scale a filter."""
        plans = recipe.plan(self.layers)
        return sum(plans[x.name].int8_bytes for x in self.layers) - self._saved(recipe)

    def _saved(self, recipe: Recipe) -> int:
        """Bytes that packed integers save against the int8 container that holds them here."""
        plans = recipe.plan(self.layers)
        saved = 0
        for layer in self.layers:
            plan = plans[layer.name]
            if plan.form is not None:
                saved += plan.int8_bytes - width_of(plan.form).nbytes(layer.geometry, plan.form.pattern)
        return saved

    def peer(self, forms: Sequence[dict[str, Any]], limit: int, like: Recipe) -> Recipe:
        """The recipe of a peer that takes at most so many bytes of weights.

        Parameters
        ----------
        forms
            From the densest on; ``{}`` is int8. Each layer starts with the narrowest form that is not
            narrower than its SD form. Then, until the bytes are met, layers take the next form, the largest
            first; what is left over widens layers again, the smallest first.
        limit
            Bytes.
        like
            The recipe in SD form.
        """
        plans = like.plan(self.layers)
        order = sorted((x for x in self.layers if self._free(x)), key=lambda x: x.n_weights)
        bits = [8 if not form else WIDTHS[form.get("alphabet", "two-term")] for form in forms]
        level = {}
        for layer in order:
            form = plans[layer.name].form
            wanted = 8.0 if form is None else row_bits(form.table, 3) / 3
            level[layer.name] = max(i for i, width in enumerate(bits) if width >= wanted or i == 0)
        for _ in forms:
            for layer in reversed(order):
                if self.bytes_of(self._recipe(level, forms, like)) <= limit:
                    break
                level[layer.name] = min(level[layer.name] + 1, len(forms) - 1)
        for layer in order:
            trial = {**level, layer.name: max(level[layer.name] - 1, 0)}
            if self.bytes_of(self._recipe(trial, forms, like)) <= limit:
                level = trial
        return self._recipe(level, forms, like)

    @staticmethod
    def _free(layer: LayerInfo) -> bool:
        """Whether a layer is compressed below int8 at all: depthwise and convolutions of images are not."""
        return layer.op != "depthwise" and (layer.op != "conv2d" or layer.shape[1] > 3)

    @staticmethod
    def _recipe(level: dict[str, int], forms: Sequence[dict[str, Any]], like: Recipe) -> Recipe:
        rules: list[dict[str, Any]] = []
        for name, k in level.items():
            how = {"kind": "sd", "form": forms[k], "even_if_larger": True} if forms[k] else {"kind": "int8"}
            rules.append({"name": name, **how})
        return Recipe.from_dict({"version": 1, "rules": rules, "solver": like.to_dict()["solver"]})
