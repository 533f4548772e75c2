"""``sd_tvm.profile``: cycles and energy of a model on a configuration of the accelerator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sd_tvm.accelerator.config import AcceleratorConfig
    from sd_tvm.relay_passes.report import NodeReport
    from sd_tvm.report.model import LayerRow, Rejection, Report

Progress = Callable[[str, int, int], None]
Mode = Literal["functional", "timed"]


@dataclass(frozen=True)
class Profile:
    """What one profiled run gave.

    Attributes
    ----------
    outputs
        The network's outputs.
    report
        Rows with cycles and energy, totals, configuration, sources of the constants.
    config
        The configuration that was simulated.
    calls
        Name and program of each layer call, in the order of the report's rows; what
        :func:`sd_tvm.report.write_trace` takes.
    """

    outputs: list[npt.NDArray[np.generic]] = field(repr=False)
    report: Report
    config: AcceleratorConfig = field(repr=False)
    calls: tuple[tuple[str, bytes], ...] = field(repr=False)


def profile(
    model: Any,
    inputs: Sequence[npt.NDArray[Any]] | None = None,
    *,
    config: AcceleratorConfig | str | Path | None = None,
    mode: Mode = "timed",
    title: str | None = None,
    progress: Progress | None = None,
) -> Profile:
    """Run a model once on the simulator and report every layer.

    Parameters
    ----------
    model
        A compressed model, a ``.sd`` file, a Relax module, or a library (``.so``) that was compiled for
        ``sd_accel``.
    inputs
        The network's inputs; None: noise of a fixed seed, for a model whose inputs are known (no library).
    config
        Accelerator configuration, its name, or a YAML file; None: the default, also for a library, whatever
        configuration it was compiled for.
    mode
        ``timed``: with cycles and energy. ``functional``: counts only, no time.
    title
        Heading of the report.
    progress
        Called with (step, done, total).

    Raises
    ------
    ConfigError
        If the configuration does not exist or is invalid.
    ConfigMismatchError
        If a library needs more memory than the configuration has.
    OptionError
        If inputs are missing or do not fit.
    """
    from sd_tvm.accelerator import DEFAULT_CONFIG
    from sd_tvm.accelerator.config import AcceleratorConfig
    from sd_tvm.accelerator.saved import saved_layers
    from sd_tvm.accelerator.simulator import Profiler
    from sd_tvm.execute import Runner

    named = config or DEFAULT_CONFIG
    chosen = named if isinstance(named, AcceleratorConfig) else AcceleratorConfig.load(named)
    report = progress or (lambda _step, _done, _total: None)
    report("compile", 0, 1)
    executable, nodes, arrays = _prepare(model, chosen, inputs)
    runner = Runner(executable)
    report("compile", 1, 1)
    report("simulate", 0, 1)
    with Profiler(chosen, mode=mode) as profiler:
        outputs = runner(*arrays)
    report("simulate", 1, 1)
    name = title or f"{_name(model)} on {chosen.name}"
    found = make_report(name, profiler.records, chosen, nodes)
    programs = {layer.name: layer.program for layer in saved_layers(getattr(executable, "mod", executable))}
    calls = zip(found.layers, profiler.records, strict=True)
    return Profile(outputs, found, chosen, tuple((row.name, programs[str(r["name"])]) for row, r in calls))


def make_report(
    title: str,
    records: Sequence[Mapping[str, Any]],
    config: AcceleratorConfig,
    nodes: Sequence[NodeReport] = (),
    *,
    names: Mapping[str, str] | None = None,
) -> Report:
    """Report of the profiler's records.

    Parameters
    ----------
    title
        Heading.
    records
        What :class:`sd_tvm.accelerator.simulator.Profiler` collected.
    config
        The configuration that was simulated.
    nodes
        Where the graph's nodes run; those on the CPU are listed with their reason.
    names
        Function name -> name to show; default: from ``nodes``.
    """
    from sd_tvm.report.build import config_facts, energy_constants, package_versions, timing_metrics
    from sd_tvm.report.model import Report

    shown = dict(names or _shown_names(nodes))
    rows = tuple(_row(record, shown, config) for record in records)
    totals = {}
    if rows and rows[0].cycles is not None:
        totals = {
            "cycles": sum(r["stats"]["cycles"] for r in records),
            "energy_total_fj": sum(r["stats"]["energy_total_fj"] for r in records),
        }
    notes = (
        () if totals else ("Functional run: it has no notion of time, so there are no cycles and energies.",)
    )
    return Report(
        title=title,
        metrics=timing_metrics(rows, config),
        layers=rows,
        rejected=tuple(_rejections(nodes)),
        config=config_facts(config),
        constants=energy_constants(config),
        versions=package_versions(),
        notes=notes,
        totals=totals,
    )


def _name(model: Any) -> str:
    return Path(model).name if isinstance(model, str | PathLike) else "model"


def _prepare(
    model: Any, chosen: AcceleratorConfig, inputs: Sequence[Any] | None
) -> tuple[Any, list[NodeReport], Sequence[Any]]:
    from sd_tvm.errors import OptionError
    from sd_tvm.execute import compile_module, load_executable, read_module

    if isinstance(model, str | PathLike) and Path(model).suffix in (".so", ".dylib", ".dll"):
        if inputs is None:
            raise OptionError(
                f"no inputs for {fspath(model)!r}",
                expected="the network's inputs",
                fix="pass inputs (--input)",
            )
        return load_executable(model), [], inputs
    mod = read_module(model)
    arrays = _noise(mod) if inputs is None else inputs
    compiled = compile_module(mod, config=chosen)
    return compiled.executable, compiled.nodes, arrays


def _noise(mod: Any) -> list[Any]:
    import numpy as np

    generator = np.random.default_rng(0)
    return [
        generator.standard_normal([int(d) for d in param.ty.shape]).astype(str(param.ty.dtype))
        for param in mod["main"].params
    ]


def _shown_names(nodes: Sequence[NodeReport]) -> dict[str, str]:
    """Function name -> the first node's name in the user's model."""
    shown: dict[str, str] = {}
    for node in nodes:
        if node.layer:
            shown.setdefault(node.layer, node.source_name)
    return shown


def _row(record: Mapping[str, Any], shown: Mapping[str, str], config: AcceleratorConfig) -> LayerRow:
    import json

    from sd_tvm.layers import layer_from_json
    from sd_tvm.report.build import layer_row

    layer = layer_from_json(json.dumps(record["layer"]))
    name = str(record["name"])
    return layer_row(shown.get(name, layer.name or name), layer, record["stats"], config.peak_macs_per_cycle)


def _rejections(nodes: Sequence[NodeReport]) -> list[Rejection]:
    from sd_tvm.report.model import Rejection

    return [
        Rejection(node.source_name, node.op, node.target, node.reason)
        for node in nodes
        if node.target in ("cpu", "cpu-integer")
    ]
