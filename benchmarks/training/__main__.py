"""Train, retrain, and write the page."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from . import retrain, store
from .data import load
from .loop import accuracy, train
from .networks import NETWORKS
from .page import PAGE, page
from .retrain import Course

EPOCHS = {"resnet20": 14, "mobilenetv2-s": 8, "vgg-s": 6}
RATE = {"resnet20": 0.1, "mobilenetv2-s": 0.1, "vgg-s": 0.05}

COURSES = {
    "resnet20": Course(),
    "mobilenetv2-s": Course(epochs=6),
    "vgg-s": Course(rows=(4,)),
}


def _train(options: argparse.Namespace) -> None:
    torch.manual_seed(options.seed)
    epochs = options.epochs or EPOCHS[options.name]
    model = NETWORKS[options.name]()
    train(
        model,
        load("train"),
        epochs=epochs,
        rate=RATE[options.name],
        seed=options.seed,
        checkpoint=options.checkpoint,
    )
    path = store.path_of(options.name, options.seed, options.folder)
    facts = {"epochs": epochs, "seed": options.seed, "torch": torch.__version__}
    store.save(model, path, facts)
    right = accuracy(store.baseline(options.name, options.seed, options.folder), load("t10k"))
    store.save(model, path, {**facts, "accuracy": right})
    print(f"{options.name}, seed {options.seed}: {right:.2%} of the test images, {path.stat().st_size} bytes")


def _retrain(options: argparse.Namespace) -> None:
    course = COURSES[options.name]
    given = {k: getattr(options, k) for k in ("epochs", "more", "rate")}
    changes = {k: v for k, v in given.items() if v is not None}
    row = retrain.retrain(
        options.name,
        options.recipe,
        options.seed,
        replace(course, **changes),
        folder=options.folder,
        out=options.out,
        checkpoint=options.checkpoint,
        int4=options.int4,
        baseline=options.baseline,
        usual=course.epochs,
    )
    print(json.dumps(row), retrain.write(row))


def _table(_options: argparse.Namespace) -> None:
    PAGE.write_text(page(), encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    """Run one command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    commands = parser.add_subparsers(required=True)
    sub = commands.add_parser("train", help="a float32 baseline")
    sub.add_argument("name", choices=NETWORKS)
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--epochs", type=int)
    sub.add_argument("--checkpoint", type=Path, help="file to write every epoch, and to go on from")
    sub.add_argument("--folder", type=Path, default=store.FOLDER)
    sub.set_defaults(run=_train)
    sub = commands.add_parser("retrain", help="a baseline in SD form")
    sub.add_argument("name", choices=NETWORKS)
    sub.add_argument("--int4", action="store_true", help="int4 without a basis, the same rows kept")
    sub.add_argument("--recipe", default="4:16", help="of recipes.py")
    sub.add_argument("--seed", type=int, default=0, help="of the retraining")
    sub.add_argument("--baseline", type=int, default=0, help="seed of the baseline")
    sub.add_argument("--epochs", type=int)
    sub.add_argument("--more", type=int, help="epochs of a second cycle of the rate")
    sub.add_argument("--rate", type=float)
    sub.add_argument("--checkpoint", type=Path, help="file to write every epoch, and to go on from")
    sub.add_argument("--folder", type=Path, default=store.FOLDER, help="of the baselines")
    sub.add_argument("--out", type=Path, default=Path("build/training"), help="of the .sd files")
    sub.set_defaults(run=_retrain)
    sub = commands.add_parser("table", help="write docs/results/training.md")
    sub.set_defaults(run=_table)
    options = parser.parse_args(arguments)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    options.run(options)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
