"""Rows of the tables: what is measured, in which order, kept on disk."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sd_tvm.recipe import Recipe

from . import images, minilm, recipes
from .answers import compare, integer_logits
from .batches import BatchRunner
from .fits import Fitted, Network

Row = dict[str, Any]
#: Images on which the batched evaluation is checked against the compiled integers, first repeat only.
CHECKED = 40


@dataclass(frozen=True)
class Variant:
    """A row of a network: SD form by a recipe, or a peer.

    Attributes
    ----------
    name, family
        For the tables; family ``SD``, ``int4``, ``sparse int4``, ``int8``.
    sd
        Recipe of an SD row.
    size
        Or the size budget, a ratio of plain files, that finds one.
    forms, like
        A peer's forms from the densest on, and the SD row whose bytes it may take. Without forms: that row's
        recipe, ridge and damping by cross-validation.
    repeats
        Repeats that are measured at most.
    """

    name: str
    family: str
    sd: Callable[[], Recipe] | None = None
    size: float | None = None
    forms: tuple[Any, ...] = ()
    like: str = ""
    repeats: int = 3


R = recipes
SEVEN, TEN = "SD, budget 7.1x", "SD, budget 9.7x, entropy coded"
EFFICIENTNET = (
    Variant(SEVEN, "SD", size=7.1),
    Variant(TEN, "SD", size=9.7),
    Variant("int4, bytes of SD 7.1x", "int4", forms=R.WIDE, like=SEVEN),
    Variant("int4 to int2, bytes of SD 9.7x", "int4", forms=R.NARROW, like=TEN),
    Variant("SD, budget 10.56x", "SD", size=10.56, repeats=1),
    Variant("int8", "int8", lambda: Recipe.named("int8"), repeats=1),
    Variant(
        "sparse int4 and int8, bytes of SD 7.1x",
        "sparse int4",
        forms=(R.INT8, R.SPARSE),
        like=SEVEN,
        repeats=1,
    ),
    Variant(
        "sparse int4 and int4, bytes of SD 9.7x",
        "sparse int4",
        forms=(R.INT8, R.INT4, R.SPARSE),
        like=TEN,
        repeats=1,
    ),
    Variant("int4 to int2, bytes of SD 10.56x", "int4", forms=R.NARROW, like="SD, budget 10.56x", repeats=1),
    Variant("SD, budget 5.5x", "SD", size=5.5, repeats=1),
    Variant("int8 and int4, bytes of SD 5.5x", "int4", forms=R.WIDE, like="SD, budget 5.5x", repeats=1),
    Variant("SD, preset sd-small8", "SD", lambda: Recipe.named("sd-small8"), repeats=1),
    Variant("SD, budget 9.7x, ridge and damping auto", "SD", like=TEN, repeats=1),
)
MINILM = (
    Variant("SD, 7x", "SD", R.minilm_7x),
    Variant("int4 and int8, bytes of SD 7x", "int4", forms=R.WIDE, like="SD, 7x"),
    Variant("SD, 10.56x", "SD", R.minilm_10x),
    Variant("int3 and int2, bytes of SD 10.56x", "int4", forms=(R.INT4, R.INT3, R.INT2), like="SD, 10.56x"),
    Variant(
        "sparse int4 and int4, bytes of SD 10.56x", "sparse int4", forms=(R.INT4, R.SPARSE), like="SD, 10.56x"
    ),
)
NETWORKS = {"EfficientNet-Lite0": EFFICIENTNET, "MiniLM-L6": MINILM}
#: Calibration texts of MiniLM.
TEXTS = 100


class Store:
    """Rows in a JSON file, written after each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Row] = json.loads(path.read_text()) if path.is_file() else []

    def find(self, seed: int, variant: str) -> Row | None:
        """The row, if it was measured."""
        return next((r for r in self.rows if (r["seed"], r["variant"]) == (seed, variant)), None)

    def add(self, row: Row) -> None:
        """Keep a row."""
        self.rows.append(row)
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.rows, indent=1) + "\n", encoding="utf-8")
        part.replace(self.path)


