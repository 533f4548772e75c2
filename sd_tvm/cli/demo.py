"""``sd-tvm demo``: EfficientNet-Lite0, from its ImageNet weights to cycles and energy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sd_tvm.cli import console


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the .sd file, library and report.")] = Path(
        "demo-out"
    ),
    config: Annotated[
        str | None, typer.Option("--config", "-c", help="Name of a configuration, or a YAML file.")
    ] = None,
    images: Annotated[
        int, typer.Option(help="How many of the 20 labelled images to run.", min=1, max=20)
    ] = 20,
) -> None:
    """Take EfficientNet-Lite0 through the whole path and write the report."""
    from sd_tvm.demo import run_demo
    from sd_tvm.report.text import layer_tables, metric_table

    with console.progress() as progress:
        result = run_demo(out, config=config, n_images=images, progress=progress)
    screen = console.out()
    screen.print(*layer_tables(result.report, screen.width))
    if result.report.rejected:
        for row in result.report.rejected:
            screen.print(f"on the CPU: {row.node} ({row.op}): {row.reason}")
    screen.print(metric_table(result.report))
    screen.print(f"report: {result.html} and {result.json}")
