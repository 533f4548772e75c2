"""Shapes of the single layers that are rows: ours, the peers' and those that are tuned for TVM are these."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Dense:
    """y = x W^T for W (m, k) and x (batch, k)."""

    m: int
    k: int
    batch: int = 1

    @property
    def family(self) -> str:
        """``gemv`` or ``gemm``."""
        return "gemv" if self.batch == 1 else "gemm"

    @property
    def key(self) -> str:
        """Name of the row."""
        return f"{self.family} {self.m}x{self.k}" + ("" if self.batch == 1 else f" batch {self.batch}")


@dataclass(frozen=True)
class Conv:
    """``c`` to ``m`` channels at ``size`` x ``size`` pixels, batch 1, padding that keeps the size."""

    m: int
    c: int
    size: int
    kernel: int

    @property
    def key(self) -> str:
        """Name of the row."""
        return f"conv {self.kernel}x{self.kernel} {self.c}->{self.m}@{self.size}"


VECTORS = (Dense(4096, 4096), Dense(11008, 4096), Dense(4096, 25088), Dense(1000, 4096))
BATCHES = (Dense(4096, 4096, 16), Dense(4096, 4096, 128))
CONVS = (Conv(64, 64, 56, 3), Conv(256, 256, 14, 3), Conv(512, 512, 7, 3), Conv(64, 256, 56, 1))
