"""Integer layers from real ones: layer record and constant operands, by ``docs/numerics.md``.

TVM-free. What is named here: real scales and float32 biases go in, quantisation words come out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sd_tvm.errors import NumericsError
from sd_tvm.layers import NARROW_BITS, WIDE_BITS, AddLayer, ConvLayer, Layer, PoolLayer, RequantLayer
from sd_tvm.numerics.bounds import check_bound, check_left_shift, folded_bias
from sd_tvm.numerics.fixedpoint import quantize_multiplier
from sd_tvm.numerics.qp import pack_qp
from sd_tvm.numerics.qparams import QParams
from sd_tvm.weights.packing import pack_raw, pack_sd
from sd_tvm.weights.tensor import RawWeight, SDWeight, Weight

IntArray = npt.NDArray[np.int64]
NCHW = tuple[int, int, int, int]
Bounds = tuple[float, float]

NO_BOUNDS: Bounds = (-math.inf, math.inf)
#: Largest integer bias that a filter keeps at its own scale; larger ones get a coarser scale.
MAX_BIAS = 2**29
_RANGE: dict[str, tuple[int, int]] = {"uint8": (0, 255), "int8": (-128, 127)}
#: Precision of the common scale of an addition (docs/numerics.md).
_ADD_SHIFT = 20
#: Largest |q - z| of an 8-bit activation.
MAX_Q = 255


@dataclass(frozen=True)
class Integer:
    """An integer layer.

    Attributes
    ----------
    layer, constants
        Its record, and its constant operands in order.
    note
        What is worth reporting.
    scale
        float32 (M,): real value of one unit of a filter's weight, for layers that have one.
    """

    layer: Layer
    constants: list[npt.NDArray[Any]]
    note: str = ""
    scale: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class ConvGeometry:
    """Stride, padding (top, left, bottom, right), dilation and groups of a convolution."""

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


def clip_range(out: QParams, bounds: Bounds) -> tuple[int, int]:
    """Quantised (lo, hi) of real bounds: rint(bound / s) + z within the type."""
    low, high = _RANGE[out.dtype]

    def level(bound: float, otherwise: int) -> int:
        if math.isinf(bound):
            return otherwise
        return int(np.clip(np.rint(bound / out.scale) + out.zero_point, low, high))

    return level(bounds[0], low), level(bounds[1], high)


def _multipliers(real: npt.NDArray[np.float64]) -> tuple[IntArray, IntArray]:
    pairs = [quantize_multiplier(float(r)) for r in real]
    return np.array([p[0] for p in pairs], np.int64), np.array([p[1] for p in pairs], np.int64)


def check_shifts(name: str, peaks: list[float], real: npt.NDArray[np.float64]) -> None:
    """Refuse multipliers whose left shift could take values of these magnitudes out of int32."""
    left = np.maximum(_multipliers(real)[1], 0)
    check_left_shift(np.ceil(np.array(peaks)).astype(np.int64), left, name=name)


def words_of(
    bias: IntArray, real: npt.NDArray[np.float64], out: QParams, bounds: Bounds, *, pad: bool
) -> npt.NDArray[np.int32]:
    """Quantisation words of real multipliers."""
    m0, shift = _multipliers(real)
    return pack_qp(bias, m0, shift, out.zero_point, *clip_range(out, bounds), pad_to_16=pad)


def coarser_scales(weight: RawWeight, bias: npt.NDArray[np.float64], s_in: float) -> RawWeight:
    """Weight whose filters all hold their bias within :data:`MAX_BIAS`.

    A filter that is nearly dead has a tiny scale, in which its bias is a huge integer. Its scale is
    raised until the bias fits; its weights are rounded to the new scale, an error below one part
    in 2^29 of the bias.
    """
    least = np.abs(bias) / (s_in * MAX_BIAS)
    scale = weight.scale.astype(np.float64)
    if not (scale < least).any():
        return weight
    new = np.maximum(scale, least * (1 + 1e-6)).astype(np.float32)
    ratio = (scale / new.astype(np.float64))[:, None, None, None]
    values = np.where(ratio < 1, np.rint(weight.values * ratio), weight.values)
    return RawWeight(values.astype(np.int8), new)


def as_raw(weight: Weight) -> RawWeight:
    """The weight in int8, one scale a filter."""
    if isinstance(weight, RawWeight):
        return weight
    real = weight.dequantize()
    top = np.abs(real).reshape(real.shape[0], -1).max(axis=1)
    scale = np.where(top > 0, top / 127, 1.0).astype(np.float32)
    values = np.clip(np.rint(real / scale[:, None, None, None]), -127, 127)
    return RawWeight(values.astype(np.int8), scale)


def conv(
    name: str,
    shape: NCHW,
    weight: Weight,
    bias: npt.NDArray[np.float32] | None,
    geometry: ConvGeometry,
    x: QParams,
    out: QParams | None,
    bounds: Bounds = NO_BOUNDS,
) -> Integer:
    """A convolution or dense layer.

    Parameters
    ----------
    name, shape, geometry
        Name, input shape (N, C, H, W), and stride, padding, dilation, groups.
    weight
        SD form or int8. SD form that could overflow int32 becomes int8, with a note.
    bias
        float32 (M,), or None.
    x, out
        Quantisation of input and output; ``out`` None gives int32 sums (bias included), for the host
        to multiply with x.scale * scale[m].
    bounds
        Fused activation, real.

    Raises
    ------
    NumericsError
        If even int8 weights could overflow int32.
    """
    real_bias = np.zeros(weight.shape[0]) if bias is None else bias.astype(np.float64)
    if isinstance(weight, RawWeight):
        return _conv(name, shape, weight, real_bias, geometry, x, out, bounds, "")
    try:
        return _conv(name, shape, weight, real_bias, geometry, x, out, bounds, "")
    except NumericsError as error:
        note = f"int8 instead of SD form: {error.found}"
        return _conv(name, shape, as_raw(weight), real_bias, geometry, x, out, bounds, note)


def _conv(
    name: str,
    shape: NCHW,
    weight: Weight,
    bias: npt.NDArray[np.float64],
    geometry: ConvGeometry,
    x: QParams,
    out: QParams | None,
    bounds: Bounds,
    note: str,
) -> Integer:
    if isinstance(weight, RawWeight):
        weight = coarser_scales(weight, bias, x.scale)
    integer, unit = weight.integer(), float(x.scale) * weight.scale.astype(np.float64)
    levels = np.rint(bias / unit)
    if np.abs(levels).max(initial=0) > 2**31:
        worst = int(np.argmax(np.abs(levels)))
        raise NumericsError(
            f"{name}: the bias of filter {worst} is {levels[worst]:.3g} units of its scale",
            expected=f"at most {2**31 - 1}",
            fix="use int8 weights for this layer",
        )
    folded = folded_bias(levels.astype(np.int64), integer, x.zero_point)
    if out is None:
        check_bound(integer, folded, x.dtype, name=name)
        zeros = np.zeros_like(folded)
        words = pack_qp(folded, zeros, zeros, 0, 0, 0)
    else:
        m0, shift = _multipliers(unit / float(out.scale))
        check_bound(integer, folded, x.dtype, shift, name=name)
        words = pack_qp(folded, m0, shift, out.zero_point, *clip_range(out, bounds))
    if isinstance(weight, SDWeight):
        operands: list[npt.NDArray[Any]] = list(pack_sd(weight).values())
        form, n_bases = weight.form, weight.basis.shape[0]
    else:
        operands, form, n_bases = [pack_raw(weight)], None, 0
    m, _, kh, kw = weight.shape
    layer = ConvLayer(
        name=name,
        batch=shape[0],
        in_channels=shape[1],
        in_hw=(shape[2], shape[3]),
        out_channels=m,
        kernel=(kh, kw),
        stride=geometry.stride,
        padding=geometry.padding,
        dilation=geometry.dilation,
        groups=geometry.groups,
        form=form,
        n_bases=n_bases,
        in_dtype=x.dtype,
        in_zero_point=x.zero_point,
        out_dtype=out.dtype if out else "uint8",
        out="q8" if out else "i32",
        weight_bits=NARROW_BITS if np.abs(integer).max(initial=0) < 1 << (NARROW_BITS - 1) else WIDE_BITS,
    )
    return Integer(layer, [*operands, words], note, weight.scale)


def add(name: str, shape: NCHW, a: QParams, b: QParams, out: QParams, bounds: Bounds = NO_BOUNDS) -> Integer:
    """Sum of two tensors of shape (N, C, H, W)."""
    common = 2.0 * max(a.scale, b.scale)
    one = float(2**_ADD_SHIFT)
    real = np.array([one * a.scale / common, one * b.scale / common, common / (one * out.scale)])
    # each side is rounded once, to at most one unit more
    total = MAX_Q * (real[0] + real[1]) + 2
    check_shifts(name, [MAX_Q, MAX_Q, total], real)
    words = words_of(np.zeros(3, np.int64), real, out, bounds, pad=False)
    layer = AddLayer(
        name=name,
        batch=shape[0],
        channels=shape[1],
        hw=(shape[2], shape[3]),
        a_dtype=a.dtype,
        a_zero_point=a.zero_point,
        b_dtype=b.dtype,
        b_zero_point=b.zero_point,
        out_dtype=out.dtype,
    )
    return Integer(layer, [words])


def pool(
    name: str,
    mode: Literal["max", "avg"],
    shape: NCHW,
    window: tuple[tuple[int, int], tuple[int, int], tuple[int, int, int, int]],
    x: QParams,
    out: QParams,
    bounds: Bounds = NO_BOUNDS,
) -> Integer:
    """Pooling of (N, C, H, W) with a window (kernel, stride, padding); a maximum keeps ``x``."""
    kernel, stride, padding = window
    layer = PoolLayer(
        name=name,
        mode=mode,
        batch=shape[0],
        channels=shape[1],
        in_hw=(shape[2], shape[3]),
        kernel=kernel,
        stride=stride,
        padding=padding,
        in_dtype=x.dtype,
        in_zero_point=x.zero_point,
        out_dtype=out.dtype,
    )
    if mode == "max":
        return Integer(layer, [])
    real = np.array([x.scale / (out.scale * kernel[0] * kernel[1])])
    check_shifts(name, [MAX_Q * kernel[0] * kernel[1]], real)
    return Integer(layer, [words_of(np.zeros(1, np.int64), real, out, bounds, pad=False)])


def requant(name: str, shape: NCHW, x: QParams, out: QParams, bounds: Bounds) -> Integer:
    """Stand-alone activation on (N, C, H, W)."""
    layer = RequantLayer(
        name=name,
        batch=shape[0],
        channels=shape[1],
        hw=(shape[2], shape[3]),
        in_dtype=x.dtype,
        in_zero_point=x.zero_point,
        out_dtype=out.dtype,
    )
    real = np.array([x.scale / out.scale])
    check_shifts(name, [MAX_Q], real)
    return Integer(layer, [words_of(np.zeros(1, np.int64), real, out, bounds, pad=False)])
