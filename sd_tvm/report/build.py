"""From the profiler's records to the rows of a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any

from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.errors import FormatError
from sd_tvm.layers import ConvLayer, Layer, PoolLayer
from sd_tvm.report.bands import Prices, band, corner_energies
from sd_tvm.report.bounds import bound_of
from sd_tvm.report.calls import Origin
from sd_tvm.report.model import ClassRow, EnergyConstant, LayerRow, Metric
from sd_tvm.weights.packing import packed_nbytes

_PACKAGES = ("sd-tvm", "apache-tvm", "apache-tvm-ffi")


def layer_kind(layer: Layer) -> str:
    """Kind of a layer as reports name it."""
    if isinstance(layer, ConvLayer):
        if layer.in_hw == layer.kernel == (1, 1):
            return "dense"
        if layer.groups > 1 and layer.groups == layer.in_channels:
            return "depthwise"
        return "pointwise" if layer.kernel == (1, 1) else "conv"
    return f"{layer.mode} pool" if isinstance(layer, PoolLayer) else layer.kind


def layer_shape(layer: Layer) -> str:
    """Readable shape: channels x height x width in and out, kernel/stride, groups, dilation."""
    batch = f"{layer.batch}x" if layer.batch > 1 else ""
    if not isinstance(layer, ConvLayer | PoolLayer):
        return f"{batch}{layer.channels}x{_by(layer.hw)}"
    channels = (
        (layer.in_channels, layer.out_channels) if isinstance(layer, ConvLayer) else (layer.channels,) * 2
    )
    if layer_kind(layer) == "dense":
        return f"{batch}{channels[0]} -> {channels[1]}"
    text = (
        f"{batch}{channels[0]}x{_by(layer.in_hw)} -> {channels[1]}x{_by(layer.out_hw)}, {_by(layer.kernel)}"
    )
    if layer.stride != (1, 1):
        text += f"/{layer.stride[0] if len(set(layer.stride)) == 1 else _by(layer.stride)}"
    if isinstance(layer, ConvLayer):
        if layer.groups > 1 and layer_kind(layer) != "depthwise":
            text += f", {layer.groups} groups"
        if layer.dilation != (1, 1):
            text += f", dilation {_by(layer.dilation)}"
    return text


def layer_form(layer: Layer) -> str:
    """Form of a layer's weight, empty without one."""
    if not isinstance(layer, ConvLayer):
        return ""
    if layer.form is None:
        return "int8"
    form = layer.form
    basis = f"{form.basis_kind} {layer.n_bases}" if form.basis_kind == "codebook" else form.basis_kind
    return f"{form.alphabet} {form.pattern} {basis}"


def layer_row(
    name: str,
    layer: Layer,
    stats: Mapping[str, Any],
    peak_macs_per_cycle: int,
    origin: Origin | None = None,
) -> LayerRow:
    """Row of one call.

    Parameters
    ----------
    name
        Name to show.
    layer
        The layer.
    stats
        Statistics of the call, as the simulator gives them.
    peak_macs_per_cycle
        What the array can do in a cycle.
    origin
        Where the layer comes from, if known.

    Raises
    ------
    FormatError
        If the statistics' parts do not add up to their total.
    """
    weights = weight_bytes = 0
    if isinstance(layer, ConvLayer):
        m, cg, kh, kw = layer.weight_shape
        weights = m * cg * kh * kw
        weight_bytes = packed_nbytes(layer.weight_shape, layer.form, layer.n_bases)
    cycles = stats.get("cycles")
    energy = stats.get("energy_fj")
    if energy is not None and sum(energy.values()) != stats["energy_total_fj"]:
        raise FormatError(
            f"{name}: the energy's parts add up to {sum(energy.values())} fJ, the total is "
            f"{stats['energy_total_fj']} fJ",
            expected="equal numbers",
            fix="report this: the simulator's bookkeeping is wrong",
        )
    moved = stats.get("bytes", {})
    return LayerRow(
        name=name,
        kind=layer_kind(layer),
        shape=layer_shape(layer),
        form=layer_form(layer),
        weights=weights,
        weight_bytes=weight_bytes,
        macs=stats.get("macs", 0),
        macs_dense=stats.get("macs_dense", 0),
        instructions=sum(stats.get("instructions", {}).values()),
        dram_read=moved.get("dram_read", 0),
        dram_write=moved.get("dram_write", 0),
        cycles=cycles,
        peak_macs=None if cycles is None else cycles * peak_macs_per_cycle,
        energy_fj=energy,
        busy=None if cycles is None else _flat(stats.get("busy", {})),
        stall=None if cycles is None else _flat(stats.get("stall", {})),
        waits=_counts(stats, "waits"),
        array=_counts(stats, "array_cycles"),
        events=None if cycles is None else stats.get("events"),
        bound="" if cycles is None else bound_of(stats),
        function="" if origin is None else origin.function,
        nodes=() if origin is None else origin.nodes,
        sources=() if origin is None else origin.sources,
    )


