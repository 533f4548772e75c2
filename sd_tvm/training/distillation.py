"""Distillation on inputs without labels, block by block and end to end. Imports torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.nn import functional as fn

from sd_tvm.errors import OptionError
from sd_tvm.training.handle import Handle


@dataclass(frozen=True)
class Plan:
    """What :func:`sd_tvm.training.distill` was asked for."""

    blocks: tuple[str, ...]
    epochs: int
    block_epochs: int
    batch: int
    rate: float
    temperature: float
    feature_weight: float
    seed: int

    def check(self, student: Any, teacher: Any, inputs: Any, handle: Handle) -> None:
        """Refuse what makes no sense.

        Raises
        ------
        OptionError
        """
        counts = {"epochs": self.epochs, "block_epochs": self.block_epochs}
        for name, value in counts.items():
            if value < 0:
                raise OptionError(f"{name} = {value}", expected="at least 0", fix="correct it")
        if self.batch < 1:
            raise OptionError(f"batch = {self.batch}", expected="at least 1", fix="correct it")
        for name, number in (("rate", self.rate), ("temperature", self.temperature)):
            if not math.isfinite(number) or number <= 0:
                raise OptionError(f"{name} = {number}", expected="a positive number", fix="correct it")
        if not math.isfinite(self.feature_weight) or self.feature_weight < 0:
            raise OptionError(
                f"feature_weight = {self.feature_weight}", expected="at least 0", fix="correct it"
            )
        if len(inputs) == 0:
            raise OptionError("no inputs", expected="examples along the first axis", fix="pass some")
        if handle.model is not student:
            raise OptionError(
                "a handle of another model",
                expected="the student's",
                fix="attach to the student, pass its handle",
            )
        for block in self.blocks:
            for who, model in (("student", student), ("teacher", teacher)):
                if block not in dict(model.named_modules()):
                    raise OptionError(
                        f"the {who} has no block {block!r}",
                        expected=f"a submodule, such as {[n for n, _ in model.named_children()][:8]}",
                        fix="correct the name",
                    )
            if not any(p.requires_grad for p in dict(student.named_modules())[block].parameters()):
                raise OptionError(
                    f"the block {block!r} has no parameters",
                    expected="a submodule that can learn to give its output",
                    fix="name the module that holds the layers before it",
                )


@dataclass
class Distilled:
    """What happened.

    Attributes
    ----------
    block_losses
        Block -> mean loss of each epoch: squared error over the variance of the teacher's output.
    losses
        Mean loss of each epoch end to end.
    moved
        Codes that moved, all searches together.
    """

    block_losses: dict[str, list[float]] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    moved: int = 0


class _Reached(Exception):  # noqa: N818  # not an error: the rest of the forward is not needed
    pass


def run(student: Any, teacher: Any, inputs: Any, handle: Handle, plan: Plan) -> Distilled:
    """See :func:`sd_tvm.training.distill`."""
    data = torch.from_numpy(inputs) if isinstance(inputs, np.ndarray) else inputs
    plan.check(student, teacher, data, handle)
    generator = torch.Generator().manual_seed(plan.seed)
    modes = [(m, m.training) for model in (student, teacher) for m in model.modules()]
    student.eval()
    teacher.eval()
    result, before = Distilled(), handle.moved
    try:
        for block in plan.blocks:
            losses = result.block_losses.setdefault(block, [])
            module = dict(student.named_modules())[block]
            with _training(module.parameters(), handle, plan) as update:
                for _ in range(plan.block_epochs):
                    losses.append(
                        _block_epoch(student, teacher, block, _batches(data, plan, generator), update)
                    )
        with _training(student.parameters(), handle, plan) as update:
            for _ in range(plan.epochs):
                batches = _batches(data, plan, generator)
                result.losses.append(_epoch(student, teacher, batches, update, plan))
        handle.search()
    finally:
        for m, flag in modes:
            m.training = flag
    result.moved = handle.moved - before
    return result


def _batches(data: Any, plan: Plan, generator: Any) -> Iterator[Any]:
    order = torch.randperm(len(data), generator=generator)
    for start in range(0, len(data), plan.batch):
        yield data[order[start : start + plan.batch]]


@contextmanager
def _training(parameters: Iterable[Any], handle: Handle, plan: Plan) -> Iterator[Any]:
    """A function that takes a loss and makes a step for these parameters alone."""
    chosen = [p for p in parameters if p.requires_grad]
    optimizer = torch.optim.Adam(chosen, plan.rate)
    hook = handle.follow(optimizer)

    def update(loss: Any) -> float:
        optimizer.zero_grad(set_to_none=True)
        gradients = torch.autograd.grad(loss, chosen, allow_unused=True)
        for parameter, gradient in zip(chosen, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        return float(loss.detach())

    try:
        yield update
    finally:
        hook.remove()
        optimizer.zero_grad(set_to_none=True)


@contextmanager
def _outputs(model: Any, names: Iterable[str], *, stop: bool = False) -> Iterator[dict[str, Any]]:
    """Outputs of submodules in the last forward; with ``stop``, the forward ends at the first of them."""
    found: dict[str, Any] = {}

    def keep(name: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            found[name] = output
            if stop:
                raise _Reached

        return hook

    modules = dict(model.named_modules())
    hooks = [modules[name].register_forward_hook(keep(name)) for name in names]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _until(model: Any, block: str, batch: Any) -> Any:
    with _outputs(model, [block], stop=True) as found:
        try:
            model(batch)
        except _Reached:
            return found[block]
    raise OptionError(f"the forward does not run {block!r}", expected="a block that runs", fix="drop it")


def _block_epoch(student: Any, teacher: Any, block: str, batches: Iterator[Any], update: Any) -> float:
    total = count = 0.0
    for batch in batches:
        with torch.no_grad():
            wanted = _until(teacher, block, batch)
        total += update(_relative(_until(student, block, batch), wanted)) * len(batch)
        count += len(batch)
    return total / count


def _epoch(student: Any, teacher: Any, batches: Iterator[Any], update: Any, plan: Plan) -> float:
    total = count = 0.0
    blocks = plan.blocks if plan.feature_weight else ()
    t = plan.temperature
    with _outputs(student, blocks) as ours, _outputs(teacher, blocks) as theirs:
        for batch in batches:
            with torch.no_grad():
                wanted = teacher(batch)
            found = student(batch)
            loss = (
                t
                * t
                * fn.kl_div(
                    fn.log_softmax(found / t, -1),
                    fn.log_softmax(wanted / t, -1),
                    log_target=True,
                    reduction="batchmean",
                )
            )
            for block in blocks:
                loss = loss + plan.feature_weight / len(blocks) * _relative(ours[block], theirs[block])
            total += update(loss) * len(batch)
            count += len(batch)
    return total / count


def _relative(found: Any, wanted: Any) -> Any:
    """Mean squared error over the variance of what is wanted."""
    wanted = wanted.detach()
    return fn.mse_loss(found, wanted) / (wanted.var(correction=0) + 1e-12)
