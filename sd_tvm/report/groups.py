"""Energy components in a few groups that fit a table; nothing is lost, sums stay exact."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

#: Component of the simulator -> group. A component that is not here is a group of its own.
GROUP_OF: dict[str, str] = {
    "dram_weights": "DRAM weights",
    "dram_activations": "DRAM activ.",
    "dram_instructions": "DRAM instr.",
    "sram_inp": "SRAM",
    "sram_code": "SRAM",
    "sram_basis": "SRAM",
    "sram_idx": "SRAM",
    "sram_qp": "SRAM",
    "sram_lut": "SRAM",
    "sram_out": "SRAM",
    "acc": "ACC",
    "mac": "MAC",
    "psum": "MAC",
    "fifo": "MAC",
    "picker": "rebuild",
    "rebuild": "rebuild",
    "alu": "ALU",
    "requant": "ALU",
}


def group_names(components: Iterable[str]) -> tuple[str, ...]:
    """Groups of these components: those of :data:`GROUP_OF` in its order, then the others."""
    present = {GROUP_OF.get(name, name): None for name in components}
    known = [name for name in dict.fromkeys(GROUP_OF.values()) if name in present]
    return (*known, *(name for name in present if name not in known))


def grouped(energy_fj: Mapping[str, int] | None) -> dict[str, int]:
    """Femtojoules by group."""
    out: dict[str, int] = {}
    for name, value in (energy_fj or {}).items():
        group = GROUP_OF.get(name, name)
        out[group] = out.get(group, 0) + value
    return out
