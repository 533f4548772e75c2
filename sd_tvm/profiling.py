"""``sd_tvm.profile``: cycles and energy of a model on a configuration of the accelerator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sd_tvm.accelerator.config import AcceleratorConfig
    from sd_tvm.relay_passes.report import NodeReport
    from sd_tvm.report.model import LayerRow, Rejection, Report
    from sd_tvm.report.trace import Call

Progress = Callable[[str, int, int], None]
Mode = Literal["functional", "timed"]
_TOTALS = ("macs", "macs_dense", "cycles", "energy_total_fj")


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
        Programs that ran, in order; what :func:`sd_tvm.report.write_trace` takes.
    """

    outputs: list[npt.NDArray[np.generic]] = field(repr=False)
    report: Report
    config: AcceleratorConfig = field(repr=False)
    calls: tuple[Call, ...] = field(repr=False)


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
        Accelerator configuration, its name, or a YAML file; None: the one that a library was compiled for,
        and the default for everything else.
    mode
        ``timed``: with cycles and energy. ``functional``: counts only, no time.
    title
        Heading of the report.
    progress
        Called with (step, done, total).

    Raises
    ------
    ConfigError
        If the configuration does not exist or is invalid, or that of a library cannot be read back.
    ConfigMismatchError
        If a library needs more memory than the configuration has.
    OptionError
        If inputs are missing or do not fit.
    """
    from sd_tvm.accelerator.config import AcceleratorConfig
    from sd_tvm.accelerator.saved import saved_programs
    from sd_tvm.accelerator.simulator import Profiler
    from sd_tvm.execute import Runner

    given = AcceleratorConfig.load(config) if isinstance(config, str | Path) else config
    report = progress or (lambda _step, _done, _total: None)
    report("compile", 0, 1)
    executable, nodes, arrays, chosen = _prepare(model, given, inputs)
    runner = Runner(executable)
    report("compile", 1, 1)
    report("simulate", 0, 1)
    with Profiler(chosen, mode=mode) as profiler:
        outputs = runner(*arrays)
    report("simulate", 1, 1)
    name = title or f"{_name(model)} on {chosen.name}"
    found = make_report(name, profiler.records, chosen, nodes, totals=profiler.totals)
    programs = {p.name: p.program for p in saved_programs(_runtime_module(executable))}
    return Profile(outputs, found, chosen, tuple(_calls(profiler.records, found.layers, programs)))


def make_report(
    title: str,
    records: Sequence[Mapping[str, Any]],
    config: AcceleratorConfig,
    nodes: Sequence[NodeReport] = (),
    *,
    names: Mapping[str, str] | None = None,
    totals: Mapping[str, Any] | None = None,
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
        Layer or function name -> name to show; default: from ``nodes``.
    totals
        What the run itself says it took (``Profiler.totals``); the rows are compared with it. None: sums
        over the records of what they say of whole calls.

    Raises
    ------
    FormatError
        If the rows do not add up to the totals.
    """
    from sd_tvm.accelerator.records import layer_records
    from sd_tvm.report.build import config_facts, energy_constants, package_versions, timing_metrics
    from sd_tvm.report.model import Report

    shown = dict(names or _shown_names(nodes))
    rows = tuple(_row(record, shown, config) for record in layer_records(records))
    timed = bool(rows) and rows[0].cycles is not None
    notes = (
        () if timed else ("Functional run: it has no notion of time, so there are no cycles and energies.",)
    )
    report = Report(
        title=title,
        metrics=timing_metrics(rows, config),
        layers=rows,
        rejected=tuple(_rejections(nodes)),
        config=config_facts(config),
        constants=energy_constants(config),
        versions=package_versions(),
        notes=notes,
        totals=_flat_totals(_sums(records) if totals is None else totals),
    )
    report.check()
    return report


def _sums(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What whole calls say they took, in the form of the profiler's totals."""
    total: Counter[str] = Counter()
    energy: Counter[str] = Counter()
    for record in records:
        stats = record["stats"]
        total["instructions"] += sum(stats["instructions"].values())
        total.update({key: stats["bytes"][key] for key in ("dram_read", "dram_write")})
        total.update({key: stats[key] for key in _TOTALS if key in stats})
        energy.update(stats.get("energy_fj", {}))
    return {**total, "energy_fj": dict(energy)}


def _flat_totals(totals: Mapping[str, Any]) -> dict[str, int]:
    """Totals under the names of :meth:`Report.sums`."""
    names = (*_TOTALS, "instructions", "dram_read", "dram_write")
    out = {name: int(totals[name]) for name in names if name in totals}
    return out | {f"energy_fj.{name}": int(n) for name, n in totals.get("energy_fj", {}).items()}


def _runtime_module(executable: Any) -> Any:
    return getattr(executable, "mod", executable)


def _calls(
    records: Sequence[Mapping[str, Any]], rows: Sequence[LayerRow], programs: Mapping[str, bytes]
) -> Iterator[Call]:
    """Programs of the calls, with the names that their layers have in the report."""
    from sd_tvm.report.trace import Call

    names = iter(row.name for row in rows)
    for record in records:
        layers = tuple(islice(names, len(record["layers"])))
        function = str(record["name"])
        yield Call(layers[0] if len(layers) == 1 else function, programs[function], layers)


def _name(model: Any) -> str:
    return Path(model).name if isinstance(model, str | PathLike) else "model"


def _prepare(
    model: Any, given: AcceleratorConfig | None, inputs: Sequence[Any] | None
) -> tuple[Any, list[NodeReport], Sequence[Any], AcceleratorConfig]:
    from sd_tvm.accelerator.config import AcceleratorConfig
    from sd_tvm.accelerator.saved import saved_config
    from sd_tvm.errors import OptionError
    from sd_tvm.execute import compile_module, load_executable, read_module

    if isinstance(model, str | PathLike) and Path(model).suffix in (".so", ".dylib", ".dll"):
        if inputs is None:
            raise OptionError(
                f"no inputs for {fspath(model)!r}",
                expected="the network's inputs",
                fix="pass inputs (--input)",
            )
        library = load_executable(model)
        return library, [], inputs, given or saved_config(library)
    chosen = given or AcceleratorConfig.load()
    mod = read_module(model)
    arrays = _noise(mod) if inputs is None else inputs
    compiled = compile_module(mod, config=chosen)
    return compiled.executable, compiled.nodes, arrays, chosen


def _noise(mod: Any) -> list[Any]:
    import numpy as np

    generator = np.random.default_rng(0)
    return [
        generator.standard_normal([int(d) for d in param.ty.shape]).astype(str(param.ty.dtype))
        for param in mod["main"].params
    ]


def _shown_names(nodes: Sequence[NodeReport]) -> dict[str, str]:
    """Layer name -> the first node's name in the user's model."""
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
    name, function = str(record["name"]), str(record["function"])
    title = shown.get(name) or shown.get(function) or name
    return layer_row(title, layer, record["stats"], config.peak_macs_per_cycle)


def _rejections(nodes: Sequence[NodeReport]) -> list[Rejection]:
    from sd_tvm.report.model import Rejection

    return [
        Rejection(node.source_name, node.op, node.target, node.reason)
        for node in nodes
        if node.target in ("cpu", "cpu-integer")
    ]
