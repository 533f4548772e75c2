"""The reference without a basis: int4 values -7..7, one scale a filter, rows kept as in the SD recipe.

Trained by the same parametrisation and loop. No file form packs it: its bytes are computed, and the network
runs as int8 values with the same integers.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sd_tvm.decompose.basis8 import guard_scales
from sd_tvm.decompose.fit import keep_rows
from sd_tvm.training.handle import Handle
from sd_tvm.training.parametrization import CompressedForm
from sd_tvm.weights.rows import ROWS_PER_BLOCK, RowGeometry
from sd_tvm.weights.tensor import ROWS_KEPT, RawWeight, WeightForm

Array = npt.NDArray[np.float32]
TOP = 7
#: Clips tried, parts of the largest magnitude.
CLIPS = np.linspace(0.4, 1.0, 13)


def quantize(weight: Array, form: WeightForm, scale: npt.NDArray[np.float32] | None = None) -> RawWeight:
    """Sparse int4 of a weight (M, Cg, KH, KW); without a scale, that of least squared error."""
    m, _, kh, kw = weight.shape
    geometry = RowGeometry((m, weight.shape[1], kh, kw))
    rows = geometry.to_rows(weight)
    rows = rows * keep_rows((rows.astype(np.float64) ** 2).sum(axis=2), form)[:, :, None]
    flat = rows.reshape(m, -1).astype(np.float64)
    if scale is None:
        tried = [guard_scales(np.abs(flat).max(axis=1) * clip / TOP) for clip in CLIPS]
        errors = [((_levels(flat, s) * s[:, None] - flat) ** 2).sum(axis=1) for s in tried]
        scale = np.stack(tried)[np.argmin(errors, axis=0), np.arange(m)]
    values = geometry.from_rows(_levels(flat, scale).reshape(rows.shape).astype(np.int8))
    return RawWeight(values, scale)


def _levels(flat: npt.NDArray[np.float64], scale: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    return np.clip(np.rint(flat / scale[:, None].astype(np.float64)), -TOP, TOP)


def use_int4(handle: Handle) -> None:
    """Let every layer in SD form train as int4 with the same pattern instead."""
    for layer in handle.layers.values():
        if layer.form.plan.form is not None:
            _replace(layer.form, layer.form.plan.form)
            layer.form.fit(layer.master, None)


def _replace(parametrization: CompressedForm, form: WeightForm) -> None:
    def fit(master: object, _rows: int | None) -> int:
        return parametrization._set(quantize(parametrization.array(master), form))

    def search(master: object) -> int:
        held = parametrization.weight.scale
        return parametrization._set(quantize(parametrization.array(master), form, held))

    parametrization.weight = RawWeight(np.zeros(parametrization.shape, np.int8), np.ones(1, np.float32))
    parametrization.fit, parametrization.search = fit, search  # type: ignore[method-assign]


def nbytes(handle: Handle) -> int:
    """Bytes of the weights and scales: a bit a row, 4 bits a value of a kept row; int8 layers as they are."""
    total = 0
    for layer in handle.layers.values():
        form, geometry = layer.form.plan.form, RowGeometry(layer.form.shape)
        m = layer.form.shape[0]
        if form is None:
            total += int(np.prod(layer.form.shape)) + 4 * m
            continue
        kept = ROWS_KEPT[form.pattern]
        mask = ROWS_PER_BLOCK * geometry.blocks if kept < ROWS_PER_BLOCK else 0
        slots = geometry.blocks * kept if kept < ROWS_PER_BLOCK else geometry.rows
        total += -(-m * (mask + 4 * geometry.s * slots) // 8) + 4 * m
    return total
