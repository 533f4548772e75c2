"""``sd-tvm explore``: a model on every configuration of a design space."""

from __future__ import annotations

import os
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sd_tvm.cli import console

if TYPE_CHECKING:
    from rich.table import Table

    from sd_tvm.explore import Exploration


def explore(
    model: Annotated[str, typer.Argument(help="A .sd file, or whatever `compress` accepts.")],
    space: Annotated[Path, typer.Option("--space", "-s", help="YAML: base configuration, values by key.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write explore.json and explore.html into this folder."),
    ] = None,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=0, help="Processes; 0: one a processor, 1: this one.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Sweep a design space: cycles, energy and an area estimate of each configuration, and the Pareto front.

    The model is compiled once, for the base with the smallest memories of the space, and timed everywhere.
    """
    from sd_tvm.explore import Space, exploration_to_json, write_exploration
    from sd_tvm.explore import explore as explore_space

    chosen = Space.load(space)
    with console.progress() as progress, _executor(jobs) as executor:
        found = explore_space(model, chosen, executor=executor, progress=progress)
    page = None if output is None else write_exploration(found, output)
    if as_json:
        typer.echo(exploration_to_json(found), nl=False)
        return
    out = console.out()
    out.print(_front(found))
    out.print(
        f"{len(found.front)} of {len(found.points)} configurations are on the front; "
        f"{len(found.refused)} candidates refused"
    )
    for note in found.notes:
        out.print(note, markup=False)
    if page is not None:
        out.print(f"report: {page}")


def _executor(jobs: int) -> ProcessPoolExecutor | nullcontext[Executor | None]:
    from multiprocessing import get_context

    workers = jobs or os.cpu_count() or 1
    # Not forked: the compiler has threads of its own.
    return (
        nullcontext(None) if workers == 1 else ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    )


def _front(found: Exploration) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from sd_tvm.report import units

    table = Table(title=f"Pareto front: {found.title}", box=SIMPLE_HEAD, pad_edge=False)
    for name in ("#", *found.space.values, "cycles", "time", "energy", "area (est.), GE"):
        table.add_column(name, justify="right")
    for point in found.front:
        table.add_row(
            str(point.index),
            *map(str, point.values.values()),
            f"{point.cycles:,}",
            units.seconds(point.time_ps * 1e-12),
            units.energy(point.energy_fj),
            units.count(point.area_total_ge),
        )
    return table
