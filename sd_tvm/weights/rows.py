"""Geometry: how a weight tensor (M, Cg, KH, KW) becomes rows of S elements.

``taps`` (kernels with 2 <= KW <= 8): S = KW, row r = c*KH + ky holds w[m, c, ky, :]; this is the
paper's (C*R) x S matrix of a filter (SmartExchange, arXiv 2005.03403).
``channels`` (everything else, so 1x1, dense, very wide kernels): S = 3, row
r = (c3*KH + ky)*KW + kx holds w[m, 3*c3 : 3*c3+3, ky, kx], zero beyond Cg; for 1x1 this is the
paper's zero-padded (C/3) x 3 matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

RowKind = Literal["taps", "channels"]
MAX_TAPS = 8
CHANNEL_ROW = 3
ROWS_PER_BLOCK = 16


@dataclass(frozen=True)
class RowGeometry:
    """Row view of a weight of shape (M, Cg, KH, KW)."""

    shape: tuple[int, int, int, int]

    @property
    def kind(self) -> RowKind:
        """``taps`` or ``channels``."""
        return "taps" if 2 <= self.shape[3] <= MAX_TAPS else "channels"

    @property
    def s(self) -> int:
        """Elements of a row; the basis is s x s."""
        return self.shape[3] if self.kind == "taps" else CHANNEL_ROW

    @property
    def rows(self) -> int:
        """Rows of a filter (R)."""
        _, cg, kh, kw = self.shape
        if self.kind == "taps":
            return cg * kh
        return -(-cg // CHANNEL_ROW) * kh * kw

    @property
    def blocks(self) -> int:
        """Blocks of 16 consecutive rows, the last one possibly short."""
        return -(-self.rows // ROWS_PER_BLOCK)

    def to_rows(self, weight: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """(M, Cg, KH, KW) -> (M, R, S), any dtype."""
        m, cg, kh, kw = self.shape
        if self.kind == "taps":
            return np.ascontiguousarray(weight.reshape(m, cg * kh, kw))
        pad = -cg % CHANNEL_ROW
        w = np.pad(weight, ((0, 0), (0, pad), (0, 0), (0, 0)))
        w = w.reshape(m, -1, CHANNEL_ROW, kh, kw).transpose(0, 1, 3, 4, 2)
        return np.ascontiguousarray(w.reshape(m, self.rows, CHANNEL_ROW))

    def from_rows(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """(M, R, S) -> (M, Cg, KH, KW); the padding elements are dropped."""
        m, cg, kh, kw = self.shape
        if self.kind == "taps":
            return np.ascontiguousarray(rows.reshape(m, cg, kh, kw))
        w = rows.reshape(m, -1, kh, kw, CHANNEL_ROW).transpose(0, 1, 4, 2, 3)
        return np.ascontiguousarray(w.reshape(m, -1, kh, kw)[:, :cg])