def run(network: str, seed: int, store: Store, folder: Path, *, once: bool) -> None:
    """Measure what is missing of one repeat: of the rows that have one repeat alone, or of the others."""
    wanted = [v for v in NETWORKS[network] if seed < v.repeats and (v.repeats == 1) == once]
    missing = [v for v in wanted if store.find(seed, v.name) is None]
    if not missing:
        return
    measured = _efficientnet(folder, seed, store) if network == "EfficientNet-Lite0" else _minilm(seed, store)
    for variant in missing:
        start = time.process_time()
        row = {"network": network, "seed": seed, "variant": variant.name, "family": variant.family}
        row |= measured(variant)
        row["cpu_seconds"] = round(time.process_time() - start)
        store.add(row)
        print(json.dumps(row), file=sys.stderr, flush=True)


def _fit(network: Network, variant: Variant, find: Callable[[str], Row | None]) -> Fitted:
    if variant.size is not None:
        return network.budget(variant.size)
    if variant.sd is not None:
        return network.sd(variant.sd())
    like = find(variant.like)
    if like is None:
        raise ValueError(f"{variant.name!r} stands before {variant.like!r}")
    recipe = Recipe.from_dict(like["recipe"])
    if not variant.forms:
        return network.sd(R.cross_validated(recipe))
    return network.integers(network.peer(variant.forms, like["weight_bytes"], recipe))


def _sizes(fitted: Fitted) -> Row:
    return {
        "file": fitted.file,
        "file_entropy": fitted.file_entropy,
        "ratio": fitted.ratio,
        "ratio_entropy": fitted.model.fp32_bytes / fitted.file_entropy,
        "weight_bytes": fitted.weight_bytes,
        "weight_ratio": fitted.fp32_weight_bytes / fitted.weight_bytes,
        "recipe": None if fitted.model.recipe is None else fitted.model.recipe.to_dict(),
    }


def _efficientnet(folder: Path, seed: int, store: Store) -> Callable[[Variant], Row]:
    samples, foolbox = images.load(folder, store.path.parent)
    part = images.split(seed, samples, foolbox)
    network = Network(
        images.MODEL, None, part.calibration, store.path.with_name(f"sensitivity-seed{seed}.json")
    )

    def measured(variant: Variant) -> Row:
        fitted = _fit(network, variant, lambda name: store.find(seed, name))
        runner = BatchRunner(fitted.model)
        found = runner(part.samples.images)
        row = _sizes(fitted) | {"calibration": len(part.calibration)}
        row["samples"] = compare(part.samples.logits, found, part.samples.labels)
        row["foolbox"] = compare(part.foolbox.logits, runner(part.foolbox.images), part.foolbox.labels)
        if seed == 0 and variant is EFFICIENTNET[0]:
            compiled = integer_logits(fitted.model, part.samples.images[:CHECKED])
            same = compiled.argmax(axis=1) == found[:CHECKED].argmax(axis=1)
            row["same_as_compiled"] = [int(same.sum()), CHECKED]
        return row

    return measured


def _minilm(seed: int, store: Store) -> Callable[[Variant], Row]:
    import torch

    data = minilm.calibration(seed, TEXTS)
    network = Network(minilm.encoder(), (torch.from_numpy(data[:1]),), data)
    reference = minilm.evaluate(minilm.encoder())

    def measured(variant: Variant) -> Row:
        fitted = _fit(network, variant, lambda name: store.find(seed, name))
        scores = minilm.evaluate(minilm.with_model(fitted.model))
        row = _sizes(fitted) | {"calibration": len(data), "tokens": minilm.TOKENS}
        row |= {"spearman": scores.wordsim_spearman, "pearson": scores.lee_pearson}
        row |= {"spearman_float": reference.wordsim_spearman, "pearson_float": reference.lee_pearson}
        return row

    return measured


def spread(rows: list[Row], value: Callable[[Row], float]) -> str:
    """Mean and, of several repeats, [least, largest]."""
    values = [value(row) for row in rows]
    digits = 3 if max(map(abs, values)) < 2 else 1
    mean = f"{float(np.mean(values)):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} [{min(values):.{digits}f}, {max(values):.{digits}f}]"


def by_variant(rows: list[Row], network: str) -> Iterator[tuple[Variant, list[Row]]]:
    """Rows of each variant that was measured, in the table's order."""
    for variant in NETWORKS[network]:
        found = [r for r in rows if r["network"] == network and r["variant"] == variant.name]
        if found:
            yield variant, sorted(found, key=lambda r: int(r["seed"]))
