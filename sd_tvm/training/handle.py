"""Attaching parametrisations to a model, and steering them through training. Imports torch."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.utils import parametrize

from sd_tvm._blas import one_blas_thread
from sd_tvm.errors import (
    NumericsError,
    OptionError,
    RecipeError,
    UnsupportedDTypeError,
    UnsupportedModelError,
)
from sd_tvm.recipe import LayerInfo, LayerPlan, Recipe
from sd_tvm.recipe.layer import Op
from sd_tvm.training.options import Options
from sd_tvm.training.parametrization import CompressedForm
from sd_tvm.weights.tensor import ROWS_KEPT, SDWeight, Weight

if TYPE_CHECKING:
    from sd_tvm.compression import Progress
    from sd_tvm.model import CompressedModel

LAYERS = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d)


@dataclass(frozen=True)
class Layer:
    """A layer in training: its module, what is known of it, and its parametrisation."""

    module: Any
    info: LayerInfo
    form: CompressedForm

    @property
    def master(self) -> Any:
        """The float32 parameter that gradients move."""
        return self.module.parametrizations.weight.original


class Handle:
    """A model in compressed form that trains; made by :func:`sd_tvm.training.attach`.

    Attributes
    ----------
    model
        The torch module.
    recipe, options
        What it was attached with.
    layers
        Name -> :class:`Layer`; those that the recipe skips are left out.
    moved
        Codes that have moved since :func:`attach`.
    """

    def __init__(self, model: Any, recipe: Recipe, options: Options, layers: dict[str, Layer]) -> None:
        self.model, self.recipe, self.options, self.layers = model, recipe, options, layers
        self.moved = 0
        self._steps = 0
        self._epoch = 0
        self._frozen = False

    @property
    def weights(self) -> dict[str, Weight]:
        """Compressed weight of every layer, as the file will hold it but for batch norm in the scales."""
        return {name: layer.form.weight for name, layer in self.layers.items()}

    def rows_at(self, epoch: int) -> int | None:
        """Rows kept of 16 in an epoch; None: what the recipe says."""
        return self.options.rows[epoch] if epoch < len(self.options.rows) else None

    def begin_epoch(self, epoch: int) -> None:
        """Call before epoch ``epoch``, counted from 0: fits bases anew, and prunes on schedule."""
        self._epoch = epoch
        hold = self.options.hold_bases
        held = hold is not None and epoch >= hold and self.rows_at(epoch - 1) == self.rows_at(epoch)
        if epoch == 0 or self._frozen or self.options.mode == "project":
            return
        if not held:
            self._fit()

    def end_epoch(self) -> None:
        """Call after every epoch. In mode ``project`` the float weights become their projection."""
        if self._frozen:
            return
        if self.options.mode == "straight-through":
            self.search()
            return
        self._fit()
        with torch.no_grad():
            for layer in self.layers.values():
                layer.master.copy_(layer.form.rebuilt)

    def step(self, *_ignored: Any) -> None:
        """Call after every step of the optimiser (:meth:`follow` does): searches the codes now and then."""
        self._steps += 1
        if self.options.mode == "straight-through" and self._steps % self.options.every == 0:
            self.search()

    def follow(self, optimizer: Any) -> Any:
        """Call :meth:`step` after every step of a torch optimiser; returns the hook, to ``remove()``."""
        return optimizer.register_step_post_hook(self.step)

    @one_blas_thread
    def search(self) -> int:
        """Search all codes now, bases and scales held; number of codes that moved."""
        if self._frozen:
            return 0
        return self._count(layer.form.search(self._finite(name)) for name, layer in self.layers.items())

    def freeze(self, *, frozen: bool = True) -> None:
        """Stop the codes (or let them go on), so that batch norm and biases settle around fixed weights."""
        self._frozen = frozen

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs beside the model's ``state_dict``, which holds the codes."""
        return {"steps": self._steps, "epoch": self._epoch, "moved": self.moved, "frozen": self._frozen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken."""
        self._steps, self._epoch = int(state["steps"]), int(state["epoch"])
        self.moved, self._frozen = int(state["moved"]), bool(state["frozen"])

    @one_blas_thread
    def _fit(self) -> None:
        rows = self.rows_at(self._epoch)
        self._count(layer.form.fit(self._finite(name), rows) for name, layer in self.layers.items())

    def _count(self, moves: Any) -> int:
        found = sum(moves)
        self.moved += found
        return int(found)

    def _finite(self, name: str) -> Any:
        master = self.layers[name].master
        if not bool(torch.isfinite(master).all()):
            raise NumericsError(
                f"the weight of {name!r} is not finite any more",
                expected="finite weights",
                fix="lower the learning rate",
            )
        return master

    def plain(self) -> Any:
        """A copy in evaluation mode without parametrisations: its weights are the rebuilt ones."""
        model = copy.deepcopy(self.model).eval()
        modules = dict(model.named_modules())
        for name in self.layers:
            _own_class(modules[name])
            parametrize.remove_parametrizations(modules[name], "weight", leave_parametrized=True)
        return model

    def detach(self) -> None:
        """Take the parametrisations off; every weight becomes a plain parameter with the rebuilt values."""
        training = self.model.training
        self.model.eval()
        for layer in self.layers.values():
            parametrize.remove_parametrizations(layer.module, "weight", leave_parametrized=True)
        self.model.train(training)
        self.layers = {}

    def export(
        self,
        example_inputs: Sequence[Any] | Any,
        *,
        calibration: Any = None,
        progress: Progress | None = None,
    ) -> CompressedModel:
        """The compressed model whose codes are exactly the trained ones.

        Batch norm goes into the scales: a filter's codes and bases stay, its scale is multiplied by the
        norm's factor, and where that is negative the codes change sign.

        Parameters
        ----------
        example_inputs, calibration, progress
            As :func:`sd_tvm.compress`; calibration data set the ranges of activations only.

        Raises
        ------
        OptionError
            If a layer still keeps more rows than the recipe says.
        UnsupportedModelError, CalibrationError
            As :func:`sd_tvm.compress`.
        """
        from sd_tvm.compression import compress

        for name, layer in self.layers.items():
            want, weight = layer.form.plan.form, layer.form.weight
            if want is not None and isinstance(weight, SDWeight) and weight.form != want:
                raise OptionError(
                    f"{name!r} keeps {ROWS_KEPT.get(weight.form.pattern, 0)} rows of 16 still",
                    expected=f"{want.pattern}, as the recipe says",
                    fix="train another epoch: begin_epoch after the last entry of Options.rows",
                )
        return compress(
            self.plain(),
            example_inputs,
            recipe=self.recipe,
            calibration=calibration,
            weights=self.weights,
            progress=progress,
        )


@one_blas_thread
def attach(
    model: Any, recipe: Recipe | str | Path, options: Options, example_inputs: Sequence[Any] | Any | None
) -> Handle:
    """See :func:`sd_tvm.training.attach`."""
    if not isinstance(model, torch.nn.Module):
        raise UnsupportedModelError(
            f"a {type(model).__qualname__} is no torch module",
            expected="a torch.nn.Module",
            fix="pass the module",
        )
    chosen = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    modules = _eligible(model, example_inputs)
    infos = [_info(name, module) for name, module in modules.items()]
    plans = chosen.plan(infos)
    wanted = [info for info in infos if plans[info.name].kind != "skip"]
    if not wanted:
        raise RecipeError(
            f"the recipe skips all {len(infos)} layers",
            expected="a rule of kind 'sd' or 'int8' that matches a layer",
            fix="choose another recipe",
        )
    for info in wanted:
        _check(info.name, modules[info.name])
    if options.rows and not any(_prunes(plans[info.name]) for info in wanted):
        raise OptionError(
            f"rows = {options.rows}, and no layer has an N:16 pattern with N < 16",
            expected="a recipe that prunes",
            fix="leave rows out, or choose pattern 8:16, 4:16 or 2:16",
        )
    first = options.rows[0] if options.rows else None
    free = options.mode == "project"
    layers = {}
    for info in wanted:
        module = modules[info.name]
        form = CompressedForm(module.weight, plans[info.name], pull=options.pull, free=free, rows=first)
        form.train(module.training)
        parametrize.register_parametrization(module, "weight", form)
        layers[info.name] = Layer(module, info, form)
    return Handle(model, chosen, options, layers)


def _prunes(plan: LayerPlan) -> bool:
    return plan.form is not None and ROWS_KEPT.get(plan.form.pattern, 16) < 16


def _eligible(model: Any, example_inputs: Sequence[Any] | Any | None) -> dict[str, Any]:
    """Layers with a weight, by name; in the order in which they run if there are example inputs."""
    found = {name: m for name, m in model.named_modules() if isinstance(m, LAYERS)}
    if not found:
        raise UnsupportedModelError(
            f"{type(model).__name__} has no layer to compress",
            expected="a Linear, Conv1d or Conv2d module",
            fix="attach to a model that has one",
        )
    if example_inputs is None:
        return found
    order: list[str] = []
    hooks = [m.register_forward_pre_hook(lambda *_, n=name: order.append(n)) for name, m in found.items()]
    training = [(m, m.training) for m in model.modules()]
    inputs = example_inputs if isinstance(example_inputs, tuple | list) else (example_inputs,)
    try:
        model.eval()
        with torch.no_grad():
            model(*(torch.from_numpy(x) if isinstance(x, np.ndarray) else x for x in inputs))
    finally:
        for m, flag in training:
            m.training = flag
        for hook in hooks:
            hook.remove()
    return {name: found[name] for name in dict.fromkeys([*order, *found])}


def _info(name: str, module: Any) -> LayerInfo:
    shape = tuple(int(n) for n in module.weight.shape)
    if isinstance(module, torch.nn.Linear):
        return LayerInfo(name, "dense", shape)
    groups, m = int(module.groups), shape[0]
    op: Op = "conv1d" if len(shape) == 3 else "conv2d"
    if shape[1] == 1 and groups == m > 1:
        op = "depthwise"
    return LayerInfo(name, op, shape, groups)


def _check(name: str, module: Any) -> None:
    if parametrize.is_parametrized(module, "weight"):
        raise UnsupportedModelError(
            f"the weight of {name!r} is parametrised already",
            expected="a plain weight",
            fix="remove it with torch.nn.utils.parametrize.remove_parametrizations",
        )
    if module.weight.dtype != torch.float32:
        raise UnsupportedDTypeError(
            f"the weight of {name!r} is {module.weight.dtype}", expected="float32", fix="convert the model"
        )
    if not bool(torch.isfinite(module.weight).all()):
        raise NumericsError(
            f"the weight of {name!r} is not finite", expected="finite float32", fix="check the trained model"
        )


def _own_class(module: Any) -> None:
    """Give a copied module its class for itself.

    torch takes the property of a parametrisation off the class, which a copy shares with the original.
    """
    shared = type(module)
    members = {k: v for k, v in vars(shared).items() if k not in ("__dict__", "__weakref__")}
    module.__class__ = type(shared.__name__, shared.__bases__, members)
