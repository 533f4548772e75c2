"""What the ratio would be if one part of both machines were built otherwise.

Computed from counted events and prices of programs that ran; nothing is compiled again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sd_tvm.accelerator.config import AcceleratorConfig

from .measure import Run

#: Energy that one run saves, fJ.
Saving = Callable[[Run], float]


@dataclass(frozen=True)
class Lever:
    """A change.

    Attributes
    ----------
    name
        What changes.
    saving
        fJ that it saves in a run.
    sound
        Whether it is a proposal (the last row takes all of those); else it only shows a dependence.
    """

    name: str
    saving: Saving
    sound: bool = True


def _price(event: str) -> int:
    return AcceleratorConfig.load().energy_fj()[event]


def _drain(run: Run) -> float:
    return 8 * min(run.events["requantised_values"], run.events["acc_write_bytes"] // 4) * _price("acc_byte")


def _narrow(run: Run) -> float:
    return run.events["mac_8x13"] * _price("mac_8x13") * 3 / 13


def _activations(run: Run) -> float:
    return run.dram_bytes("activation") * _price("dram_byte")


def _wide_lanes(run: Run) -> float:
    return run.events["code_read_bytes"] / 2 * _price("code_byte")


LEVERS = (
    Lever("sums drain into requantisation instead of through ACC", _drain),
    Lever("rebuilt weights of 10 bits instead of 13 (`smartexchange-28nm-narrow`)", _narrow),
    Lever("weights read once for 16 pixels instead of 8", _wide_lanes, sound=False),
    Lever("no activations through DRAM at all", _activations, sound=False),
)


def with_levers(dense: Run, sd: Run) -> list[tuple[str, float]]:
    """(change, nominal ratio) for each change, and for all proposals together."""
    rows = [("as measured", dense.total_fj / sd.total_fj)]
    for lever in LEVERS:
        rows.append((lever.name, _ratio(dense, sd, [lever])))
    rows.append(("the first two together", _ratio(dense, sd, [x for x in LEVERS if x.sound])))
    return rows


def _ratio(dense: Run, sd: Run, levers: list[Lever]) -> float:
    over, of = (r.total_fj - sum(lever.saving(r) for lever in levers) for r in (dense, sd))
    return over / of
