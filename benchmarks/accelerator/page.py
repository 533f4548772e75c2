"""``docs/results/accelerator.md``: tables of what :mod:`benchmarks.accelerator.measure` measured."""

from __future__ import annotations

import itertools
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from sd_tvm.accelerator.baselines import ARRAY_BASELINES, WORKLOADS, Resources, Statistics, ratio_band
from sd_tvm.accelerator.baselines.page import table
from sd_tvm.accelerator.baselines.result import RunResult, time_ratio
from sd_tvm.bench.machine import machine
from sd_tvm.report.build import package_versions

from .levers import with_levers
from .measure import BARRED, DENSE, DENSE_AREA, SD_4_16, Run, bound, can_fuse, ratio
from .networks import Network
from .real import Executed
from .text import COMPONENT_NOTE, DATA_NOTE, FORMATS_NOTE, HEAD, LEVER_NOTE, NOTES, VARIANT_NOTE

#: Rows of the component table: heading -> names of the simulator's components.
COMPONENTS: dict[str, tuple[str, ...]] = {
    "DRAM weights": ("dram_weights",),
    "DRAM activations": ("dram_activations",),
    "DRAM instructions": ("dram_instructions",),
    "INP": ("sram_inp",),
    "CODE, BASIS, IDX": ("sram_code", "sram_basis", "sram_idx"),
    "MAC, psum": ("mac", "psum"),
    "FIFO, picker": ("fifo", "picker"),
    "rebuild": ("rebuild",),
    "ACC": ("acc",),
    "OUT": ("sram_out",),
    "ALU, requantise, QP, LUT": ("alu", "requant", "sram_qp", "sram_lut"),
}


@dataclass
class Result:
    """All runs of a network: fused or not -> variant name -> run."""

    network: Network
    kinds: Mapping[str, int]
    runs: dict[bool, dict[str, Run]]

    @property
    def best(self) -> dict[str, Run]:
        """Fused runs where there are any."""
        return self.runs[max(self.runs)]


def page(results: Sequence[Result], executed: Sequence[Executed] = ()) -> str:
    """The page."""
    versions = ", ".join(f"{k} {v}" for k, v in package_versions().items())
    fusion = "Fusion on; the rows without it are said to be so." if can_fuse() else (
        "**This version compiles layer by layer: no fusion; every activation passes through DRAM.**"
    )  # fmt: skip
    parts = [
        HEAD,
        f"{date.today().isoformat()}, {machine()['cpu']}, Python {platform.python_version()}; {versions}.\n",
        fusion + "\n",
        "## Bars\n",
        _bars(results),
        "\n## Networks\n",
        VARIANT_NOTE,
    ]
    for result in results:
        parts += [f"### {result.network.name}\n", _about(result), _variants(result), ""]
    parts += ["## Where the energy goes\n", COMPONENT_NOTE, DATA_NOTE, _components(results)]
    if executed:
        parts += ["\n## With data\n", DATA_NOTE, _executed(executed)]
    parts += ["\n## What would raise the ratios\n", LEVER_NOTE, levers(results)]
    parts += ["\n## Other weight formats on this array\n", FORMATS_NOTE, _formats(results), NOTES]
    return "\n".join(parts)


def _band(values: tuple[float, float, float]) -> str:
    nominal, low, high = values
    return f"{nominal:.2f} [{low:.2f}, {high:.2f}]"


def _microjoule(run: Run) -> str:
    nominal, low, high = (x / 1e9 for x in (run.total_fj, min(run.corners_fj), max(run.corners_fj)))
    return f"{nominal:.0f} [{low:.0f}, {high:.0f}]"


def _verdict(passed: bool) -> str:
    return "pass" if passed else "**miss**"


def _bars(results: Iterable[Result]) -> str:
    rows: list[Sequence[str]] = [
        ("network", "weights", "form", "fusion", "E over dense int8", "bar", "", "time ratio", "bound",
         "bound / E", "bar", "", "E over equal area", "time"),
    ]  # fmt: skip
    for result in results:
        net = result.network
        for fused, variant in itertools.product(sorted(result.runs, reverse=True), BARRED):
            runs = result.runs[fused]
            if variant.name not in runs:
                continue
            dense, sd = runs[DENSE.name], runs[variant.name]
            energy, limit = ratio(dense, sd), bound(dense, sd)
            distance, area = limit / energy[0], runs[DENSE_AREA.name]
            rows.append(
                (
                    net.name,
                    net.weights,
                    variant.name,
                    "on" if fused else "off",
                    _band(energy),
                    "" if net.bar is None else f">= {net.bar:g}",
                    "" if net.bar is None else _verdict(energy[0] >= net.bar),
                    f"{dense.cycles / sd.cycles:.2f}",
                    f"{limit:.2f}",
                    f"{distance:.2f}",
                    "" if net.bound_bar is None else f"<= {net.bound_bar:g}",
                    "" if net.bound_bar is None else _verdict(distance <= net.bound_bar),
                    _band(ratio(area, sd)),
                    f"{area.cycles / sd.cycles:.2f}",
                )
            )
    return table(rows)


