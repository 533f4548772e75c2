"""``sd-tvm bench``: a model on this processor beside the libraries that are installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sd_tvm.cli import console, inputs


def bench(
    model: Annotated[str, typer.Argument(help="A .sd file, or whatever `compress` accepts.")],
    reference: Annotated[
        str | None,
        typer.Option(help="The float32 model that the other libraries run, for a .sd file. Default: MODEL."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="Of a float32 MODEL: name of a preset, or a YAML file.  [default: default]"),
    ] = None,
    shape: Annotated[
        str | None, typer.Option(help="Input shape for models that leave it open, e.g. 1,3,224,224.")
    ] = None,
    peers: Annotated[
        str, typer.Option(help="Libraries to run beside it, with commas; empty: none.")
    ] = "torch,onnxruntime,openvino",
    turns: Annotated[int, typer.Option(help="Turns of everybody.", min=1)] = 15,
    seconds: Annotated[float, typer.Option(help="After this time no more than three turns.", min=0)] = 60,
    tune: Annotated[int, typer.Option(help="Candidate kernels timed for every layer.", min=0)] = 0,
    output: Annotated[
        Path | None, typer.Option("--json", help="Write the numbers to this file, too.")
    ] = None,
) -> None:
    """Time the model in turns with other libraries; threads of everybody: TVM_NUM_THREADS (1)."""
    from sd_tvm.bench import model as measured
    from sd_tvm.bench.table import show
    from sd_tvm.recipe import Recipe

    chosen = tuple(p.strip() for p in peers.split(",") if p.strip())
    measured.check(chosen, turns)
    inputs.check_folder_of(output)
    loaded = None if recipe is None else Recipe.load(recipe)
    with console.progress() as report:
        document: dict[str, Any] = measured.bench(
            model,
            inputs.parse_shape(shape),
            reference=reference,
            recipe=loaded,
            peers=chosen,
            turns=turns,
            seconds=seconds,
            tune=tune,
            progress=report,
        )
    if output is not None:
        output.write_text(json.dumps(document, indent=1) + "\n")
    show(document, console.out())
