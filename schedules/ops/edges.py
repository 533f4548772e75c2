"""Conversions between float32 tensors and the blocked 8-bit world, run on the host."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from sd_tvm._tvm import ir_builder, te, tirx
from sd_tvm.layers import LANES, PACKED_LANES, ActDType, ConvLayer, blocks16, packed_width
from sd_tvm.schedules.ops.tir import ACT_RANGE, OPAQUE, Expr, Tensor, const, dims, finish, i64, mark_layer
from sd_tvm.schedules.ops.weight import weight_operands, weight_stage
from sd_tvm.weights.tensor import WeightForm

Shape = tuple[int, ...]
#: An image of more channels is quantised by the stage, value by value.
_FEW_CHANNELS = 4


def _nchw(shape: Shape) -> tuple[int, int, int, int]:
    """(N, C) or (N, C, H, W) as (N, C, H, W)."""
    n, c, h, w = shape if len(shape) == 4 else (*shape, 1, 1)
    return n, c, h, w


def blocked_shape(shape: Shape) -> tuple[int, int, int, int, int]:
    """(N, ceil(C/16), H, W, 16) of an (N, C[, H, W]) tensor."""
    n, c, h, w = _nchw(shape)
    return n, blocks16(c), h, w, LANES


def _at(tensor: Tensor, rank: int, n: Expr, c: Expr, y: Expr, x: Expr) -> Expr:
    return tensor[n, c, y, x] if rank == 4 else tensor[n, c]


def _quantized(x: Expr, scale: Expr, zero_point: int, dtype: ActDType, lanes: int = 1) -> Expr:
    """clip(rint(x / s) + z) of one value, or of ``lanes``."""

    def every(value: Expr) -> Expr:
        return value if lanes == 1 else tirx.Broadcast(value, lanes)

    lo, hi = (every(const(v, "float32")) for v in ACT_RANGE[dtype])
    q = tirx.nearbyint(x / every(scale)) + every(const(zero_point, "float32"))
    clipped = tirx.min(tirx.max(q, lo), hi)
    kinds = ("int32", dtype) if lanes == 1 else (f"int32x{lanes}", f"{dtype}x{lanes}")
    return clipped.astype(kinds[0]).astype(kinds[1])


def _quantize_stage(x: Tensor, shape: Shape, scale: Expr, zero_point: int, dtype: ActDType) -> Tensor:
    channels = shape[1]

    def body(n: Expr, cb: Expr, y: Expr, xx: Expr, ln: Expr) -> Expr:
        c = cb * i64(LANES) + ln
        q = _quantized(_at(x, len(shape), n, c, y, xx), scale, zero_point, dtype)
        if channels % LANES == 0:
            return q
        return tirx.if_then_else(c < i64(channels), q, const(0, dtype))

    return te.compute(dims(*blocked_shape(shape)), body, name="q")


def _in_lanes(shape: Shape) -> bool:
    """Whether :func:`_quantize_lanes` takes this shape: whole blocks of (N, C), or images of few channels."""
    if len(shape) == 2:
        return shape[1] % LANES == 0
    return shape[1] <= _FEW_CHANNELS and prod(shape[2:]) % LANES == 0


def _quantize_lanes(shape: Shape, scale: float | None, zero_point: int, dtype: ActDType, symbol: str) -> Any:
    """PrimFunc that quantises sixteen values at a time, which LLVM would not find in the stage.

    ``scale`` None: it is an operand.
    """
    t: Any = ir_builder.tirx
    blocked = blocked_shape(shape)
    with ir_builder.IRBuilder() as frame, t.prim_func(s_tir=True):
        t.func_name(symbol)
        x = t.arg("x", t.Buffer(dims(*shape), "float32"))
        if scale is None:
            s = t.arg("scale", t.Buffer(dims(1), "float32"))[i64(0)]
        else:
            s = const(float(np.float32(scale)), "float32")
        out = t.arg("q", t.Buffer(dims(*blocked), dtype))
        with t.sblock("root"):  # which TVM expects of a function of one operand
            source = t.decl_buffer((i64(prod(shape)),), "float32", data=x.data)
            result = t.decl_buffer((i64(prod(blocked)),), dtype, data=out.data)

            def sixteen(first: Expr) -> Expr:
                value = source[tirx.Ramp(first, i64(1), LANES)]
                return t.Bind(_quantized(value, s, zero_point, dtype, LANES))

            def store(first: Expr, value: Expr) -> None:
                t.buffer_store(result, value, [tirx.Ramp(first, i64(1), LANES)])

            if len(shape) == 4:
                _quantize_images(t, shape, dtype, sixteen, store)
            else:
                with t.serial(i64(prod(shape) // LANES)) as i:
                    store(i * i64(LANES), sixteen(i * i64(LANES)))
    return mark_layer(frame.get(), symbol).with_attr("op_pattern", OPAQUE)


def _quantize_images(
    t: Any, shape: Shape, dtype: ActDType, read: Callable[[Expr], Expr], store: Callable[[Expr, Expr], None]
) -> None:
    """Sixteen pixels of every channel, then the channels of each side by side, zeros beyond them."""
    n, channels, plane = shape[0], shape[1], prod(shape[2:])
    zero = tirx.Broadcast(const(0, dtype), LANES)
    with t.serial(i64(n)) as image, t.serial(i64(plane // LANES)) as i:
        pixel = i * i64(LANES)
        rows = [read((image * i64(channels) + i64(c)) * i64(plane) + pixel) for c in range(channels)]
        rows.append(zero)
        for p in range(LANES):
            lanes = [min(c, channels) * LANES + p for c in range(LANES)]
            value = tirx.Shuffle(rows, [tirx.IntImm("int32", lane) for lane in lanes])
            store((image * i64(plane) + pixel + i64(p)) * i64(LANES), value)


def build_quantize(shape: Shape, scale: float, zero_point: int, dtype: ActDType, symbol: str) -> Any:
    """float32 (N, C[, H, W]) -> blocked 8 bit: clip(rint(x / s) + z). Operands: x, result."""
    if _in_lanes(shape):
        return _quantize_lanes(shape, scale, zero_point, dtype, symbol)
    x = te.placeholder(dims(*shape), "float32", name="x")
    s = const(float(np.float32(scale)), "float32")
    return finish([x, _quantize_stage(x, shape, s, zero_point, dtype)], symbol)


def build_quantize_dynamic(shape: Shape, zero_point: int, dtype: ActDType, symbol: str) -> Any:
    """As :func:`build_quantize`, the scale an operand. Operands: x, scale float32 (1,), result."""
    if _in_lanes(shape):
        return _quantize_lanes(shape, None, zero_point, dtype, symbol)
    x = te.placeholder(dims(*shape), "float32", name="x")
    scale = te.placeholder(dims(1), "float32", name="scale")
    return finish([x, scale, _quantize_stage(x, shape, scale[i64(0)], zero_point, dtype)], symbol)


def _float_shape(tensor_of: Any, shape: Shape, name: str) -> Tensor:
    """Unblocked float32 stage; tensor_of(n, c, y, x) gives the value."""
    if len(shape) == 4:
        return te.compute(dims(*shape), lambda n, c, y, x: tensor_of(n, c, y, x), name=name)
    return te.compute(dims(*shape), lambda n, c: tensor_of(n, c, i64(0), i64(0)), name=name)


def _blocked(tensor: Tensor, n: Expr, c: Expr, y: Expr, x: Expr) -> Expr:
    return tensor[n, tirx.floordiv(c, i64(LANES)), y, x, tirx.floormod(c, i64(LANES))]


def build_dequantize(shape: Shape, scale: float, zero_point: int, dtype: ActDType, symbol: str) -> Any:
    """Blocked 8 bit -> float32 (N, C[, H, W]): float32(q - z) * s. Operands: q, result."""
    q = te.placeholder(dims(*blocked_shape(shape)), dtype, name="q")
    s, z = const(float(np.float32(scale)), "float32"), const(zero_point, "int32")

    def value(n: Expr, c: Expr, y: Expr, x: Expr) -> Expr:
        return (_blocked(q, n, c, y, x).astype("int32") - z).astype("float32") * s

    return finish([q, _float_shape(value, shape, "y")], symbol)


def build_dequantize_acc(shape: Shape, symbol: str) -> Any:
    """Blocked int32 sums -> float32 (N, M[, H, W]): float32(acc) * (s_x * scale[m]) + bias[m].

    Operands: acc, activation scale float32 (1,), scale float32 (M,), bias float32 (M,), result.
    """
    m = shape[1]
    acc = te.placeholder(dims(*blocked_shape(shape)), "int32", name="acc")
    s_x = te.placeholder(dims(1), "float32", name="s_x")
    scale = te.placeholder(dims(m), "float32", name="scale")
    bias = te.placeholder(dims(m), "float32", name="bias")

    def value(n: Expr, c: Expr, y: Expr, x: Expr) -> Expr:
        return _blocked(acc, n, c, y, x).astype("float32") * (s_x[i64(0)] * scale[c]) + bias[c]

    return finish([acc, s_x, scale, bias, _float_shape(value, shape, "y")], symbol)


def build_rebuild_weight(
    shape: tuple[int, int, int, int], form: WeightForm | None, n_bases: int, symbol: str
) -> Any:
    """SD form (None: raw int8) -> float32 weight (M, Cg, KH, KW) = scale[m] * exact integer.

    Operands: the weight operands of :class:`~sd_tvm.layers.ConvLayer`, then scale
    float32 (M,), result.
    """
    m, cg, kh, kw = shape
    layer = ConvLayer("", 1, cg, (kh, kw), m, (kh, kw), form=form, n_bases=n_bases)
    operands = weight_operands(layer)
    scale = te.placeholder(dims(m), "float32", name="scale")
    w = weight_stage(layer, operands)

    def value(f: Expr, c: Expr, ky: Expr, kx: Expr) -> Expr:
        at = w[tirx.floordiv(f, i64(LANES)), c, ky, kx, tirx.floormod(f, i64(LANES))]
        return at.astype("float32") * scale[f]

    out = te.compute(dims(*shape), value, name="weight")
    return finish([*operands, scale, out], symbol)


def build_pack4(shape: tuple[int, int, int, int], dtype: ActDType, symbol: str) -> Any:
    """Blocked 8 bit (N, 1, H, W, 16) -> (N, 1, H, 4 * ceil(W / 4), 4): the first 4 channels of every pixel.

    The layout that the accelerator loads a network's 3-channel input from. Operands: x, result.
    """
    n, cb, h, w = shape
    x = te.placeholder(dims(n, cb, h, w, LANES), dtype, name="x")

    def body(b: Expr, c: Expr, y: Expr, xx: Expr, lane: Expr) -> Expr:
        if packed_width(w) == w:
            return x[b, c, y, xx, lane]
        return tirx.if_then_else(xx < i64(w), x[b, c, y, xx, lane], const(0, dtype))

    return finish([x, te.compute(dims(n, cb, h, packed_width(w), PACKED_LANES), body, name="packed")], symbol)
