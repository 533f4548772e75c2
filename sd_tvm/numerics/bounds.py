"""Overflow bounds of integer layers, computed from their actual weights (docs/numerics.md)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm.errors import NumericsError
from sd_tvm.layers import ActDType
from sd_tvm.numerics.fixedpoint import INT32_MAX

#: Largest magnitude of an 8-bit activation.
Q_MAX: dict[str, int] = {"uint8": 255, "int8": 128}


def folded_bias(
    bias_q: npt.NDArray[np.int64], weight: npt.NDArray[Any], zero_point: int
) -> npt.NDArray[np.int64]:
    """bias' = bias_q - z * sum(w), int64 (M,), from integer weights (M, ...)."""
    sums = weight.astype(np.int64).reshape(weight.shape[0], -1).sum(axis=1)
    return np.asarray(bias_q.astype(np.int64) - zero_point * sums)


def accumulator_bound(
    weight: npt.NDArray[Any], bias: npt.NDArray[np.int64], in_dtype: ActDType
) -> npt.NDArray[np.int64]:
    """Largest magnitude any partial sum of each filter can have, int64 (M,).

    Parameters
    ----------
    weight
        Integer weights, (M, Cg, KH, KW).
    bias
        Folded bias, (M,).
    in_dtype
        Activation type; its largest magnitude multiplies sum |w|.
    """
    total = np.abs(weight.astype(np.int64)).reshape(weight.shape[0], -1).sum(axis=1)
    return np.asarray(np.abs(bias) + Q_MAX[in_dtype] * total)


def accumulator_range(
    weight: npt.NDArray[Any], bias: npt.NDArray[np.int64], in_dtype: ActDType
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Least and largest sum each filter can have, int64 (M,); takes what :func:`accumulator_bound` does."""
    info, flat = np.iinfo(in_dtype), weight.reshape(weight.shape[0], -1)
    up = np.maximum(flat, 0).sum(axis=1, dtype=np.int64)
    down = flat.sum(axis=1, dtype=np.int64) - up
    return bias + info.min * up + info.max * down, bias + info.max * up + info.min * down


def check_bound(
    weight: npt.NDArray[Any],
    bias: npt.NDArray[np.int64],
    in_dtype: ActDType,
    shift: npt.NDArray[np.int64] | None = None,
    *,
    name: str = "layer",
) -> None:
    """Refuse a layer whose int32 accumulator, shifted left by its multiplier, could overflow.

    Parameters
    ----------
    weight, bias, in_dtype
        As :func:`accumulator_bound`.
    shift
        Requantisation shifts (M,); positive ones are left shifts. None for int32 results.

    Raises
    ------
    NumericsError
        Naming the worst filter and its bound.
    """
    bound = accumulator_bound(weight, bias, in_dtype)
    left = np.zeros_like(bound) if shift is None else np.maximum(shift.astype(np.int64), 0)
    check_left_shift(bound, left, name=name)


def check_left_shift(bound: npt.NDArray[np.int64], left: npt.NDArray[np.int64], *, name: str) -> None:
    """Refuse values that could leave int32 when a multiplier shifts them left.

    Parameters
    ----------
    bound
        Largest magnitude of each value, (M,).
    left
        Left shifts (M,), 0..30.

    Raises
    ------
    NumericsError
        Naming the worst one and its bound.
    """
    # the limit is shifted, not the bound: that could leave int64
    over = np.flatnonzero(bound > (np.int64(INT32_MAX) >> left))
    if over.size:
        worst = int(over[np.argmax(bound[over])])
        raise NumericsError(
            f"{name}: filter {worst} can reach {int(bound[worst]) << int(left[worst])}",
            expected=f"at most {INT32_MAX} (int32)",
            fix="use an alphabet with smaller codes, int8 weights, or leave the layer in float32",
        )
