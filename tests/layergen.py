"""Random integer layers and their operands, shared by the schedule, codegen and bit-exactness tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from sd_tvm.layers import (
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
)
from sd_tvm.numerics.bounds import Q_MAX, accumulator_bound, folded_bias
from sd_tvm.numerics.fixedpoint import quantize_multiplier
from sd_tvm.numerics.qp import pack_qp
from sd_tvm.weights.packing import pack_raw, pack_sd
from sd_tvm.weights.rows import RowGeometry
from sd_tvm.weights.tensor import ROWS_KEPT, RawWeight, SDWeight, WeightForm

RANGE = {"uint8": (0, 256), "int8": (-128, 128)}
ACT = st.sampled_from(["uint8", "int8"])


def random_coef(
    rng: np.random.Generator, form: WeightForm, geometry: RowGeometry, *, extreme: bool = False
) -> np.ndarray:
    """Coefficients (M, R, S) that obey the form's pattern; ``extreme``: all of the largest magnitude."""
    m, r, s = geometry.shape[0], geometry.rows, geometry.s
    if extreme:
        coef = _ends(rng, (m, r, s), -form.table.max_code, form.table.max_code)
    else:
        coef = rng.choice(form.table.table, size=(m, r, s)).astype(np.int8)
        coef[rng.random((m, r)) < 0.2] = 0
    keep = np.zeros((m, r), dtype=bool)
    if form.pattern == "shared":
        for first in range(0, m, form.group_filters):
            keep[first : first + form.group_filters, rng.permutation(r)[: form.kept_rows]] = True
    else:
        n = ROWS_KEPT[form.pattern]
        for block in range(0, r, 16):
            width = min(16, r - block)
            order = rng.random((m, width)).argsort(axis=1).argsort(axis=1)
            keep[:, block : block + width] = order < n
    coef[~keep] = 0
    return coef


def _ends(rng: np.random.Generator, shape: tuple[int, ...], low: int, high: int) -> np.ndarray:
    """int8 values at both ends of a range, in half of the cases all at one end."""
    share = rng.choice([0.0, 1.0, rng.random(), 0.5])
    return np.where(rng.random(shape) < share, low, high).astype(np.int8)


def random_weight(
    rng: np.random.Generator, layer: ConvLayer, *, extreme: bool = False
) -> tuple[list[np.ndarray], np.ndarray]:
    """Packed weight operands and exact integer weights."""
    m = layer.out_channels
    ones = np.ones(m, dtype=np.float32)
    if layer.form is None:
        values = rng.integers(-127, 128, layer.weight_shape).astype(np.int8)
        raw = RawWeight(_ends(rng, layer.weight_shape, -127, 127) if extreme else values, ones)
        return [pack_raw(raw)], raw.integer()
    s = layer.geometry.s
    basis = rng.integers(-128, 128, (layer.n_bases, s, s)).astype(np.int8)
    if extreme:
        basis = _ends(rng, basis.shape, -128, 127)
    ids = None
    if layer.form.basis_kind == "codebook":
        ids = rng.integers(0, layer.n_bases, m).astype(np.uint8)
    coef = random_coef(rng, layer.form, layer.geometry, extreme=extreme)
    weight = SDWeight(layer.weight_shape, layer.form, coef, basis, ones, ids)
    return list(pack_sd(weight).values()), weight.integer()


