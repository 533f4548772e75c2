"""Writes ``docs/results/baselines.md``: ``python -m sd_tvm.accelerator.baselines.page PAGE``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sd_tvm.accelerator.baselines.array import ARRAY_BASELINES, OurArray
from sd_tvm.accelerator.baselines.base import Baseline
from sd_tvm.accelerator.baselines.cambricon_x import CambriconX
from sd_tvm.accelerator.baselines.claims import claims
from sd_tvm.accelerator.baselines.diannao import DianNao
from sd_tvm.accelerator.baselines.formats import FORMATS, SD_MASK
from sd_tvm.accelerator.baselines.page_text import (
    BESIDE_NOTE,
    DIFFERENCES,
    EXPLANATION,
    FORMATS_NOTE,
    HEAD,
    OURS_NOTE,
    PAPER_NOTE,
    REACH_DEFAULT_NOTE,
    REACH_NOTE,
    WHO,
)
from sd_tvm.accelerator.baselines.pragmatic import BitPragmatic
from sd_tvm.accelerator.baselines.reach import (
    ENERGY_CLAIM,
    SPEED_CLAIM,
    Case,
    default_cases,
    paper_cases,
)
from sd_tvm.accelerator.baselines.reach import ZERO_VECTORS as ZERO_SHARES
from sd_tvm.accelerator.baselines.resources import Resources
from sd_tvm.accelerator.baselines.result import RunResult, ratio_band, time_ratio
from sd_tvm.accelerator.baselines.scnn import SCNN
from sd_tvm.accelerator.baselines.statistics import Mask, Statistics
from sd_tvm.accelerator.baselines.workloads import WORKLOADS

PUBLISHED: tuple[Baseline, ...] = (DianNao(), SCNN(), CambriconX(), BitPragmatic())
#: Row sparsity remembered for the paper's networks; 0 where it prunes no rows or is not known.
PAPER_SPARSITY = {
    "EfficientNet-Lite0": 0.0,
    "MobileNetV2": 0.0,
    "ResNet-18": 0.5,
    "ResNet-50": 0.45,
    "VGG16-CIFAR": 0.90,
    "VGG19-CIFAR": 0.928,
    "VGG11-ImageNet": 0.86,
}
ZERO_VECTORS = 0.15
Best = tuple[str, str, float, float, float]  # accelerator, network, E, T, T without DRAM limit


def table(rows: Sequence[Sequence[str]]) -> str:
    """Markdown table; the first row is the head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines)


def _energy(over: RunResult, of: RunResult) -> str:
    nominal, low, high = ratio_band(over, of)
    return f"{nominal:.2f} [{low:.2f}, {high:.2f}]"


def _claims() -> str:
    rows = [("claim", "what", "published", "ours", "ours / published", "assumptions", "gap")]
    for c in claims():
        ratio = f"{c.ours / c.published:.2f}"
        rows.append(
            (
                c.accelerator,
                c.quantity,
                _number(c.published, f"{c.published:g}", c.unit),
                _number(c.ours, f"{c.ours:.2f}", c.unit),
                ratio,
                c.assumptions,
                c.gap,
            )
        )
    return table(rows)


def _number(value: float, text: str, unit: str) -> str:
    return f"{text}x" if unit == "x" else f"{value:.0f} {unit}"


def _reach() -> str:
    rows: list[Sequence[str]] = [
        ("DRAM", *(f"speed, {100 * z:.0f} % zero vectors" for z in ZERO_SHARES), "energy", "energy, SB free")
    ]
    for cases in paper_cases():
        bandwidth = f"{cases[0].bandwidth} B/cycle" if cases[0].bandwidth else "not limiting"
        speeds = (f"**{c.speed:.2f}**" if c.speed >= SPEED_CLAIM else f"{c.speed:.2f}" for c in cases)
        rows.append((bandwidth, *speeds, *_energies(cases[1])))
    return table(rows)


def _reach_default() -> str:
    rows: list[Sequence[str]] = [("network", "speed", "energy", "energy, SB free")]
    rows += [(c.network, f"{c.speed:.2f}", *_energies(c)) for c in default_cases()]
    return table(rows)