def _about(result: Result) -> str:
    n = result.network
    kinds = ", ".join(f"{count} {kind}" for kind, count in result.kinds.items())
    text = (
        f"Weights: {n.weights}; activation ranges from {n.inputs}. Layers with weights at SD 4:16: {kinds}."
    )
    left_out = result.best[DENSE.name].on_cpu
    return text + (f" Left out, on the CPU: {', '.join(left_out)}." if left_out else "") + "\n"


def _variants(result: Result) -> str:
    rows: list[Sequence[str]] = [
        ("variant", "fusion", "energy, uJ", "E ratio", "cycles", "time ratio",
         "DRAM MB: weights / activations", "utilisation", "bound, uJ", "bound ratio", "bound / E"),
    ]  # fmt: skip
    for fused in sorted(result.runs, reverse=True):
        dense = result.runs[fused][DENSE.name]
        for name, run in result.runs[fused].items():
            energy, limit = ratio(dense, run), bound(dense, run)
            rows.append(
                (
                    name,
                    "on" if fused else "off",
                    _microjoule(run),
                    _band(energy),
                    f"{run.cycles:,}",
                    f"{dense.cycles / run.cycles:.2f}",
                    f"{run.dram_bytes('weight') / 1e6:.2f} / {run.dram_bytes('activation') / 1e6:.2f}",
                    f"{100 * run.utilisation:.0f} %",
                    f"{run.bound_fj / 1e9:.0f}",
                    f"{limit:.2f}",
                    f"{limit / energy[0]:.2f}",
                )
            )
    return table(rows)


def _components(results: Iterable[Result]) -> str:
    rows: list[list[str]] = [["network", "variant", "total", *COMPONENTS]]
    for result in results:
        for name in (DENSE.name, SD_4_16.name):
            run = result.best[name]
            seen = {part for parts in COMPONENTS.values() for part in parts}
            lost = {k for k, v in run.energy_fj.items() if v and k not in seen}
            if lost:
                raise RuntimeError(f"components without a column: {sorted(lost)}")
            cells = [sum(run.energy_fj[p] for p in parts) / 1e9 for parts in COMPONENTS.values()]
            rows.append(
                [result.network.name, name, f"{run.total_fj / 1e9:.0f}", *(f"{c:.1f}" for c in cells)]
            )
    return table(rows)


def _executed(runs: Sequence[Executed]) -> str:
    rows: list[Sequence[str]] = [("configuration", "energy, uJ", "of it multiplications, uJ", "cycles")]
    rows += [
        (f"`{r.config}`", f"{r.energy_fj / 1e9:.0f}", f"{r.mac_fj / 1e9:.1f}", f"{r.cycles:,}") for r in runs
    ]
    return table(rows)


def levers(results: Sequence[Result]) -> str:
    """Ratios with one thing changed."""
    columns = [with_levers(r.best[DENSE.name], r.best[SD_4_16.name]) for r in results]
    rows: list[list[str]] = [["change on both sides", *(r.network.name for r in results)]]
    rows.append(["bar", *("" if r.network.bar is None else f">= {r.network.bar:g}" for r in results)])
    rows += [[row[0][0], *(f"{value:.2f}" for _, value in row)] for row in zip(*columns, strict=True)]
    return table(rows)


def _formats(results: Iterable[Result]) -> str:
    at = Resources(schedule="fused" if can_fuse() else "layer")
    rows: list[list[str]] = [["network", *(f.label for f in ARRAY_BASELINES[1:]), "simulated SD 4:16"]]
    for result in results:
        layers = [x for x in WORKLOADS[result.network.workload] if x.kind != "matmul"]
        dense, *others = (b.run(layers, Statistics(), at) for b in ARRAY_BASELINES)
        ours, mine = result.best[DENSE.name], result.best[SD_4_16.name]
        row = [result.network.name, *(_analytic(dense, other) for other in others)]
        rows.append([*row, f"{_band(ratio(ours, mine))} / {ours.cycles / mine.cycles:.2f}"])
    return table(rows)


def _analytic(dense: RunResult, other: RunResult) -> str:
    return f"{_band(ratio_band(dense, other))} / {time_ratio(dense, other):.2f}"
