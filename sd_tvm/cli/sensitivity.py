"""``sd-tvm sensitivity``: what each form of each layer costs, measured on outputs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sd_tvm.cli import console, inputs

if TYPE_CHECKING:
    from rich.table import Table

    from sd_tvm.tradeoff import OptionRow, SensitivityReport


def sensitivity(
    model: Annotated[str, typer.Argument(help="Whatever `compress` accepts.")],
    calibration: Annotated[
        str,
        typer.Option(
            help=f"Representative inputs, without labels, at least two: {inputs.KINDS}, or {inputs.FOLDER}."
        ),
    ],
    preprocess: Annotated[str | None, typer.Option(help=inputs.PREPROCESS)] = None,
    config: Annotated[
        str | None, typer.Option(help="Accelerator configuration: adds cycles and energy of each option.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write sensitivity.json and .html into this folder."),
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="Measure this option alone; may be given several times.")
    ] = None,
    shape: Annotated[
        str | None, typer.Option(help="Input shape for models that leave it open, e.g. 1,3,224,224.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure every layer in every option: error of its output on held-out examples, and bytes."""
    import sd_tvm
    from sd_tvm.tradeoff.files import write_sensitivity

    examples = inputs.read_examples(calibration, model, preprocess)
    with console.progress() as progress:
        report = sd_tvm.sensitivity(
            model,
            examples,
            example_inputs=inputs.parse_shape(shape),
            options=option or None,
            config=config,
            title=f"Sensitivity: {model}",
            progress=progress,
        )
    page = None if output is None else write_sensitivity(report, output)
    if as_json:
        typer.echo(report.to_json(), nl=False)
        return
    out = console.out()
    out.print(_table(report))
    for note in report.notes:
        out.print(note, markup=False)
    if any(report.warnings()):
        out.print("! the report says what to know of this option")
    if page is not None:
        out.print(f"report: {page}")


def _table(report: SensitivityReport) -> Table:
    """One line a layer: effect on the network's outputs and bytes of each option."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(report.title), box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("layer")
    table.add_column("shape")
    for row in report.layers[0].options:
        table.add_column(f"{row.option}\neffect, bytes", justify="right")
    for layer in report.layers:
        cells = [f"{_effect(o)}, {o.nbytes:,}{' !' if o.warnings else ''}" for o in layer.options]
        table.add_row(escape(layer.name), "x".join(map(str, layer.shape)), *cells)
    return table


def _effect(row: OptionRow) -> str:
    return "–" if row.effect is None else f"{row.effect:.2g}"
