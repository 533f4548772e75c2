"""``sd-tvm profile``: cycles and energy of a model on a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sd_tvm.cli import console, inputs


def profile(
    model: Annotated[str, typer.Argument(help="A .sd file, or a library (.so) compiled for sd_accel.")],
    data: Annotated[
        str | None, typer.Option("--input", "-i", help=f"Network inputs: {inputs.KINDS}. Default: noise.")
    ] = None,
    config: Annotated[
        str | None, typer.Option("--config", "-c", help="Name of a configuration, or a YAML file.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Write report.json, report.csv and report.html into this folder."
        ),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(
            "--trace", help="Write the queues over time (for ui.perfetto.dev) into this .json file."
        ),
    ] = None,
    disassembly: Annotated[
        Path | None,
        typer.Option(help="Write every instruction with its layer, TensorIR, Relax and model node."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Run on the simulator with its timing model; show every layer's cycles and energy."""
    from sd_tvm.accelerator.config import AcceleratorConfig
    from sd_tvm.profiling import profile as profile_model
    from sd_tvm.report import report_to_json, write_csv, write_html, write_json, write_listing, write_trace
    from sd_tvm.report.trace import check_traceable

    # Everything that can be refused is refused before the work.
    chosen = None if config is None else AcceleratorConfig.load(config)
    if trace is not None and chosen is not None:
        check_traceable(chosen)
    inputs.check_folder_of(trace)
    inputs.check_folder_of(disassembly)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
    arrays = None if data is None else inputs.read_arrays(data)
    with console.progress() as progress:
        found = profile_model(model, arrays, config=chosen, progress=progress)
    report = found.report
    if trace is not None:
        write_trace(trace, found.calls, found.config)
    if disassembly is not None:
        write_listing(disassembly, found.calls)
    if output is not None:
        write_json(report, output / "report.json")
        write_csv(report, output / "report.csv")
        write_html(report, output / "report.html")
    if as_json:
        typer.echo(report_to_json(report), nl=False)
        return
    from sd_tvm.report.text import layer_tables, metric_table

    out = console.out()
    out.print(*layer_tables(report, out.width))
    out.print(metric_table(report))
    if output is not None:
        out.print(f"report: {output / 'report.html'}")
    if trace is not None:
        out.print(f"trace: {trace} (open it in ui.perfetto.dev)")
    if disassembly is not None:
        out.print(f"disassembly: {disassembly}")
