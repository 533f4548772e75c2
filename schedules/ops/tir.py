"""Small TensorIR building blocks that all layers share: int64 shapes, fixed point, quantisation words.

The arithmetic is ``docs/numerics.md``, written as TensorIR expressions.
"""

from __future__ import annotations

from typing import Any

from sd_tvm._tvm import te, tirx
from sd_tvm.layers import Layer, layer_to_json

#: Attribute of a PrimFunc that carries its layer as JSON.
LAYER_ATTR = "sd.layer"
#: Attribute of functions with a schedule of their own.
CPU_ATTR = "sd.cpu"
#: TVM's pattern kind "opaque": FuseOps leaves a function alone.
OPAQUE = 8
ACT_RANGE: dict[str, tuple[int, int]] = {"uint8": (0, 255), "int8": (-128, 127)}

Expr = Any
Tensor = Any


def i64(value: int) -> Expr:
    """An int64 constant (Relax needs int64 shapes)."""
    return tirx.IntImm("int64", value)


def dims(*shape: int) -> tuple[Expr, ...]:
    """A shape of int64 constants."""
    return tuple(i64(n) for n in shape)


def const(value: float, dtype: str) -> Expr:
    """A constant of any type."""
    return tirx.const(value, dtype)


def finish(tensors: list[Tensor], symbol: str, layer: Layer | None = None) -> Any:
    """PrimFunc of TE tensors (inputs, then the output) with the attributes we rely on."""
    return mark_layer(te.create_prim_func(tensors), symbol, layer)


def mark_layer(func: Any, symbol: str, layer: Layer | None = None) -> Any:
    """A PrimFunc with the attributes we rely on."""
    func = func.with_attr("global_symbol", symbol).with_attr("tirx.noalias", True)
    return func if layer is None else func.with_attr(LAYER_ATTR, layer_to_json(layer))


def with_attrs(built: Any, func: Any) -> Any:
    """A function with the attributes of another."""
    built = built.without_attr("global_symbol")
    for name, value in (func.attrs or {}).items():
        built = built.with_attr(name, value)
    return built


def scheduled(func: Any) -> Any:
    """A function marked as having its own schedule: TVM's passes and ours leave it as it is."""
    return func.with_attr(CPU_ATTR, True).with_attr("op_pattern", OPAQUE)


def mbqm(x: Expr, m0: Expr, shift: Expr) -> Expr:
    """gemmlowp's MultiplyByQuantizedMultiplier of an int32 expression, int64.

    For m0 >= 0 its truncated division with a signed nudge is (x * m0 + 2^30) >> 31, and its rounding
    shift by e > 0 is (p + 2^(e-1) - (p < 0)) >> e: the same integers from fewer operations.

    Parameters
    ----------
    x, m0, shift
        int32 expressions; m0 is 0 or in [2^30, 2^31), shift in [-31, 30], positive is left.
    """
    zero, one = const(0, "int64"), const(1, "int64")
    s = shift.astype("int64")
    left, right = tirx.max(s, zero), tirx.max(-s, zero)
    product = (x.astype("int64") << left) * m0.astype("int64")
    high = (product + const(1 << 30, "int64")) >> const(31, "int64")
    negative = (high >> const(63, "int64")) * tirx.min(right, one)
    return (high + ((one << right) >> one) + negative) >> right


def _byte(word: Expr, index: int, dtype: str) -> Expr:
    """Byte ``index`` of an int32 word as a uint8 or int8 value, int32."""
    if dtype == "int8":
        return (word << const(24 - 8 * index, "int32")) >> const(24, "int32")
    return (word >> const(8 * index, "int32")) & const(255, "int32")


def scale_words(x: Expr, m0: Expr, packed: Expr) -> Expr:
    """mbqm with words 1 (m0) and 2 (packed) of a quantisation word, int64."""
    return mbqm(x, m0, _byte(packed, 0, "int8"))


def requantize_words(x: Expr, m0: Expr, packed: Expr, dtype: str) -> Expr:
    """clip(zp + mbqm(x), lo, hi) with words 1 and 2 of a quantisation word, as ``dtype``."""
    zp, lo, hi = (_byte(packed, i, dtype).astype("int64") for i in (1, 2, 3))
    return tirx.min(tirx.max(zp + scale_words(x, m0, packed), lo), hi).astype(dtype)


def scale_word(x: Expr, qp: Tensor, row: Expr) -> Expr:
    """:func:`scale_words` with row ``row`` of qp."""
    return scale_words(x, qp[row, i64(1)], qp[row, i64(2)])


def requantize(x: Expr, qp: Tensor, row: Expr, dtype: str) -> Expr:
    """:func:`requantize_words` with row ``row`` of qp."""
    return requantize_words(x, qp[row, i64(1)], qp[row, i64(2)], dtype)


def pad_stage(
    x: Tensor,
    top: int,
    left: int,
    hw: tuple[int, int],
    value: int,
    name: str = "xpad",
    width: int | None = None,
) -> Tensor:
    """Blocked x (N, CB, H, W, 16) placed at (top, left) of planes of size ``hw`` filled with ``value``.

    ``hw`` is what is read: it may end before x does. ``width``: columns of x that are data, if not all.
    """
    n, cb, h, w, lanes = (int(d) for d in x.shape)
    w = w if width is None else width
    shape = dims(n, cb, *hw, lanes)

    def body(b: Expr, c: Expr, y: Expr, xx: Expr, lane: Expr) -> Expr:
        inside = []
        if top:
            inside.append(y >= i64(top))
        if top + h < hw[0]:
            inside.append(y < i64(top + h))
        if left:
            inside.append(xx >= i64(left))
        if left + w < hw[1]:
            inside.append(xx < i64(left + w))
        value_at = x[b, c, y - i64(top), xx - i64(left), lane]
        if not inside:
            return value_at
        return tirx.if_then_else(tirx.all(*inside), value_at, const(value, x.dtype))

    return te.compute(shape, body, name=name)
