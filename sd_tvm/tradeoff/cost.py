"""Cycles and energy of every layer on an accelerator, without data: what a choice of forms costs there.

The network is compiled for the configuration with weights of zeros, as one program where layers fuse, and
timed. Parallel arrays only: the time of a bit-serial one depends on data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sd_tvm.accelerator.timing import time_program
from sd_tvm.errors import ConfigError
from sd_tvm.explore.programs import compiled_programs
from sd_tvm.relay_passes.decompose import Decompose
from sd_tvm.tradeoff.options import blank
from sd_tvm.tradeoff.warn import slower_than_int8
from sd_tvm.weights.tensor import Weight

if TYPE_CHECKING:
    from sd_tvm.accelerator.config import AcceleratorConfig
    from sd_tvm.recipe import LayerPlan


@dataclass(frozen=True)
class Cost:
    """Cycles, and energy in fJ, of one example."""

    cycles: int = 0
    energy_fj: int = 0

    def __add__(self, other: Cost) -> Cost:
        """Sum."""
        return Cost(self.cycles + other.cycles, self.energy_fj + other.energy_fj)


@dataclass(frozen=True)
class NetworkCost:
    """A network on a configuration.

    Attributes
    ----------
    layers
        Costs by name of the layer; what a layer's program spends on what is fused into it is the layer's.
    total
        Of all programs, one after the other.
    """

    layers: dict[str, Cost]
    total: Cost


def machine_of(config: AcceleratorConfig | str | Path | None) -> AcceleratorConfig:
    """The configuration, if it can be timed without data.

    Raises
    ------
    ConfigError
        If it does not exist, is invalid, or is bit-serial.
    """
    from sd_tvm.accelerator.config import AcceleratorConfig

    if isinstance(config, AcceleratorConfig):
        found = config
    else:
        found = AcceleratorConfig.load() if config is None else AcceleratorConfig.load(config)
    if found.array.mac == "serial":
        raise ConfigError(
            f"the configuration {found.name!r} is bit-serial",
            expected="a parallel array: the time of a bit-serial one depends on data",
            fix="choose another configuration, for example 'smartexchange-28nm-parallel'",
        )
    return found


def network_cost(mod: Any, weights: Mapping[str, Weight], config: AcceleratorConfig) -> NetworkCost:
    """Compile a network and time its programs.

    Parameters
    ----------
    mod
        Simplified float32 module, calibrated or not.
    weights
        Compressed weights by layer name; only their form matters.
    config
        The accelerator.

    Raises
    ------
    ConfigError
        If the array is bit-serial.
    OptionError
        If no layer runs on the accelerator.
    """
    decompose: Any = Decompose(weights=dict(weights))
    programs, _ = compiled_programs(decompose(mod), config)
    text = config.to_text()
    layers: dict[str, Cost] = {}
    total = Cost()
    for program in programs:
        stats = time_program(program.program, text)
        total += Cost(stats["cycles"], stats["energy_total_fj"])
        for share in stats["layer_times"]:
            name = str(program.layers[max(int(share["layer"]), 0)].get("name") or program.name)
            layers[name] = layers.get(name, Cost()) + Cost(share["cycles"], share["energy_total_fj"])
    return NetworkCost(layers, total)


def cycle_facts(
    mod: Any, plans: Mapping[str, LayerPlan], config: AcceleratorConfig
) -> dict[str, dict[str, Any]]:
    """Facts for the report's rows, by layer: cycles as planned, and a warning where int8 takes fewer.

    Layers that the plan leaves in float32, and those that do not fit the accelerator, have none.
    """
    from sd_tvm.relay_passes._weights import weighted_layers

    shapes = {layer.info.name: layer.info.geometry for layer in weighted_layers(mod)}
    kept = {name: plan for name, plan in plans.items() if plan.kind != "skip"}
    planned = {n: blank(shapes[n], plan.form, plan.n_bases) for n, plan in kept.items()}
    mine = network_cost(mod, planned, config).layers
    if any(plan.form is not None for plan in kept.values()):
        raw = network_cost(mod, {n: blank(shapes[n], None, 0) for n in kept}, config).layers
    else:
        raw = mine
    facts: dict[str, dict[str, Any]] = {}
    for name in kept:
        if name not in mine or name not in raw:
            continue
        facts[name] = {"cycles": mine[name].cycles}
        if kept[name].form is not None:
            slower = slower_than_int8(mine[name].cycles, raw[name].cycles, config.name)
            if slower:
                facts[name]["warning"] = slower
    return facts
