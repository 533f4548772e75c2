"""NumPy golden model: ``docs/numerics.md`` in the plainest code possible, the oracle of all tests.

Slow on purpose: int64 sums, no blocking, no tricks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm.layers import (
    LANES,
    AddLayer,
    ConcatLayer,
    ConvLayer,
    InterleaveLayer,
    Layer,
    LutLayer,
    MulLayer,
    PoolLayer,
    RequantLayer,
    ResizeLayer,
    SumLayer,
    blocks16,
)
from sd_tvm.numerics.fixedpoint import mbqm
from sd_tvm.numerics.qp import unpack_qp
from sd_tvm.weights.packing import unpack_raw, unpack_sd

IntArray = npt.NDArray[Any]
_LIMITS: dict[str, tuple[int, int]] = {"uint8": (0, 255), "int8": (-128, 127)}


def quantize(x: npt.NDArray[np.float32], scale: float, zero_point: int, dtype: str) -> IntArray:
    """float32 -> 8-bit of the same shape: clip(rint(x / s) + z)."""
    lo, hi = _LIMITS[dtype]
    q = np.rint(x.astype(np.float32) / np.float32(scale)).astype(np.float64) + zero_point
    return np.asarray(np.clip(q, lo, hi).astype(dtype))


def dequantize(q: IntArray, scale: float, zero_point: int) -> npt.NDArray[np.float32]:
    """8-bit -> float32 of the same shape: float32(q - z) * s."""
    return (q.astype(np.int32) - zero_point).astype(np.float32) * np.float32(scale)


def to_blocked(x: IntArray, fill: int = 0) -> IntArray:
    """(N, C, H, W) -> (N, ceil(C/16), H, W, 16); lanes beyond C hold ``fill``."""
    n, c, h, w = x.shape
    cb = blocks16(c)
    padded = np.full((n, cb * LANES, h, w), fill, dtype=x.dtype)
    padded[:, :c] = x
    return np.ascontiguousarray(padded.reshape(n, cb, LANES, h, w).transpose(0, 1, 3, 4, 2))


def from_blocked(x: IntArray, channels: int) -> IntArray:
    """(N, CB, H, W, 16) -> (N, C, H, W)."""
    n, cb, h, w, lanes = x.shape
    return np.ascontiguousarray(x.transpose(0, 1, 4, 2, 3).reshape(n, cb * lanes, h, w)[:, :channels])


def _pad(x: IntArray, padding: tuple[int, int, int, int], value: int) -> IntArray:
    top, left, bottom, right = padding
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), mode="constant", constant_values=value)


def conv_accumulate(
    x: IntArray, weight: IntArray, layer: ConvLayer, bias: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """acc = bias' + sum q * w, int64 (N, M, OH, OW).

    Parameters
    ----------
    x
        8-bit (N, C, H, W).
    weight
        Exact integers (M, Cg, KH, KW).
    bias
        Folded bias (M,).
    """
    n, (oh, ow), (m, cg, kh, kw) = layer.batch, layer.out_hw, weight.shape
    (sh, sw), (dh, dw), mg = layer.stride, layer.dilation, m // layer.groups
    padded = _pad(x.astype(np.int64), layer.padding, layer.in_zero_point)
    acc = np.zeros((n, m, oh, ow), dtype=np.int64)
    for group in range(layer.groups):
        xs, ms = slice(group * cg, (group + 1) * cg), slice(group * mg, (group + 1) * mg)
        for ky in range(kh):
            for kx in range(kw):
                y0, x0 = ky * dh, kx * dw
                patch = padded[:, xs, y0 : y0 + (oh - 1) * sh + 1 : sh, x0 : x0 + (ow - 1) * sw + 1 : sw]
                w = weight[ms, :, ky, kx].astype(np.int64)
                acc[:, ms] += np.einsum("nchw,mc->nmhw", patch, w, optimize=True)
    return acc + bias[None, :, None, None]


def _requantize(acc: IntArray, words: npt.NDArray[np.int32], dtype: str) -> IntArray:
    """clip(zp + mbqm(acc)) with one word a channel (axis 1), or one word for all."""
    f = {k: v[None, :, None, None] for k, v in unpack_qp(words, dtype).items()}
    y = f["zp"] + mbqm(acc, f["m0"], f["shift"])
    return np.asarray(np.clip(y, f["lo"], f["hi"]).astype(dtype))


def _conv_weight(layer: ConvLayer, operands: list[IntArray]) -> IntArray:
    ones = np.ones(layer.out_channels, dtype=np.float32)
    if layer.form is None:
        return unpack_raw(operands[0], layer.weight_shape, ones).integer()
    names = ["codes", "basis", "table"]
    names += ["bitmap"] if layer.form.pattern == "shared" else []
    names += ["ids"] if layer.form.basis_kind == "codebook" else []
    arrays = dict(zip(names, operands, strict=True))
    return unpack_sd(arrays, layer.weight_shape, layer.form, ones).integer()


def _run_conv(layer: ConvLayer, operands: list[IntArray]) -> IntArray:
    if layer.packed_input:
        x = operands[0][:, 0, :, : layer.in_hw[1], : layer.in_channels].transpose(0, 3, 1, 2)
    else:
        x = from_blocked(operands[0], layer.in_channels)
    words = operands[-1][: layer.out_channels]
    weight = _conv_weight(layer, operands[1:-1])
    acc = conv_accumulate(x, weight, layer, words[:, 0].astype(np.int64))
    if layer.out == "i32":
        return to_blocked(acc.astype(np.int32))
    return to_blocked(_requantize(acc, words, layer.out_dtype))


def _run_add(layer: AddLayer, operands: list[IntArray]) -> IntArray:
    a, b = (from_blocked(o, layer.channels).astype(np.int64) for o in operands[:2])
    f = unpack_qp(operands[2], layer.out_dtype)
    left = mbqm(a - layer.a_zero_point, f["m0"][0], f["shift"][0])
    right = mbqm(b - layer.b_zero_point, f["m0"][1], f["shift"][1])
    return to_blocked(_requantize(left + right, operands[2][2:3], layer.out_dtype))


def _windows(x: IntArray, layer: PoolLayer) -> IntArray:
    (oh, ow), (kh, kw), (sh, sw) = layer.out_hw, layer.kernel, layer.stride
    return np.stack(
        [
            x[:, :, ky : ky + (oh - 1) * sh + 1 : sh, kx : kx + (ow - 1) * sw + 1 : sw]
            for ky in range(kh)
            for kx in range(kw)
        ]
    )


def _run_pool(layer: PoolLayer, operands: list[IntArray]) -> IntArray:
    x = from_blocked(operands[0], layer.channels)
    if layer.mode == "max":
        padded = _pad(x, layer.padding, _LIMITS[layer.in_dtype][0])
        return to_blocked(_windows(padded, layer).max(axis=0))
    padded = _pad(x.astype(np.int64), layer.padding, layer.in_zero_point) - layer.in_zero_point
    total = _windows(padded, layer).sum(axis=0)
    return to_blocked(_requantize(total, operands[1], layer.out_dtype))


def _run_requant(layer: RequantLayer, operands: list[IntArray]) -> IntArray:
    x = from_blocked(operands[0], layer.channels).astype(np.int64)
    return to_blocked(_requantize(x - layer.in_zero_point, operands[1], layer.out_dtype))


def _run_lut(layer: LutLayer, operands: list[IntArray]) -> IntArray:
    x = from_blocked(operands[0], layer.channels)
    return to_blocked(operands[1][x.view(np.uint8)])


def _run_mul(layer: MulLayer, operands: list[IntArray]) -> IntArray:
    a, b = (from_blocked(o, layer.channels).astype(np.int64) for o in operands[:2])
    product = (a - layer.a_zero_point) * (b - layer.b_zero_point)
    return to_blocked(_requantize(product, operands[2], layer.out_dtype))


def _run_concat(layer: ConcatLayer, operands: list[IntArray]) -> IntArray:
    parts = []
    for i, channels in enumerate(layer.parts):
        x = from_blocked(operands[i], channels).astype(np.int64) - layer.in_zero_points[i]
        parts.append(_requantize(x, operands[-1][i : i + 1], layer.out_dtype))
    return to_blocked(np.concatenate(parts, axis=1))


def _run_resize(layer: ResizeLayer, operands: list[IntArray]) -> IntArray:
    x = from_blocked(operands[0], layer.channels)
    return to_blocked(x.repeat(layer.factor[0], axis=2).repeat(layer.factor[1], axis=3))


def _run_interleave(layer: InterleaveLayer, operands: list[IntArray]) -> IntArray:
    (fy, fx), (top, left), (oh, ow) = layer.factor, layer.crop, layer.out_hw
    blocks = blocks16(layer.channels)
    whole = np.zeros(
        (layer.batch, layer.channels, layer.in_hw[0] * fy, layer.in_hw[1] * fx), operands[0].dtype
    )
    for phase in range(layer.phases):
        x = from_blocked(operands[0][:, phase * blocks : (phase + 1) * blocks], layer.channels)
        whole[:, :, phase // fx :: fy, phase % fx :: fx] = x
    return to_blocked(whole[:, :, top : top + oh, left : left + ow])


def _run_sum(layer: SumLayer, operands: list[IntArray]) -> IntArray:
    blocks, total = blocks16(layer.channels), np.zeros(1, np.int64)
    for part in range(layer.parts):
        total = total + from_blocked(operands[0][:, part * blocks : (part + 1) * blocks], layer.channels)
    wrapped = total.astype(np.int64).astype(np.int32)  # sums are modulo 2^32; the whole one fits
    return to_blocked(_requantize(wrapped, operands[1][: layer.channels], layer.out_dtype))


_RUNNERS: dict[type[Any], Callable[[Any, list[IntArray]], IntArray]] = {
    ConvLayer: _run_conv,
    AddLayer: _run_add,
    PoolLayer: _run_pool,
    RequantLayer: _run_requant,
    LutLayer: _run_lut,
    MulLayer: _run_mul,
    ConcatLayer: _run_concat,
    ResizeLayer: _run_resize,
    InterleaveLayer: _run_interleave,
    SumLayer: _run_sum,
}


def run_layer(layer: Layer, operands: list[IntArray]) -> IntArray:
    """Execute one integer layer.

    Parameters
    ----------
    layer
        The layer; :mod:`sd_tvm.layers` lists the operands of each kind.
    operands
        Arrays in that order, activations blocked by 16 channels.

    Returns
    -------
    numpy.ndarray
        The blocked result; lanes beyond the channels are zero.
    """
    return _RUNNERS[type(layer)](layer, operands)