def _energies(found: Case) -> tuple[str, str]:
    nominal, low, high = found.energy
    text = f"**{nominal:.2f}**" if nominal >= ENERGY_CLAIM else f"{nominal:.2f}"
    return f"{text} [{low:.2f}, {high:.2f}]", f"{found.energy_sb_free:.2f}"


def _formats(schedule: Resources) -> str:
    head = [
        "network",
        "dense int8: uJ, ms",
        *(f"{f.name}: E / T" for f in FORMATS[1:]),
        "SD 4:16 / sparse int4: E",
    ]
    rows = [head]
    for name, layers in WORKLOADS.items():
        dense, *others = (b.run(layers, Statistics(), schedule) for b in ARRAY_BASELINES)
        ms = dense.cycles / schedule.clock_mhz / 1e3
        row = [name, f"{dense.energy_total_fj() / 1e9:.0f}, {ms:.2f}"]
        row += [f"{_energy(dense, r)} / {time_ratio(dense, r):.2f}" for r in others]
        rows.append([*row, _energy(others[2], others[4])])
    return table(rows)


def _over_published(
    ours: Baseline, statistics: dict[str, Statistics], at: Resources
) -> tuple[str, list[Best]]:
    rows: list[list[str]] = [["network", "zero rows", *(f"{b.name}: E / T / T free" for b in PUBLISHED)]]
    best: list[Best] = []
    free = replace(at, dram_bytes_per_cycle=0)
    for name, s in statistics.items():
        layers, row = WORKLOADS[name], [name, f"{100 * s.mask.sparsity:.1f} %"]
        mine, mine_free = ours.run(layers, s, at), ours.run(layers, s, free)
        for b in PUBLISHED:
            other = b.run(layers, s, at)
            t, t_free = time_ratio(other, mine), time_ratio(b.run(layers, s, free), mine_free)
            row.append(f"{_energy(other, mine)} / {t:.2f} / {t_free:.1f}")
            best.append((b.name, name, ratio_band(other, mine)[0], t, t_free))
        rows.append(row)
    return table(rows), best


def _beside(results: list[Best]) -> str:
    rows = [("claim", "published", "over", "ours, best", "network", "condition")]
    published = (("energy", "6.7x"), ("speed", "19.2x"), ("speed", "19.2x"))
    conditions = ("16 B/cycle", "16 B/cycle", "DRAM not limiting")
    for baseline in PUBLISHED:
        mine = [r for r in results if r[0] == baseline.name]
        for i, ((what, claim), condition) in enumerate(zip(published, conditions, strict=True)):
            value, network = max((x[2 + i], x[1]) for x in mine)
            rows.append((what, claim, baseline.name, f"{value:.2f}x", network, condition))
    hardware = "see docs/results/accelerator.md"
    rows.append(("energy, hardware", "2.44x", "dense int8, our array", hardware, "", "compiled programs"))
    return table(rows)


def page() -> str:
    """The page as text. Deterministic: no date, no samples."""
    fused = Resources(schedule="fused")
    layer = replace(fused, schedule="layer")
    ours = {name: Statistics(Mask(0.75, "n16")) for name in WORKLOADS}
    paper = {n: Statistics(Mask(s), zero_vectors=ZERO_VECTORS) for n, s in PAPER_SPARSITY.items()}
    serial = OurArray(SD_MASK, serial=True)
    table_ours, _ = _over_published(ARRAY_BASELINES[-1], ours, layer)
    table_paper, best = _over_published(serial, paper, layer)
    parts = [
        HEAD,
        "## Who gets what\n",
        WHO,
        "## The published models against their own papers\n",
        _claims(),
        "\n## Weight formats on our array\n",
        FORMATS_NOTE,
        _formats(fused),
        "\n## SD 4:16 over the published models\n",
        OURS_NOTE,
        table_ours,
        "\n## The paper's setting\n",
        PAPER_NOTE,
        table_paper,
        "\n## Where 6.7x energy and 19.2x speed appear\n",
        REACH_NOTE,
        _reach(),
        REACH_DEFAULT_NOTE,
        _reach_default(),
        "\n## Papers' claims beside ours\n",
        BESIDE_NOTE,
        _beside(best),
        EXPLANATION,
        DIFFERENCES,
    ]
    return "\n".join(parts)


def main(arguments: Sequence[str]) -> int:
    """Write the page to the path that is named."""
    Path(arguments[0]).write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
