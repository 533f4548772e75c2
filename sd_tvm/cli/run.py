"""``sd-tvm run``: run a compiled model on the simulator (functional) or the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sd_tvm.cli import console, inputs
from sd_tvm.cli.compile import TargetOption


def run(
    model: Annotated[str, typer.Argument(help="A compiled library (.so), or a .sd file.")],
    data: Annotated[str, typer.Option("--input", "-i", help=f"Network inputs: {inputs.KINDS}.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the outputs to this .npz file.")
    ] = None,
    target: TargetOption = "sd_accel",
    top: Annotated[int, typer.Option(help="Show this many of the largest outputs a row.", min=1)] = 5,
) -> None:
    """Run one batch and show the largest outputs."""
    import numpy as np

    from sd_tvm.execute import Runner, check_target, open_model

    check_target(target)
    inputs.check_folder_of(output)
    arrays = inputs.read_arrays(data)
    with console.progress() as report:
        report("prepare", 0, 1)
        runner = Runner(open_model(model, target))
        report("prepare", 1, 1)
        report("run", 0, 1)
        results = runner(*arrays)
        report("run", 1, 1)
    if output is not None:
        np.savez(output, *results)
    out = console.out()
    for i, result in enumerate(results):
        out.print(f"output {i}: {result.dtype} {'x'.join(map(str, result.shape))}")
        for row in result.reshape(result.shape[0], -1) if result.ndim > 1 else result.reshape(1, -1):
            best = np.argsort(-row, kind="stable")[:top]
            out.print("  " + ", ".join(f"{j}: {row[j]:.4g}" for j in best))
