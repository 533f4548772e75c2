"""Area proxy of a configuration in gate equivalents (GE, two-input NAND gates): an estimate.

Counts are of the blocks that a sweep changes; none comes from synthesis and each may be wrong by 40 %. Use
the proxy to compare configurations of one family, never as the area of a chip. Not counted: instruction
fetch and queues, DRAM interface, wiring, clock tree.
"""

from __future__ import annotations

from dataclasses import dataclass

from sd_tvm.accelerator.config import AcceleratorConfig


@dataclass(frozen=True)
class Gates:
    """Gate equivalents of one block, with what they stand for."""

    ge: int
    block: str


#: Relative uncertainty of every entry below, in percent.
UNCERTAINTY_PERCENT = 40
MAC_10 = Gates(970, "8 x 10 bit multiplier with a 24-bit accumulator (rebuilt weights)")
MAC_13 = Gates(1150, "8 x 13 bit multiplier with a 24-bit accumulator (exact rebuilt weights)")
MAC_8 = Gates(850, "8 x 8 bit multiplier with a 24-bit accumulator (raw weights only)")
REBUILD = Gates(
    2200,
    "rebuild engine: three 16-bit adders 430, shifters 300, two 9-byte bases 940, registers 290, decode 150",
)
PICKER = Gates(285, "16:1 byte multiplexer, one a multiplier (only where there are rebuild engines)")
FIFO = Gates(1000, "two input FIFOs of a line")
ALU_LANE = Gates(9000, "vector lane: 32 x 32 bit multiplier, adder, shifter, comparator, requantisation")
SRAM_BYTE = Gates(4, "eight bit cells and their share of the periphery: half a gate a bit")
BLOCKS = {
    "MAC_10": MAC_10,
    "MAC_13": MAC_13,
    "MAC_8": MAC_8,
    "REBUILD": REBUILD,
    "PICKER": PICKER,
    "FIFO": FIFO,
    "ALU_LANE": ALU_LANE,
    "SRAM_BYTE": SRAM_BYTE,
}


def area_ge(config: AcceleratorConfig) -> dict[str, int]:
    """Gate equivalents by part: ``array``, ``rebuild``, ``alu``, ``sram``.

    Parameters
    ----------
    config
        A configuration with a parallel array.
    """
    a = config.array
    lines = a.m_slices * a.c_lines
    multipliers = lines * a.lanes_per_line
    mac = MAC_8 if not config.rebuilds else MAC_13 if a.rebuilt_bits is None else MAC_10
    engines = lines // a.lines_per_re if a.lines_per_re else 0
    kilobytes = sum(int(kb) for kb in config.sram.model_dump().values())
    return {
        "array": multipliers * mac.ge + lines * FIFO.ge,
        "rebuild": engines * REBUILD.ge + (multipliers * PICKER.ge if config.rebuilds else 0),
        "alu": config.alu.lanes * ALU_LANE.ge,
        "sram": kilobytes * 1024 * SRAM_BYTE.ge,
    }
