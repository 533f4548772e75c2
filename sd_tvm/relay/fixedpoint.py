"""Relay's fixed-point product: an int32 times a real number, in integers, bit for bit.

A factor ``f`` is ``multiplier · 2**(shift - 31)`` with a 31-bit multiplier (:func:`decompose`). The product
is computed in int64 and rounded: ``UPWARD`` to the nearest with halves towards plus infinity, ``TONEAREST``
with halves away from zero. As Relay lowers it for plain LLVM targets; compared with 0.9 and 0.16.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from sd_tvm._tvm import relax
from sd_tvm.relay.site import Expr, Site

Rounding = Literal["UPWARD", "TONEAREST"]
#: Bits behind the point of a multiplier.
POINT = 31
_MAX_SHIFT = 62
_HALF = 1 << (POINT - 1)


def decompose(factor: float) -> tuple[int, int]:
    """(multiplier, shift) with ``factor`` ~ ``multiplier * 2**(shift - 31)``; the multiplier has 31 bits."""
    if factor == 0:
        return 0, 0
    mantissa, shift = math.frexp(factor)
    scaled = abs(mantissa) * (1 << POINT)
    multiplier = math.floor(scaled + 0.5)  # exact: scaled has at most 53 bits
    if multiplier == 1 << POINT:
        multiplier, shift = multiplier // 2, shift + 1
    return (multiplier if factor > 0 else -multiplier), shift


def multiply(s: Site, value: Expr, factor: tuple[int, int], rounding: Rounding = "UPWARD") -> Expr:
    """Product of an int32 expression with one factor, int32."""
    multiplier, shift = factor
    if multiplier == _HALF and rounding == "UPWARD":
        return _shifted(s, s.cast(value, "int32"), shift - 1)
    left, right = max(shift, 0), max(-shift, 0) + POINT
    if right > _MAX_SHIFT:
        raise s.fail(f"a factor of {multiplier} * 2**{shift - POINT}", "one that int64 can compute")
    wide = s.cast(value, "int64")
    if left:
        wide = relax.op.left_shift(wide, s.const(left, "int64"))
    wide = s.emit(relax.op.multiply(wide, s.const(multiplier, "int64")))
    return _rounded(s, wide, s.const(1 << (right - 1), "int64"), s.const(right, "int64"), rounding)


def multiply_along(
    s: Site, value: Expr, factors: Sequence[tuple[int, int]], shape: Sequence[int], rounding: Rounding
) -> Expr:
    """Product of an int32 expression with factors along an axis (broadcast from ``shape``), int32."""
    multipliers, shifts = (np.array(x, dtype=np.int64) for x in zip(*factors, strict=True))
    left, right = np.maximum(shifts, 0), np.maximum(-shifts, 0) + POINT
    if right.max(initial=0) > _MAX_SHIFT:
        raise s.fail(f"a factor of 2**{-right.max()}", "factors that int64 can compute")
    wide = s.cast(value, "int64")
    if left.any():
        wide = relax.op.left_shift(wide, s.const(left.reshape(shape)))
    wide = s.emit(relax.op.multiply(wide, s.const(multipliers.reshape(shape))))
    half = np.left_shift(np.int64(1), right - 1)
    return _rounded(s, wide, s.const(half.reshape(shape)), s.const(right.reshape(shape)), rounding)


def _rounded(s: Site, wide: Expr, half: Expr, right: Expr, rounding: Rounding) -> Expr:
    if rounding == "TONEAREST":
        negative = s.cast(relax.op.less(wide, s.const(0, "int64")), "int64")
        half = relax.op.subtract(half, negative)
    return s.cast(relax.op.right_shift(relax.op.add(wide, half), right), "int32")


def _shifted(s: Site, value: Expr, exponent: int) -> Expr:
    """A power of two as factor, for which Relay stays in int32."""
    if exponent >= 0:
        return s.emit(relax.op.left_shift(value, s.const(exponent, "int32"))) if exponent else value
    if -exponent > POINT:
        raise s.fail(f"a factor of 2**{exponent}", "one that int32 can compute")
    half = s.const(1 << (-exponent - 1), "int32")
    return s.emit(relax.op.right_shift(relax.op.add(value, half), s.const(-exponent, "int32")))
