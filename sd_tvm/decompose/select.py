"""SD form or int8, by the bytes that really are stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm.decompose.basis8 import guard_scales
from sd_tvm.decompose.fit import N_BASES
from sd_tvm.errors import NumericsError
from sd_tvm.weights.packing import packed_nbytes
from sd_tvm.weights.rows import RowGeometry
from sd_tvm.weights.tensor import RawWeight, WeightForm
from sd_tvm.weights.verify import MAX_CODEBOOK, basis_count, ceil_to

MAX_INT8 = 127


@dataclass(frozen=True)
class Decision:
    """How a layer's weight is stored, and why.

    Attributes
    ----------
    form
        SD form, or None for int8 with one scale a filter.
    n_bases
        Bases of the layer in SD form (0 for int8).
    bytes_sd, bytes_raw
        Bytes in SD form and in int8, padding and scales included.
    reason
        For the report.
    """

    form: WeightForm | None
    n_bases: int
    bytes_sd: int
    bytes_raw: int
    reason: str

    @property
    def nbytes(self) -> int:
        """Bytes as decided."""
        return self.bytes_raw if self.form is None else self.bytes_sd


def decide(
    shape: tuple[int, int, int, int], form: WeightForm, *, n_bases: int = N_BASES, margin: float = 0.0
) -> Decision:
    """Decide one layer.

    Parameters
    ----------
    shape
        (M, Cg, KH, KW).
    form
        The SD form wanted.
    n_bases
        Bases of a codebook; ignored for the other kinds.
    margin
        Part of the int8 bytes that SD form must save to be worth its error.

    Raises
    ------
    FormatError
        If the form is invalid for the shape.
    """
    raw = packed_nbytes(shape, None)
    count = basis_count(shape, form)
    if count is None:
        count = max(1, min(n_bases, shape[0], MAX_CODEBOOK))
    size = packed_nbytes(shape, form, count)
    s = RowGeometry(shape).s
    bases = count * ceil_to(s * s, 16)
    sizes = f"SD form takes {size} bytes ({bases} of them bases), int8 {raw}"
    if size < raw * (1 - margin):
        return Decision(form, count, size, raw, sizes)
    wanted = f"; it must save {margin:.0%}" if margin else ""
    return Decision(None, 0, size, raw, f"{sizes}{wanted}")


def quantize_raw(weight: npt.NDArray[Any]) -> RawWeight:
    """int8 weight, symmetric, one scale a filter (a filter of zeros gets a usable scale too).

    Parameters
    ----------
    weight
        Float (M, Cg, KH, KW).

    Raises
    ------
    NumericsError
        If a value is not finite.
    """
    if not np.isfinite(weight).all():
        raise NumericsError(
            "the weight has values that are not finite",
            expected="finite float32",
            fix="check the trained model",
        )
    scale = guard_scales(np.abs(weight).reshape(weight.shape[0], -1).max(axis=1) / MAX_INT8)
    values = np.rint(weight / scale.astype(np.float64)[:, None, None, None])
    return RawWeight(np.clip(values, -MAX_INT8, MAX_INT8).astype(np.int8), scale)
