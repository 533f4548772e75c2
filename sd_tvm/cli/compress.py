"""``sd-tvm compress``: a trained network becomes a ``.sd`` file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from sd_tvm.cli import console, inputs


def compress(
    model: Annotated[
        str,
        typer.Argument(
            help="A .pt2, .onnx or .relay.json file, package.module:callable, or efficientnet_lite0."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .sd file to write.")],
    recipe: Annotated[
        str | None, typer.Option(help="Name of a preset, or a YAML file.  [default: default]")
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(
            help=f"Representative inputs, without labels: {inputs.KINDS}, or {inputs.FOLDER}. "
            "Default: not calibrated."
        ),
    ] = None,
    preprocess: Annotated[str | None, typer.Option(help=inputs.PREPROCESS)] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Instead of a recipe: size=7 (the file is 7 times smaller than float32), cycles=N, "
            "energy=MICROJOULES (both of one example on the accelerator), or several of these; or "
            "max_drop=POINTS alone (per cent of held-out examples whose answer may change)."
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            help="Accelerator configuration (name or YAML file): of cycles and energy, and warnings."
        ),
    ] = None,
    storage: Annotated[
        str, typer.Option(help="plain, or entropy: a smaller file, which needs sd-tvm\\[entropy] to be read.")
    ] = "plain",
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="A folder for finished work: the same command, started again, goes on from there."),
    ] = None,
    shape: Annotated[
        str | None, typer.Option(help="Input shape for models that leave it open, e.g. 1,3,224,224.")
    ] = None,
) -> None:
    """Fold batch norm, calibrate activations, decompose the weights, write a .sd file."""
    import sd_tvm

    inputs.check_folder_of(output)
    limits = inputs.parse_budget(budget)
    stored_as = inputs.parse_storage(storage)
    examples = inputs.read_examples(calibration, model, preprocess)
    with console.progress() as report:
        compressed = sd_tvm.compress(
            model,
            inputs.parse_shape(shape),
            recipe=None if recipe is None else sd_tvm.Recipe.load(recipe),
            calibration=examples,
            budget=limits,
            config=config,
            checkpoint=checkpoint,
            progress=report,
        )
        size = compressed.save(output, storage=stored_as)
    out = console.out()
    for note in compressed.notes:
        console.err().print(f"[yellow]note:[/] {escape(note)}", soft_wrap=True)
    out.print(
        f"{output}: {size:,} bytes, {compressed.fp32_bytes / size:.2f}x smaller than float32 "
        f"({compressed.fp32_bytes:,} bytes); its weights take {compressed.used_nbytes:,} bytes in use"
    )
