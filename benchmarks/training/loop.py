"""One training loop for all: bfloat16 convolutions, SGD with Nesterov momentum, one-cycle learning rate."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as fn

from sd_tvm.training.handle import Handle

from .data import Split, batches, normalize

BATCH = 128
MOMENTUM, DECAY = 0.9, 5e-4


def train(
    model: nn.Module,
    data: Split,
    *,
    epochs: int,
    rate: float,
    seed: int,
    parameters: Iterable[dict[str, object]] | None = None,
    loss: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
    warmup: float = 0.2,
    handle: Handle | None = None,
    checkpoint: Path | None = None,
    first: int = 0,
) -> None:
    """Train in place; goes on where ``checkpoint`` was left, if that file exists, and writes it every epoch.

    ``loss`` gets (logits, labels, images); cross-entropy by default. ``parameters`` are the optimiser's
    groups (default: :func:`groups_of`), ``handle`` is that of a model in SD form,
    ``first`` the number of its first epoch.
    """
    generator = torch.Generator().manual_seed(seed)
    model.train().to(memory_format=torch.channels_last)
    groups = parameters or groups_of(model)
    optimizer = torch.optim.SGD(groups, rate, MOMENTUM, nesterov=True)
    steps = epochs * (len(data.labels) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, steps, pct_start=warmup, cycle_momentum=False
    )
    hooks = [hook for module in model.modules() for hook in _in_float32(module)]
    measure = loss or (lambda logits, labels, _images: fn.cross_entropy(logits, labels))
    state: dict[str, Any] = {"model": model, "optimizer": optimizer, "schedule": schedule}
    state |= {} if handle is None else {"handle": handle}
    done = _restore(checkpoint, state, generator)
    follow = handle.follow(optimizer) if handle is not None else None
    hooks += [follow] if follow is not None else []
    for epoch in range(done, epochs):
        if handle is not None:
            handle.begin_epoch(first + epoch)
        start, total, right = time.process_time(), 0.0, 0
        for images, labels in batches(data, BATCH, generator):
            images = images.contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(images)
            logits = logits.float()
            value = measure(logits, labels, images)
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
            schedule.step()
            total += float(value.detach()) * len(labels)
            right += int((logits.argmax(1) == labels).sum())
        n = len(data.labels)
        spent = time.process_time() - start
        print(
            f"epoch {epoch + 1}/{epochs}: loss {total / n:.4f}, right {right / n:.2%}, {spent:.0f} s of CPU",
            file=sys.stderr,
            flush=True,
        )
        if handle is not None:
            handle.end_epoch()
            print(f"{handle.moved} codes have moved", file=sys.stderr, flush=True)
        if checkpoint is not None:
            _write(checkpoint, state, generator, epoch + 1)
    for hook in hooks:
        hook.remove()


def _write(path: Path, state: dict[str, Any], generator: torch.Generator, done: int) -> None:
    content = {name: part.state_dict() for name, part in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({**content, "generator": generator.get_state(), "done": done}, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)  # killed in between, the old one stays whole


def _restore(path: Path | None, state: dict[str, Any], generator: torch.Generator) -> int:
    if path is None or not path.is_file():
        return 0
    content = torch.load(path, weights_only=True)
    for name, part in state.items():
        part.load_state_dict(content[name])
    generator.set_state(content["generator"])
    return int(content["done"])


def _in_float32(module: nn.Module) -> list[Any]:
    """Hooks for strided depthwise convolutions in float32: in bfloat16 the gradient takes 19 times longer."""
    if not isinstance(module, nn.Conv2d) or module.groups == 1 or module.stride == (1, 1):
        return []

    def before(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        torch.set_autocast_enabled("cpu", False)
        return tuple(x.float() for x in inputs)

    def after(_module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        torch.set_autocast_enabled("cpu", True)
        return output.bfloat16()

    return [module.register_forward_pre_hook(before), module.register_forward_hook(after)]


def groups_of(model: nn.Module, decay: float = DECAY) -> list[dict[str, object]]:
    """Parameters in two groups: weights with decay; biases and batch norm without."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


@torch.no_grad()
def accuracy(model: nn.Module, data: Split, *, batch: int = 500) -> float:
    """Part of the images that are answered right, in float32 and evaluation mode."""
    model.eval()
    right = 0
    for start in range(0, len(data.labels), batch):
        images = normalize(data.images[start : start + batch]).contiguous(memory_format=torch.channels_last)
        right += int((model(images).argmax(1) == data.labels[start : start + batch]).sum())
    return right / len(data.labels)
