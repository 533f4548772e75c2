"""What every accelerator of a comparison has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from sd_tvm.accelerator.config.energy import Corner, EnergyTable
from sd_tvm.errors import ConfigError

Schedule = Literal["layer", "chain", "fused"]


@dataclass(frozen=True)
class Resources:
    """Equal resources.

    Parameters
    ----------
    macs
        8 x 8 bit multipliers.
    lanes_per_mac
        Serial lanes that count as one multiplier (equal peak, not equal area).
    sram_bytes
        Operand buffers: activations, weights, outputs. Partial sums and control are not counted for anybody.
    dram_bytes_per_cycle
        0: not limiting.
    clock_mhz
        Only converts cycles to seconds.
    schedule
        ``layer``: activations of every layer through DRAM; ``chain``: tensors of at most half the activation
        buffer stay on chip; ``fused``: chain, and inner tensors of blocks stay on chip by row tiling.
    table
        Energy table; every constant has its source there.
    """

    macs: int = 1024
    lanes_per_mac: int = 8
    sram_bytes: int = 772 * 1024
    dram_bytes_per_cycle: int = 16
    clock_mhz: int = 1000
    schedule: Schedule = "chain"
    table: str = "28nm-smartexchange"

    def __post_init__(self) -> None:
        if self.macs < 16 or self.macs & (self.macs - 1):
            raise ConfigError(f"macs = {self.macs}", expected="a power of two of at least 16", fix="round it")
        if min(self.lanes_per_mac, self.sram_bytes, self.clock_mhz) < 1 or self.dram_bytes_per_cycle < 0:
            raise ConfigError(f"{self}", expected="positive resources", fix="correct the value")

    @property
    def serial_lanes(self) -> int:
        """Serial lanes of a bit-serial accelerator."""
        return self.macs * self.lanes_per_mac

    def prices(self, banks: Mapping[str, int], corners: Mapping[str, Corner] | None = None) -> dict[str, int]:
        """fJ of each event; ``banks``: memory name -> bytes of a bank."""
        return _prices(self.table, tuple(sorted(banks.items())), tuple(sorted((corners or {}).items())))


@lru_cache(maxsize=4096)
def _prices(
    table: str, banks: tuple[tuple[str, int], ...], corners: tuple[tuple[str, Corner], ...]
) -> dict[str, int]:
    return EnergyTable.load(table).prices(dict(banks), dict(corners))


def bank_bytes(size: int, width: int) -> int:
    """Bytes of a bank: as many banks as 16 bytes a cycle each need, and none above 16 KB."""
    return max(64, size // max(-(-width // 16), -(-size // 16384)))
