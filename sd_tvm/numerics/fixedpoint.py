"""Fixed-point requantisation, integer only (gemmlowp doc/quantization.md; Jacob et al. 2018).

Everything here is defined in ``docs/numerics.md``; this is that definition in plain NumPy.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm.errors import NumericsError

INT32_MAX = 2**31 - 1
MAX_LEFT_SHIFT = 30
MAX_RIGHT_SHIFT = 31


def quantize_multiplier(real: float) -> tuple[int, int]:
    """Fixed-point form of a non-negative real multiplier.

    Returns
    -------
    tuple of int
        (M0, shift): real ~= M0 * 2^(shift - 31), M0 in [2^30, 2^31) or 0, shift in [-31, 30];
        a positive shift is a left shift.

    Raises
    ------
    NumericsError
        If the multiplier is negative, not finite or at least 2^30.
    """
    if not math.isfinite(real) or real < 0:
        raise NumericsError(
            f"requantisation multiplier {real}",
            expected="a finite number >= 0",
            fix="check the scales of the layer",
        )
    if real == 0.0:
        return 0, 0
    fraction, shift = math.frexp(real)
    m0 = round(fraction * 2**31)
    if m0 == 2**31:
        m0 //= 2
        shift += 1
    if shift < -MAX_RIGHT_SHIFT:
        return 0, 0
    if shift > MAX_LEFT_SHIFT:
        raise NumericsError(
            f"requantisation multiplier {real} is too large",
            expected="less than 2^30",
            fix="check the scales of the layer",
        )
    return m0, shift


def saturating_rounding_doubling_high_mul(
    a: npt.NDArray[np.int64], m0: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """(a * m0 + nudge) / 2^31, truncated, as gemmlowp does it: ties go up (m0 >= 0)."""
    ab = a * m0
    nudge = np.where(ab >= 0, 1 << 30, 1 - (1 << 30))
    total = ab + nudge
    return np.where(total >= 0, total >> 31, -((-total) >> 31))


def rounding_divide_by_pot(
    x: npt.NDArray[np.int64], exponent: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """round(x / 2^exponent), ties away from zero, as gemmlowp does it."""
    mask = (np.int64(1) << exponent) - 1
    remainder = x & mask
    threshold = (mask >> 1) + (x < 0)
    return (x >> exponent) + (remainder > threshold)


def mbqm(x: npt.NDArray[Any], m0: npt.ArrayLike, shift: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Multiply int32 values by a quantised multiplier.

    Parameters
    ----------
    x
        Integers that fit int32, also after the left shift.
    m0, shift
        As :func:`quantize_multiplier` returns them, broadcast against x.

    Raises
    ------
    NumericsError
        If x, shifted left, leaves int32.
    """
    x64 = x.astype(np.int64)
    m = np.asarray(m0, dtype=np.int64)
    e = np.asarray(shift, dtype=np.int64)
    shifted = x64 << np.maximum(e, 0)
    if shifted.size and max(int(shifted.max()), -int(shifted.min())) > INT32_MAX:
        raise NumericsError(
            "a value leaves int32 before requantisation",
            expected="values that the layer's bound admits",
            fix="report this: the bound check should have refused the layer",
        )
    return rounding_divide_by_pot(
        saturating_rounding_doubling_high_mul(shifted, m), np.maximum(-e, 0)
    )
