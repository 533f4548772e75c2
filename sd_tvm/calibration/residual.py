"""Moments of one output position: the weight that they ask for, and what a weight leaves of the output."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sd_tvm.calibration.data import Array
from sd_tvm.calibration.moments import Moments
from sd_tvm.decompose.calibrated import wanted_weight
from sd_tvm.weights.rows import RowGeometry

F64 = npt.NDArray[np.float64]


def per_position(moments: Moments, *, centred: bool) -> tuple[F64, F64]:
    """Second moments (G, K, K) and cross moments (M, K) of one output position; centred: without means."""
    if moments.yx is None or moments.y is None:
        raise TypeError("moments without a reference")
    count, groups = max(moments.count, 1), moments.groups
    hessian, cross = moments.xx / count, moments.yx / count
    if centred:
        mean = moments.mean
        hessian = moments.centred() / count
        cross = cross - (moments.y / count)[:, None] * np.repeat(mean, cross.shape[0] // groups, axis=0)
    return (hessian + hessian.transpose(0, 2, 1)) / 2, cross


def wanted_array(weight: Array, hessian: F64, cross: F64, ridge: float) -> F64:
    """Weight (M, Cg, KH, KW) that comes nearest to the wanted outputs, held at ``weight`` by a ridge.

    hessian (G, K, K) and cross (M, K) are those of :func:`per_position`.
    """
    geometry = RowGeometry(weight.shape)
    flat = geometry.to_rows(weight.astype(np.float64)).reshape(len(hessian), -1, hessian.shape[1])
    target = wanted_weight(flat, hessian, cross.reshape(flat.shape), ridge)
    return geometry.from_rows(target.reshape(geometry.shape[0], geometry.rows, geometry.s))


def left_over(weight: Array, moments: Moments, *, biased: bool) -> tuple[float, F64]:
    """What a weight (M, Cg, KH, KW) leaves of the output: squared error over variance, and filters' means.

    The mean error of each filter, float64 (M,), does not count as error where the layer has a bias: the bias
    takes it.
    """
    if moments.yx is None or moments.y is None or moments.yy is None:
        raise TypeError("moments without a reference")
    count = max(moments.count, 1)
    rows = moments.geometry.to_rows(weight).astype(np.float64).reshape(moments.groups, -1, moments.x.shape[1])
    filters = moments.y.size
    mean = (moments.y - np.einsum("gmk,gk->gm", rows, moments.x).reshape(-1)) / count
    cross = np.einsum("mk,mk->m", rows.reshape(filters, -1), moments.yx)
    square = (moments.yy - 2 * cross + moments.error(weight)) / count
    left = square - (mean**2 if biased else 0.0)
    spread = moments.yy / count - (moments.y / count) ** 2
    return max(float(left.sum()), 0.0) / max(float(spread.sum()), 1e-30), mean
