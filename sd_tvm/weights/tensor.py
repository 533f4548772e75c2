"""Containers of quantised weights: SD form and raw int8.

Logical arrays only; :mod:`sd_tvm.weights.packing` turns them into the bytes of the file, of DRAM
and of the CPU kernels (all the same bytes).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from sd_tvm.weights.alphabet import Alphabet, get_alphabet
from sd_tvm.weights.rows import RowGeometry

Pattern = Literal["16:16", "8:16", "4:16", "2:16", "shared"]
BasisKind = Literal["filter", "slice", "codebook"]

#: Rows kept in each block of 16, by pattern; ``shared`` keeps ``kept_rows`` in each group.
ROWS_KEPT: dict[str, int] = {"16:16": 16, "8:16": 8, "4:16": 4, "2:16": 2}


@dataclass(frozen=True)
class WeightForm:
    """How a layer's weight is written in SD form.

    Attributes
    ----------
    pattern
        Row sparsity. ``N:16``: at most N non-zero rows in every block of 16 rows of every filter.
        ``shared``: every group of ``group_filters`` consecutive filters keeps the same
        ``kept_rows`` rows.
    alphabet
        Name in :data:`sd_tvm.weights.alphabet.ALPHABETS`.
    basis_kind
        ``filter``: one basis a filter. ``slice``: one basis for every ``slice_rows`` rows of a
        filter (a multiple of 16). ``codebook``: at most 256 bases for the layer, one id a filter.
    slice_rows
        Only for ``slice``; else 0.
    kept_rows, group_filters
        Only for ``shared``; else 0. ``group_filters`` is a multiple of 16, at most 240.
    """

    pattern: Pattern = "16:16"
    alphabet: str = "two-term"
    basis_kind: BasisKind = "filter"
    slice_rows: int = 0
    kept_rows: int = 0
    group_filters: int = 0

    @property
    def table(self) -> Alphabet:
        """The alphabet itself."""
        return get_alphabet(self.alphabet)

    @property
    def indexed(self) -> bool:
        """Whether a kept row carries a 4-bit row index (8:16, 4:16, 2:16)."""
        return self.pattern in ("8:16", "4:16", "2:16")

    def planes(self, s: int) -> int:
        """Nibbles of a kept row: its index, where it has one, and its S codes."""
        return s + (1 if self.indexed else 0)

    def slots(self, geometry: RowGeometry) -> int:
        """Stored rows of a filter, padded to a multiple of 4."""
        if self.pattern == "16:16":
            n = geometry.rows
        elif self.pattern == "shared":
            n = self.kept_rows
        else:
            n = geometry.blocks * ROWS_KEPT[self.pattern]
        return -(-n // 4) * 4

    def n_slices(self, geometry: RowGeometry) -> int:
        """Bases a filter has (1 unless ``slice``)."""
        return -(-geometry.rows // self.slice_rows) if self.basis_kind == "slice" else 1


@dataclass(frozen=True)
class SDWeight:
    """A weight W[m] ~= scale[m] * Ce[m] . B, integers but for the scale.

    Attributes
    ----------
    shape
        (M, Cg, KH, KW); dense layers have KH = KW = 1.
    form
        Pattern, alphabet and basis kind.
    coef
        int8 (M, R, S): coefficient values, rows that the pattern drops are zero.
    basis
        int8 (NB, S, S): row k is what coefficient k multiplies. NB = M (filter), M * n_slices
        (slice, index m * n_slices + r // slice_rows) or at most 256 (codebook).
    ids
        uint8 (M,) for ``codebook``, else None.
    scale
        float32 (M,), real value of one integer unit of filter m.
    """

    shape: tuple[int, int, int, int]
    form: WeightForm
    coef: npt.NDArray[np.int8]
    basis: npt.NDArray[np.int8]
    scale: npt.NDArray[np.float32]
    ids: npt.NDArray[np.uint8] | None = None

    @property
    def geometry(self) -> RowGeometry:
        """Row view of :attr:`shape`."""
        return RowGeometry(self.shape)

    def basis_of_rows(self) -> npt.NDArray[np.int64]:
        """Index into :attr:`basis` of every row, int64 (M, R)."""
        m, r = self.shape[0], self.geometry.rows
        if self.form.basis_kind == "codebook":
            if self.ids is None:
                raise ValueError("a codebook weight has ids")
            return np.repeat(self.ids.astype(np.int64)[:, None], r, axis=1)
        n = self.form.n_slices(self.geometry)
        per_row = np.arange(r) // self.form.slice_rows if n > 1 else np.zeros(r, dtype=np.int64)
        return np.arange(m)[:, None] * n + per_row[None, :]

    def integer(self) -> npt.NDArray[np.int32]:
        """Exact rebuilt integer weight Ce . B, int32 (M, Cg, KH, KW)."""
        bases = self.basis.astype(np.int32)[self.basis_of_rows()]
        rows = np.einsum("mrk,mrks->mrs", self.coef.astype(np.int32), bases)
        return np.asarray(self.geometry.from_rows(rows), dtype=np.int32)

    def dequantize(self) -> npt.NDArray[np.float32]:
        """float32 (M, Cg, KH, KW): ``scale[m] * integer()``."""
        return (self.integer() * self.scale[:, None, None, None].astype(np.float64)).astype(np.float32)


@dataclass(frozen=True)
class RawWeight:
    """An int8 weight with one scale a filter.

    Attributes
    ----------
    values
        int8 (M, Cg, KH, KW), in [-127, 127].
    scale
        float32 (M,).
    """

    values: npt.NDArray[np.int8]
    scale: npt.NDArray[np.float32]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(M, Cg, KH, KW)."""
        m, c, h, w = self.values.shape
        return (m, c, h, w)

    def integer(self) -> npt.NDArray[np.int32]:
        """int32 (M, Cg, KH, KW)."""
        return self.values.astype(np.int32)

    def dequantize(self) -> npt.NDArray[np.float32]:
        """float32 (M, Cg, KH, KW)."""
        return (self.integer() * self.scale[:, None, None, None].astype(np.float64)).astype(np.float32)


Weight = SDWeight | RawWeight
