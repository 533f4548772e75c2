"""Events that the simulator counts, what one costs, and the corners of an energy table.

Energies follow from the counts by multiplication, so a run is priced at any corner of the table without being
simulated again. The table here mirrors ``accelerator/sim/energy.h``; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import TYPE_CHECKING

from sd_tvm.accelerator.config.energy import GROUPS, Corner

if TYPE_CHECKING:
    from sd_tvm.accelerator.config.model import AcceleratorConfig

_MEMORIES = ("inp", "code", "basis", "idx", "qp", "lut", "acc", "out")

#: Event of the simulator -> (price of :meth:`.EnergyTable.prices`, component of the energy).
EVENTS: dict[str, tuple[str, str]] = {
    "dram_read_activation_bytes": ("dram_byte", "dram_activations"),
    "dram_write_activation_bytes": ("dram_byte", "dram_activations"),
    "dram_read_weight_bytes": ("dram_byte", "dram_weights"),
    "dram_read_instruction_bytes": ("dram_byte", "dram_instructions"),
    **{
        f"{mem}_{way}_bytes": (f"{mem}_byte", mem if mem == "acc" else f"sram_{mem}")
        for mem in _MEMORIES
        for way in ("read", "write")
    },
    "mac_8x8": ("mac_8x8", "mac"),
    "mac_8x13": ("mac_8x13", "mac"),
    "booth_digits": ("booth_digit", "mac"),
    "psum_updates": ("psum", "psum"),
    "fifo_bytes": ("fifo_byte", "fifo"),
    "picker_bytes": ("picker_byte", "picker"),
    "rebuild_shift_adds": ("shift_add", "rebuild"),
    "alu_adds": ("add32", "alu"),
    "alu_mults": ("mult32", "alu"),
    "alu_shifts": ("shift32", "alu"),
    "alu_moves": ("move32", "alu"),
    "requantised_values": ("requantise", "requant"),
}

#: The table's own values.
NOMINAL = "nominal"


def _corners() -> dict[str, dict[str, Corner]]:
    out: dict[str, dict[str, Corner]] = {NOMINAL: {}}
    ends: tuple[Corner, Corner] = ("low", "high")
    for choice in product(ends, repeat=len(GROUPS)):
        out[" ".join(f"{g}={c}" for g, c in zip(GROUPS, choice, strict=True))] = dict(
            zip(GROUPS, choice, strict=True)
        )
    return out


#: Name of a corner -> end of the entries of each group; the nominal values first.
CORNERS: dict[str, dict[str, Corner]] = _corners()


def event_prices(config: AcceleratorConfig) -> dict[str, dict[str, int]]:
    """Integer fJ of every event at every corner of the configuration's table: corner -> event -> fJ."""
    out = {}
    for name, choice in CORNERS.items():
        prices = config.energy_fj(choice)
        out[name] = {event: prices[price] for event, (price, _) in EVENTS.items()}
    return out


def energy_of(events: Mapping[str, int], prices: Mapping[str, int]) -> int:
    """Femtojoules of counted events.

    Raises
    ------
    KeyError
        If an event that happened has no price.
    """
    return sum(count * prices[event] for event, count in events.items() if count)