def class_rows(records: Iterable[Mapping[str, Any]]) -> tuple[ClassRow, ...]:
    """Instructions by name over calls; names that never occur are left out."""
    counts: Counter[str] = Counter()
    cycles: Counter[str] = Counter()
    energy: Counter[str] = Counter()
    timed = priced = True
    for record in records:
        stats = record["stats"]
        counts.update(stats.get("instructions", {}))
        timed, priced = timed and "class_cycles" in stats, priced and "class_energy_fj" in stats
        cycles.update(stats.get("class_cycles", {}))
        energy.update(stats.get("class_energy_fj", {}))
    return tuple(
        ClassRow(name, n, cycles[name] if timed else None, energy[name] if priced else None)
        for name, n in counts.items()
        if n
    )


def queue_rows(records: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Cycles of each queue by cause over calls; empty for functional runs.

    ``busy``, ``token``, ``dispatch`` and ``idle`` add up to the time; ``token.GE`` is the part of ``token``
    that ends with a signal of that queue.
    """
    out: dict[str, dict[str, int]] = {}
    for record in records:
        stats = record["stats"]
        if "idle" not in stats:
            return {}
        for queue, busy in stats["busy"].items():
            row = out.setdefault(queue, dict.fromkeys(("busy", "token", "dispatch", "idle"), 0))
            row["busy"] += busy
            row["token"] += stats["stall"][f"{queue}.token"]
            row["dispatch"] += stats["stall"][f"{queue}.dispatch"]
            row["idle"] += stats["idle"][queue]
            for pair, waited in stats.get("waits", {}).items():
                waiter, _, signaller = pair.partition(".")
                if waiter == queue and (waited or f"token.{signaller}" in row):
                    row[f"token.{signaller}"] = row.get(f"token.{signaller}", 0) + waited
    return out


def _counts(stats: Mapping[str, Any], key: str) -> dict[str, int] | None:
    found = stats.get(key)
    return None if found is None else _flat(found)


def config_facts(config: AcceleratorConfig) -> dict[str, int | float | str]:
    """The configuration with dotted keys."""
    facts: dict[str, int | float | str] = {}
    for key, value in config.model_dump(mode="json").items():
        if isinstance(value, dict):
            facts.update({f"{key}.{k}": _plain(v) for k, v in value.items()})
        else:
            facts[key] = _plain(value)
    return facts


def energy_constants(config: AcceleratorConfig) -> tuple[EnergyConstant, ...]:
    """The constants of the configuration's energy table, with their sources."""
    return tuple(
        EnergyConstant(
            name,
            e.value,
            e.unit,
            "" if e.node_nm is None else f"{e.node_nm} nm",
            e.grade,
            e.source,
            e.low,
            e.high,
        )
        for name, e in config.energy_table().entries.items()
    )


def timing_metrics(
    rows: Iterable[LayerRow], config: AcceleratorConfig, prices: Prices | None = None
) -> tuple[Metric, ...]:
    """Time at the configured clock, energy, and throughput of timed rows (empty for functional ones).

    With the prices of the corners (:func:`sd_tvm.accelerator.config.events.event_prices`) the energy has its
    band.
    """
    rows = tuple(rows)
    known = band(corner_energies(rows, prices or {}))
    low, high = (None, None) if known is None else (known.low / 1e9, known.high / 1e9)
    if not rows or any(row.cycles is None for row in rows):
        return ()
    cycles = sum(row.cycles or 0 for row in rows)
    energy = sum(row.energy_total_fj or 0 for row in rows)
    macs = sum(row.macs for row in rows)
    return (
        Metric("cycles", cycles, ""),
        Metric(f"time at {config.clock_mhz} MHz", cycles / (config.clock_mhz * 1e3), "ms"),
        Metric("energy", energy / 1e9, "µJ", low, high),
        Metric("array utilisation", 100 * macs / (cycles * config.peak_macs_per_cycle or 1), "%"),
    )


def package_versions() -> dict[str, str]:
    """Versions of the packages that make results; no dates, no machine."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            if name == "sd-tvm":
                from sd_tvm import __version__

                versions[name] = __version__
    return versions


def _flat(counts: Mapping[str, Any]) -> dict[str, int]:
    """Nested counts with dotted keys."""
    flat: dict[str, int] = {}
    for key, value in counts.items():
        if isinstance(value, Mapping):
            flat.update({f"{key}.{k}": v for k, v in _flat(value).items()})
        else:
            flat[key] = value
    return flat


def _by(pair: tuple[int, int]) -> str:
    return f"{pair[0]}x{pair[1]}"


def _plain(value: Any) -> int | float | str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    return value if isinstance(value, int | float | str) else ", ".join(map(str, value))
