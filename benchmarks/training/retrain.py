"""Retraining in SD form, and the measurement of what comes out."""

from __future__ import annotations

import copy
import json
import re
import sys
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as fn

import sd_tvm
from sd_tvm import training
from sd_tvm.execute import Runner, compile_module

from . import store
from .data import Split, load
from .int4 import nbytes, use_int4
from .loop import accuracy, train
from .recipes import RECIPES

RESULTS = Path(__file__).with_name("results")
CALIBRATION = 200
BATCH = 100
TEMPERATURE = 4.0


@dataclass(frozen=True)
class Course:
    """How a network is retrained: ``epochs`` in one cycle of the rate, ``more`` in a second one."""

    epochs: int = 5
    more: int = 0
    rate: float = 0.01
    rows: tuple[int, ...] = ()
    every: int = 1
    mode: training.options.Mode = "straight-through"

    @property
    def options(self) -> training.Options:
        """Options of the parametrisations; bases are held in the last third."""
        return training.Options(
            mode=self.mode,
            every=self.every,
            rows=self.rows,
            hold_bases=self.epochs - max(1, self.epochs // 3),
        )


def distilling_loss(teacher: nn.Module) -> Any:
    """Half cross-entropy, half divergence from the float32 network's soft answers (Hinton et al. 2015)."""

    def loss(logits: torch.Tensor, labels: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            wanted = teacher(images).float()
        t = TEMPERATURE
        soft = fn.kl_div(
            fn.log_softmax(logits / t, 1),
            fn.log_softmax(wanted / t, 1),
            log_target=True,
            reduction="batchmean",
        )
        return 0.5 * fn.cross_entropy(logits, labels) + 0.5 * t * t * soft

    return loss


def retrain(
    name: str,
    recipe: str,
    seed: int,
    course: Course,
    *,
    folder: Path,
    out: Path,
    checkpoint: Path | None,
    int4: bool = False,
    baseline: int = 0,
    usual: int = Course.epochs,
) -> dict[str, Any]:
    """Retrain a baseline, write ``out/NAME-RECIPE-seedS.sd``, measure it; what was measured.

    ``seed`` is that of the retraining (batches, images of the ranges), ``baseline`` that of the stored
    float32 network it starts from. With ``int4``, the layers in SD form are int4 with the same rows instead
    (:mod:`.int4`). The result is called after the recipe, and after its epochs if they are not the ``usual``.
    """
    torch.manual_seed(seed)
    start = time.process_time()
    teacher = store.baseline(name, baseline, folder)
    model = copy.deepcopy(teacher)
    example = torch.zeros(1, 1, 28, 28)
    handle = training.attach(model, RECIPES[name][recipe], course.options, example_inputs=example)
    if int4:
        use_int4(handle)
    data, test = load("train"), load("t10k")
    loss = distilling_loss(teacher)
    cycles = [(course.epochs, seed + 1000, 0, checkpoint)]
    if course.more:
        more = None if checkpoint is None else checkpoint.with_suffix(".more")
        cycles.append((course.more, seed + 2000, course.epochs, more))
    for epochs, cycle_seed, first, file in cycles:
        train(
            model,
            data,
            epochs=epochs,
            rate=course.rate,
            seed=cycle_seed,
            loss=loss,
            handle=handle,
            checkpoint=file,
            first=first,
        )
    spent = time.process_time() - start
    picked = torch.randperm(len(data.labels), generator=torch.Generator().manual_seed(seed))[:CALIBRATION]
    calibration = Split(data.images[picked], data.labels[picked]).normalized().numpy()
    label = f"int4 {recipe}" if int4 else recipe
    if course.more:
        label += f", {course.epochs} + {course.more} epochs"
    elif course.epochs != usual:
        label += f", {course.epochs} epochs"
    path = out / f"{_stem(name, label, seed)}.sd"
    out.mkdir(parents=True, exist_ok=True)
    compressed = handle.export((torch.zeros(BATCH, 1, 28, 28),), calibration=calibration)
    size = compressed.save(path)
    read = sd_tvm.load(path)
    row = {
        "network": name,
        "recipe": label,
        "seed": seed,
        "baseline_seed": baseline,
        "epochs": course.epochs,
        "more": course.more,
        "rate": course.rate,
        "rows": list(course.rows),
        "mode": course.mode,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "cpu_seconds": round(spent),
        "codes_moved": handle.moved,
        "baseline": accuracy(teacher, test),
        "float_activations": accuracy(handle.plain(), test),
        "weights": sum(int(np.prod(w.shape)) for w in read.weights.values()),
        "file_bytes": size,
        "notes": list(compressed.notes),
        **sizes(read),
        "exact": exact(handle, read),
    }
    if int4:
        row["weights_by_form"] = {"int4, rows kept as in SD form": row["weights"]}
        row["file_bytes"] = row["packed_bytes"] = nbytes(handle) + row["bias_bytes"]
    row["integer"] = integer_accuracy(read, test)
    return row


def _stem(name: str, label: str, seed: int) -> str:
    words = re.sub(r"[^\w-]+", "-", label.replace(":", "of"))
    return f"{name}-{words}-seed{seed}"


def sizes(model: sd_tvm.CompressedModel) -> dict[str, Any]:
    """Bytes of weights in use (DRAM), biases; layers by kind and pattern."""
    from sd_tvm.weights.packing import packed_nbytes
    from sd_tvm.weights.tensor import SDWeight

    packed, kinds = 0, dict[str, int]()
    for weight in model.weights.values():
        form = weight.form if isinstance(weight, SDWeight) else None
        n = weight.basis.shape[0] if isinstance(weight, SDWeight) else 0
        packed += packed_nbytes(weight.shape, form, n)
        kind = f"{form.pattern} {form.alphabet}" if form is not None else "int8"
        kinds[kind] = kinds.get(kind, 0) + int(np.prod(weight.shape))
    biases = sum(t.nbytes for t in model.stored.tensors.values())
    return {"packed_bytes": packed + biases, "bias_bytes": biases, "weights_by_form": kinds}


def exact(handle: training.handle.Handle, model: sd_tvm.CompressedModel) -> bool:
    """Whether the file's integers are those that trained, but for the signs of negative batch norms."""
    for name, weight in handle.weights.items():
        mine, stored = weight.integer(), model.weights[name].integer()
        same = (mine == stored).all(axis=(1, 2, 3)) | (mine == -stored).all(axis=(1, 2, 3))
        if not same.all():
            print(f"{name}: {int((~same).sum())} filters differ", file=sys.stderr)
            return False
    return True


def integer_accuracy(model: sd_tvm.CompressedModel, test: Split) -> float:
    """Part of the test images that integer layers and 8-bit activations answer right, on the CPU."""
    runner = Runner(compile_module(model, "llvm").executable)
    images = test.normalized().numpy()
    right = 0
    for start in range(0, len(images), BATCH):
        logits = runner(images[start : start + BATCH])[0]
        right += int((logits.argmax(axis=1) == test.labels[start : start + BATCH].numpy()).sum())
    return right / len(images)


def write(row: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Keep a result for the table."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{_stem(row['network'], row['recipe'], row['seed'])}.json"
    path.write_text(json.dumps(row, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return path
