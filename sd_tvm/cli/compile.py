"""``sd-tvm compile``: a ``.sd`` file or a model becomes a library for the accelerator or the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sd_tvm.cli import console, inputs

TargetOption = Annotated[
    str,
    typer.Option(
        "--target", "-t", help="sd_accel, sd_accel/CONFIGURATION, llvm (this processor), llvm/PROCESSOR."
    ),
]


def compile_model(
    model: Annotated[str, typer.Argument(help="A .sd file, or whatever `compress` accepts.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The library (.so) to write, or its object files (.tar).")
    ],
    target: TargetOption = "sd_accel",
    shape: Annotated[
        str | None, typer.Option(help="Input shape for models that leave it open, e.g. 1,3,224,224.")
    ] = None,
    tiles: Annotated[
        Path | None,
        typer.Option(help="JSON file of tiles (CPU: kernels) found before; read, and written after tuning."),
    ] = None,
    tune: Annotated[
        int,
        typer.Option(
            min=0, help="Try so many candidate tiles of each step on the timing model (CPU: run kernels)."
        ),
    ] = 0,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show where every node runs.")] = False,
) -> None:
    """Compile with TVM; print which nodes do not run on the accelerator, and why."""
    from sd_tvm.errors import OptionError
    from sd_tvm.execute import ACCELERATOR, check_target, compile_module, is_foreign, read_module

    check_target(target)
    inputs.check_folder_of(output)
    if output.suffix != ".tar" and is_foreign(target):
        raise OptionError(
            f"{output}: a library for target {target!r} cannot be linked on this machine",
            expected="an output that ends in .tar: object files",
            fix="unpack them on that machine and link them: c++ -shared -o model.so lib0.o devc.o",
        )
    if tiles is not None:
        inputs.check_folder_of(tiles)
    with console.progress() as report:
        report("load", 0, 1)
        module = read_module(model, inputs.parse_shape(shape))
        report("load", 1, 1)
        report("compile", 0, 1)

        def tuning(done: int, total: int) -> None:
            report("tune", done, total)

        compiled = compile_module(module, target, tiles=tiles, tune=tune, progress=tuning)
        report("compile", 1, 1)
        report("export", 0, 1)
        compiled.executable.export_library(str(output))
        report("export", 1, 1)
    out = console.out()
    wanted = ACCELERATOR if target.startswith(ACCELERATOR) else "cpu-integer"
    shown = [row for row in compiled.nodes if verbose or row.target != wanted]
    if shown:
        from sd_tvm.relay_passes.report import report_table

        title = "Where every node runs" if verbose else f"Not {wanted}"
        out.print(report_table(shown, title=title))
    placed = sum(row.target == wanted for row in compiled.nodes)
    out.print(f"{placed} of {len(compiled.nodes)} nodes: {wanted}")
    if compiled.requires:
        out.print(f"needs a processor with {', '.join(compiled.requires)}")
    out.print(f"{output}: {output.stat().st_size:,} bytes, target {target}")
