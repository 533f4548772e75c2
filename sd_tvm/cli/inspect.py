"""``sd-tvm inspect``: what a ``.sd`` file holds, layer by layer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sd_tvm.cli import console

if TYPE_CHECKING:
    from rich.table import Table

    from sd_tvm.format import Summary


def inspect(
    file: Annotated[Path, typer.Argument(help="A .sd file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Verify a .sd file; show its layers, their form and their bytes, in the file and in use (DRAM)."""
    from sd_tvm import format as sd_format

    summary = sd_format.inspect(file)
    if as_json:
        typer.echo(json.dumps(summary.to_dict(), indent=1))
        return
    out = console.out()
    out.print(_layers(summary, file.name))
    out.print(
        f"{summary.file_bytes:,} bytes: {sum(x.nbytes for x in summary.layers):,} weights "
        f"({summary.used_nbytes:,} in use), "
        f"{summary.tensor_bytes:,} float32 tensors, {summary.header_bytes:,} header; "
        f"float32 takes {summary.fp32_bytes:,} ({summary.ratio:.2f}x)"
    )
    made_by = ", ".join(f"{name} {version}" for name, version in summary.versions.items())
    by = f", made by {made_by}" if made_by else ""
    out.print(f"schema {summary.schema_version}, storage {summary.storage}{by}")


def _layers(summary: Summary, title: str) -> Table:
    from rich.table import Table

    table = Table(title=title)
    for name in ("layer", "shape", "form", "basis"):
        table.add_column(name, overflow="fold")
    for name in ("bytes", "in use", "bits/weight", "non-zero"):
        table.add_column(name, justify="right", no_wrap=True)
    for layer in summary.layers:
        form = f"{layer.alphabet} {layer.pattern}" if layer.kind == "sd" else layer.kind
        table.add_row(
            layer.name,
            "x".join(map(str, layer.shape)),
            form,
            layer.basis,
            f"{layer.nbytes:,}",
            f"{layer.used_nbytes:,}",
            f"{layer.bits_per_weight:.2f}",
            f"{100 * layer.nonzero:.1f}%",
        )
    return table
