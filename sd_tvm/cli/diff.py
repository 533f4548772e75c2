"""``sd-tvm diff``: what changed between two reports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sd_tvm.cli import console


def diff(
    before: Annotated[Path, typer.Argument(help="A report.json of `profile` or `demo`.")],
    after: Annotated[Path, typer.Argument(help="Another one.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Compare two reports: totals, layers, configuration. A ratio is after over before."""
    from sd_tvm.report import diff as report_diff
    from sd_tvm.report import read_json

    found = report_diff.diff_reports(read_json(before), read_json(after))
    if as_json:
        typer.echo(report_diff.diff_to_json(found), nl=False)
        return
    out = console.out()
    out.print(report_diff.total_table(found))
    changed = sum(layer.changed for layer in found.layers)
    if changed:
        out.print(report_diff.layer_table(found))
    out.print(f"{changed} of {len(found.layers)} common layers changed")
    for path, names in ((before, found.only_before), (after, found.only_after)):
        if names:
            out.print(f"only in {path}: {', '.join(names)}", markup=False)
    if found.config:
        out.print(report_diff.config_table(found))
