"""What kernels know of sixteen filters besides their weights: a block of fields, one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm.layers import LANES
from sd_tvm.schedules.cpu.vec import Buffer, Expr, as_type, i64, load


@dataclass(frozen=True)
class Fields:
    """How a block lies in memory.

    Attributes
    ----------
    sizes
        Bytes that each field has for a filter, in order.
    """

    sizes: Mapping[str, int]

    @property
    def block_bytes(self) -> int:
        """Bytes of a block."""
        return LANES * sum(self.sizes.values())

    @property
    def offsets(self) -> dict[str, int]:
        """First byte of each field in a block."""
        firsts = accumulate((LANES * size for size in self.sizes.values()), initial=0)
        return dict(zip(self.sizes, firsts, strict=False))

    def pack(self, values: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.uint8]:
        """uint8 (MB, :attr:`block_bytes`) from (16 * MB,) of each field, whose type has its size."""
        each = (np.ascontiguousarray(values[name]).reshape(-1, LANES).view(np.uint8) for name in self.sizes)
        return np.ascontiguousarray(np.concatenate(list(each), axis=1))


class BlockReader:
    """Reads a block of a flat uint8 buffer of :meth:`Fields.pack`; it has a field ``bias`` of 4 bytes.

    Parameters
    ----------
    fields
        How blocks lie.
    buffer
        The buffer.
    block
        Which block.
    """

    def __init__(self, fields: Fields, buffer: Buffer, block: Expr) -> None:
        self._sizes, self._offsets, self._buffer = fields.sizes, fields.offsets, buffer
        self._base = block * i64(fields.block_bytes)

    def field(self, name: str, dtype: str, lanes: int = LANES, first: int = 0) -> Expr:
        """``lanes`` filters from ``first`` on."""
        size = self._sizes[name]
        at = self._base + i64(self._offsets[name] + first * size)
        return as_type(load(self._buffer, at, lanes * size), f"{dtype}x{lanes}")

    def bias(self, first: int = 0, lanes: int = LANES) -> Expr:
        """uint32 biases of ``lanes`` filters from ``first`` on."""
        return self.field("bias", "uint32", lanes, first)
