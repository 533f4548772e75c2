"""``sd_tvm.profile``: cycles and energy of a model on a configuration of the accelerator."""

from __future__ import annotations

from collections import Counter
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
    from sd_tvm.report.calls import Call, Origin
    from sd_tvm.report.model import LayerRow, Rejection, Report

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
        Programs that ran, in order, with the origins of their layers; what
        :func:`sd_tvm.report.write_trace` and :func:`sd_tvm.report.write_listing` take.
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
    report("report", 0, 1)
    calls = make_calls(profiler.records, executable, nodes)
    found = make_report(name, profiler.records, chosen, nodes, totals=profiler.totals, calls=calls)
    report("report", 1, 1)
    return Profile(outputs, found, chosen, calls)


def make_calls(
    records: Sequence[Mapping[str, Any]], executable: Any, nodes: Sequence[NodeReport] = ()
) -> tuple[Call, ...]:
    """Calls of the accelerator with their programs and the origins of their layers.

    Parameters
    ----------
    records
        What :class:`sd_tvm.accelerator.simulator.Profiler` collected.
    executable
        The executable, or the loaded library, that ran.
    nodes
        Where the graph's nodes run; a library does not know.
    """
    from sd_tvm.accelerator.saved import saved_programs
    from sd_tvm.report.calls import Call

    programs = {p.name: p.program for p in saved_programs(_runtime_module(executable))}
    calls = []
    for record in records:
        function = str(record["name"])
        origins = tuple(_origin(function, layer, nodes) for layer in record["layers"])
        shown = origins[0].layer if len(origins) == 1 else function
        calls.append(Call(shown, programs[function], origins))
    return tuple(calls)


def make_report(
    title: str,
    records: Sequence[Mapping[str, Any]],
    config: AcceleratorConfig,
    nodes: Sequence[NodeReport] = (),
    *,
    names: Mapping[str, str] | None = None,
    totals: Mapping[str, Any] | None = None,
    calls: Sequence[Call] = (),
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
    calls
        :func:`make_calls`; with them the report has the memories' occupancy and the disassembly.

    Raises
    ------
    FormatError
        If the rows do not add up to the totals.
    """
    from sd_tvm.accelerator.config.events import event_prices
    from sd_tvm.accelerator.records import layer_records
    from sd_tvm.report import build
    from sd_tvm.report.listing import sections
    from sd_tvm.report.model import Report
    from sd_tvm.report.occupancy import occupancy

    rows = tuple(_row(record, nodes, config, names or {}) for record in layer_records(records))
    timed = bool(rows) and rows[0].cycles is not None
    serial = config.array.mac == "serial"
    notes = []
    if not timed:
        notes.append("Functional run: it has no notion of time, so there are no cycles and energies.")
    elif serial:
        notes.append("No occupancy of the memories: the time of a bit-serial array depends on data.")
    prices = event_prices(config) if timed else {}
    report = Report(
        title=title,
        metrics=build.timing_metrics(rows, config, prices),
        layers=rows,
        rejected=tuple(_rejections(nodes)),
        config=build.config_facts(config),
        constants=build.energy_constants(config),
        versions=build.package_versions(),
        notes=tuple(notes),
        totals=_flat_totals(_sums(records) if totals is None else totals),
        classes=build.class_rows(records),
        queues=build.queue_rows(records) if timed else {},
        prices=prices,
        occupancy=occupancy(calls, config) if timed and not serial else (),
        sections=tuple(sections(calls)),
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


def _origin(function: str, layer: Mapping[str, Any], nodes: Sequence[NodeReport]) -> Origin:
    """Origin of a layer of a program: the nodes that the report says it computes."""
    from sd_tvm.report.calls import Origin

    name = str(layer.get("name") or function)
    groups: dict[str, list[NodeReport]] = {}
    for node in nodes:
        if node.layer:
            groups.setdefault(node.layer, []).append(node)
    known = (name, function, *(f for f, rows in groups.items() if rows[0].source_name == name))
    primfunc = next((f for f in known if f in groups), function)
    found = groups.get(primfunc, [])
    shown = found[0].source_name if found else name
    return Origin(
        shown, primfunc, tuple(n.node for n in found), tuple(n.source_name for n in found) or (name,)
    )


def _row(
    record: Mapping[str, Any],
    nodes: Sequence[NodeReport],
    config: AcceleratorConfig,
    names: Mapping[str, str],
) -> LayerRow:
    import json

    from sd_tvm.layers import layer_from_json
    from sd_tvm.report.build import layer_row

    layer = layer_from_json(json.dumps(record["layer"]))
    name, function = str(record["name"]), str(record["function"])
    origin = _origin(function, record["layer"], nodes)
    shown = names.get(name) or names.get(function) or origin.layer
    return layer_row(shown, layer, record["stats"], config.peak_macs_per_cycle, origin)


def _rejections(nodes: Sequence[NodeReport]) -> list[Rejection]:
    from sd_tvm.report.model import Rejection

    return [
        Rejection(node.source_name, node.op, node.target, node.reason)
        for node in nodes
        if node.target in ("cpu", "cpu-integer")
    ]
