"""Integer layers of tables, products, concatenations and enlargements, by ``docs/numerics.md``. TVM-free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm.layers import ConcatLayer, LutLayer, MulLayer, ResizeLayer
from sd_tvm.numerics.qparams import QParams
from sd_tvm.relay_passes._integer import (
    MAX_Q,
    NCHW,
    NO_BOUNDS,
    Bounds,
    Integer,
    check_shifts,
    words_of,
)


def lut(name: str, shape: NCHW, table: npt.NDArray[Any], function: str, x: QParams, out: QParams) -> Integer:
    """A function of one value of (N, C, H, W), given its table."""
    n, c, h, w = shape
    layer = LutLayer(name, n, c, (h, w), function, in_dtype=x.dtype, out_dtype=out.dtype)
    return Integer(layer, [table], f"a table: {function}")


def mul(
    name: str,
    shape: NCHW,
    a: QParams,
    b: QParams,
    out: QParams,
    bounds: Bounds = NO_BOUNDS,
    *,
    b_per_channel: bool = False,
) -> Integer:
    """Product of a (N, C, H, W) and b of that shape, or (N, C, 1, 1)."""
    n, c, h, w = shape
    layer = MulLayer(
        name=name,
        batch=n,
        channels=c,
        hw=(h, w),
        b_per_channel=b_per_channel,
        a_dtype=a.dtype,
        a_zero_point=a.zero_point,
        b_dtype=b.dtype,
        b_zero_point=b.zero_point,
        out_dtype=out.dtype,
    )
    real = np.array([float(a.scale) * float(b.scale) / float(out.scale)])
    check_shifts(name, [MAX_Q * MAX_Q], real)
    return Integer(layer, [words_of(np.zeros(1, np.int64), real, out, bounds, pad=False)])


def concat(
    name: str, shapes: Sequence[NCHW], xs: Sequence[QParams], out: QParams, bounds: Bounds = NO_BOUNDS
) -> Integer:
    """Channels of several (N, C_i, H, W) side by side."""
    n, _, h, w = shapes[0]
    layer = ConcatLayer(
        name=name,
        batch=n,
        parts=tuple(shape[1] for shape in shapes),
        hw=(h, w),
        in_dtypes=tuple(x.dtype for x in xs),
        in_zero_points=tuple(x.zero_point for x in xs),
        out_dtype=out.dtype,
    )
    real = np.array([float(x.scale) / float(out.scale) for x in xs])
    check_shifts(name, [MAX_Q] * len(xs), real)
    return Integer(layer, [words_of(np.zeros(len(xs), np.int64), real, out, bounds, pad=False)])


def resize(name: str, shape: NCHW, factor: tuple[int, int], x: QParams) -> Integer:
    """Nearest neighbours of (N, C, H, W) by whole factors."""
    n, c, h, w = shape
    return Integer(ResizeLayer(name, n, c, (h, w), factor, x.dtype), [])