def random_act(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Activation; every lane holds noise, also lanes beyond the channels."""
    return rng.integers(*RANGE[dtype], size=shape).astype(dtype)


def multipliers(ratios: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(M0, shift), int64 each, of real multipliers."""
    m0, shift = zip(*(quantize_multiplier(float(ratio)) for ratio in ratios), strict=True)
    return np.array(m0, dtype=np.int64), np.array(shift, dtype=np.int64)


def _words(
    rng: np.random.Generator, bias: np.ndarray, spread: np.ndarray, dtype: str, *, pad: bool
) -> np.ndarray:
    lo, hi = RANGE[dtype]
    zp = int(rng.integers(lo, hi))
    clip_lo, clip_hi = (lo, hi - 1) if rng.random() < 0.5 else (max(lo, zp - 60), min(hi - 1, zp + 60))
    m0, shift = multipliers(60.0 * rng.uniform(0.5, 2, spread.shape) / spread)
    return pack_qp(bias, m0, shift, zp, clip_lo, clip_hi, pad_to_16=pad)


def operands_of(layer: Layer, seed: int, *, extreme: bool = False) -> list[np.ndarray]:
    """Random operands of a layer, in order; its overflow bound holds.

    ``extreme``: activations and weights of a convolution are at the ends of their ranges.
    """
    rng = np.random.default_rng(seed)
    if isinstance(layer, ConvLayer):
        shape = (layer.batch, -(-layer.in_channels // 16), *layer.in_hw, 16)
        x = random_act(rng, shape, layer.in_dtype)
        if extreme:
            lo, hi = RANGE[layer.in_dtype]
            x = np.where(rng.random(shape) < rng.choice([0.0, 0.5, 1.0]), lo, hi - 1).astype(layer.in_dtype)
        packed, weight = random_weight(rng, layer, extreme=extreme)
        bias_q = rng.integers(-(2**18), 2**18, layer.out_channels)
        bias = folded_bias(bias_q, weight, layer.in_zero_point)
        bound = accumulator_bound(weight, bias, layer.in_dtype)
        assert bound.max() < 2**31
        flat = weight.reshape(layer.out_channels, -1).astype(np.float64)
        spread = Q_MAX[layer.in_dtype] * 0.4 * np.sqrt((flat**2).sum(axis=1)) + 2**17
        return [x, *packed, _words(rng, bias, spread, layer.out_dtype, pad=True)]
    if isinstance(layer, AddLayer):
        shape = (layer.batch, -(-layer.channels // 16), *layer.hw, 16)
        a, b = (random_act(rng, shape, d) for d in (layer.a_dtype, layer.b_dtype))
        zero = np.zeros(1, dtype=np.int64)
        sides = [
            _words(rng, zero, 60.0 / (2.0**20 * rng.uniform(0.05, 0.5, 1)), layer.out_dtype, pad=False)
            for _ in range(2)
        ]
        out = _words(rng, zero, np.array([60.0 * 2**20 * rng.uniform(0.2, 2.0)]), layer.out_dtype, pad=False)
        return [a, b, np.concatenate([*sides, out])]
    if isinstance(layer, MulLayer):
        blocks, zero = -(-layer.channels // 16), np.zeros(1, dtype=np.int64)
        a = random_act(rng, (layer.batch, blocks, *layer.hw, 16), layer.a_dtype)
        b = random_act(rng, (layer.batch, blocks, *layer.b_hw, 16), layer.b_dtype)
        return [a, b, _words(rng, zero, np.array([255.0 * 100]), layer.out_dtype, pad=False)]
    if isinstance(layer, ConcatLayer):
        xs = [
            random_act(rng, (layer.batch, -(-c // 16), *layer.hw, 16), dtype)
            for c, dtype in zip(layer.parts, layer.in_dtypes, strict=True)
        ]
        zeros = np.zeros(len(xs), dtype=np.int64)
        return [*xs, _words(rng, zeros, np.full(len(xs), 100.0), layer.out_dtype, pad=False)]
    if isinstance(layer, InterleaveLayer):
        blocks = layer.phases * -(-layer.channels // 16)
        return [random_act(rng, (layer.batch, blocks, *layer.in_hw, 16), layer.in_dtype)]
    hw = layer.in_hw if isinstance(layer, PoolLayer | ResizeLayer) else layer.hw
    x = random_act(rng, (layer.batch, -(-layer.channels // 16), *hw, 16), layer.in_dtype)
    if isinstance(layer, ResizeLayer) or (isinstance(layer, PoolLayer) and layer.mode == "max"):
        return [x]
    if isinstance(layer, LutLayer):
        return [x, random_act(rng, (256,), layer.out_dtype)]
    area = layer.kernel[0] * layer.kernel[1] if isinstance(layer, PoolLayer) else 1
    return [x, _words(rng, np.zeros(1, np.int64), np.array([100.0 * area]), layer.out_dtype, pad=False)]


def valid_lanes(layer: Layer, result: np.ndarray) -> np.ndarray:
    """Blocked result as (N, C, H, W) without the lanes beyond its channels."""
    channels = layer.out_channels if isinstance(layer, ConvLayer) else layer.channels
    n, cb, h, w, lanes = result.shape
    return result.transpose(0, 1, 4, 2, 3).reshape(n, cb * lanes, h, w)[:, :channels]


@st.composite
def forms(draw: Any, geometry: RowGeometry, patterns: tuple[str, ...]) -> WeightForm:
    """SD forms that are legal for a geometry."""
    pattern = draw(st.sampled_from(patterns))
    basis_kind = draw(st.sampled_from(["filter", "slice", "codebook"]))
    form = WeightForm(pattern, draw(st.sampled_from(["two-term", "pow2-5", "pow2-7"])), basis_kind)
    if basis_kind == "slice":
        form = replace(form, slice_rows=16 * draw(st.integers(1, 3)))
    if pattern == "shared":
        kept = draw(st.integers(1, geometry.rows))
        form = replace(form, kept_rows=kept, group_filters=16 * draw(st.integers(1, 3)))
    return form


@st.composite
def convs(
    draw: Any,
    *,
    patterns: tuple[str, ...] = ("raw", "16:16", "8:16", "4:16", "2:16", "shared"),
    grouping: str = "any",
    max_kernel: int = 4,
    max_channels: int = 40,
    max_size: int = 9,
) -> ConvLayer:
    """Convolutions: kernel, stride, dilation, groups, asymmetric padding, odd channels."""
    kernel = (draw(st.integers(1, max_kernel)), draw(st.integers(1, max_kernel)))
    grouping = draw(st.sampled_from(["none", "depthwise", "grouped"])) if grouping == "any" else grouping
    if grouping == "depthwise":
        groups = draw(st.integers(2, max_channels))
        cg = mg = 1
    elif grouping == "grouped":
        groups = draw(st.integers(2, 5))
        cg, mg = draw(st.integers(1, max_channels // 5)), draw(st.integers(1, max_channels // 5))
    else:
        groups, cg, mg = 1, draw(st.integers(1, max_channels)), draw(st.integers(1, max_channels))
    dilation = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    padding = tuple(draw(st.integers(0, 3)) for _ in range(4))
    span = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    lowest = [max(1, span[i] - padding[i] - padding[i + 2]) for i in range(2)]
    size = tuple(draw(st.integers(low, max(low, max_size))) for low in lowest)
    dtype = draw(ACT)
    layer = ConvLayer(
        "conv",
        draw(st.sampled_from([1, 1, 2])),
        groups * cg,
        size,
        groups * mg,
        kernel,
        (draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        padding,
        dilation,
        groups,
        in_dtype=dtype,
        in_zero_point=draw(st.integers(RANGE[dtype][0], RANGE[dtype][1] - 1)),
        out_dtype=draw(ACT),
        out=draw(st.sampled_from(["q8", "q8", "q8", "i32"])),
    )
    pattern = draw(st.sampled_from(patterns))
    if pattern == "raw":
        return layer
    form = draw(forms(layer.geometry, (pattern,)))
    n = layer.out_channels * form.n_slices(layer.geometry)
    if form.basis_kind == "codebook":
        n = draw(st.integers(1, 7))
    return replace(layer, form=form, n_bases=n)


@st.composite
def adds(draw: Any) -> AddLayer:
    """Residual additions."""
    zps = [draw(st.integers(-128, 127)) for _ in range(2)]
    dtypes = [draw(ACT) for _ in range(3)]
    a_zp, b_zp = (z + (128 if d == "uint8" else 0) for z, d in zip(zps, dtypes, strict=False))
    hw = (draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    return AddLayer(
        "add",
        draw(st.integers(1, 2)),
        draw(st.integers(1, 50)),
        hw,
        dtypes[0],
        a_zp,
        dtypes[1],
        b_zp,
        dtypes[2],
    )


@st.composite
def pools(draw: Any) -> PoolLayer:
    """Maximum, average and global average pools."""
    kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    padding = tuple(draw(st.integers(0, k - 1)) for k in (*kernel, *kernel))
    size = tuple(draw(st.integers(max(1, kernel[i] - padding[i] - padding[i + 2]), 10)) for i in range(2))
    mode = draw(st.sampled_from(["max", "avg", "avg"]))
    if draw(st.booleans()):
        kernel, padding = size, (0, 0, 0, 0)
    dtype = draw(ACT)
    return PoolLayer(
        "pool",
        mode,
        draw(st.integers(1, 2)),
        draw(st.integers(1, 50)),
        size,
        kernel,
        (draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        padding,
        dtype,
        draw(st.integers(RANGE[dtype][0], RANGE[dtype][1] - 1)),
        dtype if mode == "max" else draw(ACT),
    )


@st.composite
def requants(draw: Any) -> RequantLayer:
    """Stand-alone requantisations."""
    dtype = draw(ACT)
    hw = (draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    zp = draw(st.integers(RANGE[dtype][0], RANGE[dtype][1] - 1))
    return RequantLayer(
        "requant", draw(st.integers(1, 2)), draw(st.integers(1, 50)), hw, dtype, zp, draw(ACT)
    )


@st.composite
def luts(draw: Any) -> LutLayer:
    """Tables of random bytes."""
    hw = (draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    return LutLayer(
        "lut", draw(st.integers(1, 2)), draw(st.integers(1, 50)), hw, "noise", draw(ACT), draw(ACT)
    )


def _zero_point(draw: Any, dtype: str) -> int:
    return int(draw(st.integers(RANGE[dtype][0], RANGE[dtype][1] - 1)))


@st.composite
def muls(draw: Any) -> MulLayer:
    """Products of two tensors, or with one factor a channel."""
    hw = (draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    a, b = draw(ACT), draw(ACT)
    return MulLayer(
        "mul",
        draw(st.integers(1, 2)),
        draw(st.integers(1, 50)),
        hw,
        draw(st.booleans()),
        a,
        _zero_point(draw, a),
        b,
        _zero_point(draw, b),
        draw(ACT),
    )


@st.composite
def concats(draw: Any, *, aligned: bool = True) -> ConcatLayer:
    """Concatenations of two to four tensors; aligned: only the last may end inside a block."""
    n = draw(st.integers(2, 4))
    inner = st.integers(1, 3).map(lambda k: 16 * k) if aligned else st.integers(1, 40)
    parts = [*(draw(inner) for _ in range(n - 1)), draw(st.integers(1, 40))]
    dtypes = [draw(ACT) for _ in parts]
    return ConcatLayer(
        "concat",
        draw(st.integers(1, 2)),
        tuple(parts),
        (draw(st.integers(1, 7)), draw(st.integers(1, 7))),
        tuple(dtypes),
        tuple(_zero_point(draw, d) for d in dtypes),
        draw(ACT),
    )


@st.composite
def interleaves(draw: Any) -> InterleaveLayer:
    """Phases to pixels, cropped on all sides."""
    in_hw = (draw(st.integers(1, 7)), draw(st.integers(1, 7)))
    factor = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    crop = tuple(draw(st.integers(0, f - 1)) for f in factor)
    most = [n * f - c for n, f, c in zip(in_hw, factor, crop, strict=True)]
    hw = tuple(draw(st.integers(max(1, m - 4), m)) for m in most)
    return InterleaveLayer(
        "interleave", draw(st.integers(1, 2)), draw(st.integers(1, 50)), in_hw, factor, crop, hw, draw(ACT)
    )


@st.composite
def resizes(draw: Any) -> ResizeLayer:
    """Enlargements by whole factors."""
    return ResizeLayer(
        "resize",
        draw(st.integers(1, 2)),
        draw(st.integers(1, 50)),
        (draw(st.integers(1, 7)), draw(st.integers(1, 7))),
        (draw(st.integers(1, 4)), draw(st.integers(1, 4))),
        draw(ACT),
    )
