"""From a real range to the scale and zero point of an 8-bit activation (``docs/numerics.md``)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sd_tvm.errors import CalibrationError, UnsupportedDTypeError
from sd_tvm.layers import ActDType

#: Smallest and largest integer of an activation type.
INTEGERS: dict[str, tuple[int, int]] = {"uint8": (0, 255), "int8": (-128, 127)}
#: A range narrower than this times its distance from zero (or than this) becomes one of this width.
SMALLEST_RANGE = 1e-6


@dataclass(frozen=True)
class QParams:
    """Quantisation of one activation: real = scale * (q - zero_point).

    Attributes
    ----------
    scale
        A positive number that float32 holds exactly.
    zero_point
        An integer of ``dtype``.
    dtype
        ``uint8`` or ``int8``.
    """

    scale: float
    zero_point: int
    dtype: ActDType = "uint8"

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest real value."""
        lo, hi = INTEGERS[self.dtype]
        return self.scale * (lo - self.zero_point), self.scale * (hi - self.zero_point)


def choose_qparams(lo: float, hi: float, dtype: ActDType = "uint8") -> QParams:
    """Quantisation that covers [lo, hi] and represents zero exactly.

    The range is widened to hold zero; the zero point is rounded to the nearest integer, which moves the
    range by at most half a step. A range without width (all values equal) gets a small positive one.

    Raises
    ------
    CalibrationError
        If lo or hi is not finite, or lo > hi.
    UnsupportedDTypeError
        If ``dtype`` is neither uint8 nor int8.
    """
    if dtype not in INTEGERS:
        raise UnsupportedDTypeError(f"activations of type {dtype!r}", expected="uint8 or int8")
    if not (math.isfinite(lo) and math.isfinite(hi) and lo <= hi):
        raise CalibrationError(
            f"activation range [{lo}, {hi}]",
            expected="two finite numbers in order",
            fix="check the calibration data for NaN, infinities and values far out of the model's range",
        )
    lo, hi = min(lo, 0.0), max(hi, 0.0)
    hi = max(hi, lo + SMALLEST_RANGE)
    first, last = INTEGERS[dtype]
    scale = float(np.float32((hi - lo) / (last - first)))
    zero_point = int(np.clip(round(first - lo / scale), first, last))
    return QParams(scale, zero_point, dtype)
