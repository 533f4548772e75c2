"""Operators that move elements and compute none."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from sd_tvm._tvm import relax
from sd_tvm.relay.attrs import Attr, dtype, flag, integer, ref, text
from sd_tvm.relay.site import Expr, Operator, Site


def new_shape(s: Site, shape: tuple[int, ...], wanted: tuple[int, ...], allow_zero: bool) -> list[int]:
    """Shape of ``reshape``: 0 copies, -1 is the rest, -2 copies all others, -3 joins two, -4 splits."""
    out: list[int] = []
    at, k = 0, 0
    while k < len(wanted):
        w = wanted[k]
        k += 1
        if w > 0 or w == -1 or (w == 0 and allow_zero):
            out.append(w)
            at += 1
        elif w == 0 and at < len(shape):
            out.append(shape[at])
            at += 1
        elif w == -2:
            out.extend(shape[at:])
            at = len(shape)
        elif w == -3 and at + 1 < len(shape):
            out.append(shape[at] * shape[at + 1])
            at += 2
        elif w == -4 and at < len(shape) and k + 1 < len(wanted):
            a, b = wanted[k : k + 2]
            k += 2
            whole = shape[at]
            if 0 in (a, b) or (a, b) == (-1, -1):
                raise s.fail(f"newshape {wanted}", "two factors of which one may be -1")
            out.extend((whole // b if a == -1 else a, whole // a if b == -1 else b))
            at += 1
        else:
            raise s.fail(f"newshape {wanted} of {list(shape)}", "a shape of as many elements")
    known = prod(d for d in out if d != -1)
    size = prod(shape)
    if out.count(-1) > 1 or (-1 in out and (known == 0 or size % known)):
        raise s.fail(f"newshape {wanted} of {list(shape)}", "a shape of as many elements")
    out = [size // known if d == -1 else d for d in out]
    if prod(out) != size:
        raise s.fail(f"newshape {wanted} of {list(shape)}", "a shape of as many elements")
    return out


def _reshape(s: Site) -> Expr:
    return s.reshape(s[0], new_shape(s, s.shape(0), s.ints("newshape"), bool(s.attr("allowzero"))))


def _reshape_like(s: Site) -> Expr:
    a, b = s.shape(0), s.shape(1)

    def span(side: str, rank: int) -> slice:
        first, last = s.attr(f"{side}_begin"), s.attr(f"{side}_end")
        return slice(*slice(first, last).indices(rank)[:2])

    left, right = span("lhs", len(a)), span("rhs", len(b))
    return s.reshape(s[0], [*a[: left.start], *b[right], *a[left.stop :]])


def _transpose(s: Site) -> Expr:
    rank = len(s.shape(0))
    axes = list(s.ints("axes")) if s.attr("axes") else list(range(rank))[::-1]
    axes = [a % rank for a in axes]
    nchw = s.layouts.nchw_of(s[0])
    if axes == [0, 3, 1, 2] and nchw is not None:
        return nchw
    return s.layouts.to_nhwc(s[0]) if axes == [0, 2, 3, 1] else s.transpose(s[0], axes)


def _squeeze(s: Site) -> Expr:
    shape = s.shape(0)
    ones = [d for d, n in enumerate(shape) if n == 1]
    axes = ones if s.attr("axis") is None else [a % len(shape) for a in s.ints("axis")]
    return s.reshape(s[0], [n for d, n in enumerate(shape) if d not in axes])


def _expand_dims(s: Site) -> Expr:
    shape, axis = list(s.shape(0)), s.attr("axis")
    at = axis if axis >= 0 else len(shape) + 1 + axis
    return s.reshape(s[0], [*shape[:at], *[1] * s.attr("num_newaxis"), *shape[at:]])


def _batch_flatten(s: Site) -> Expr:
    n, *rest = s.shape(0)
    return s.reshape(s[0], (n, prod(rest)))


def _rank_axis(s: Site, rank: int) -> int:
    axis = s.attr("axis")
    if not isinstance(axis, int) or not -rank <= axis < rank:
        raise s.fail(f"axis {axis} of rank {rank}", "one of its axes")
    return axis % rank


def concatenate(s: Site) -> Expr:
    """Parts side by side."""
    parts = s.tensors()
    axis = _rank_axis(s, len(s.shape(parts[0])))
    return parts[0] if len(parts) == 1 else relax.op.concat(parts, axis)


def _stack(s: Site) -> Expr:
    parts = s.tensors()
    shape = s.shape(parts[0])
    axis = _rank_axis(s, len(shape) + 1)
    return relax.op.concat([s.reshape(p, [*shape[:axis], 1, *shape[axis:]]) for p in parts], axis)


def _split(s: Site) -> tuple[Expr, ...]:
    where = s.attr("indices_or_sections")
    axis = s.axis()
    n = s.shape(0)[axis]
    if isinstance(where, int):
        if where < 1 or n % where:
            raise s.fail(f"{where} parts of {n}", "equal parts")
        cuts = [n // where * k for k in range(1, where)]
    else:
        cuts = [int(c) for c in where]
    edges = [0, *cuts, n]
    return tuple(s.emit(relax.op.strided_slice(s[0], [axis], [a], [b])) for a, b in pairwise(edges))


def sliced(s: Site, value: Expr, axis: int, part: slice) -> Expr:
    """A Python slice of one axis."""
    n = s.shape(value)[axis]
    begin, end, step = part.indices(n)
    if (begin, end, step) == (0, n, 1):
        return value
    if step > 0:
        return s.emit(relax.op.strided_slice(value, [axis], [begin], [max(begin, end)], [step]))
    return s.emit(relax.op.take(value, s.const(np.arange(begin, end, step), "int64"), axis))


def _strided_slice(s: Site) -> Expr:
    if len(s.args) > 1:
        raise s.fail("begin and end are computed", "constants", "run relay.transform.DynamicToStatic() first")
    begin, end = s.ints("begin"), s.ints("end")
    strides = s.ints("strides") if s.attr("strides") is not None else (1,)
    strides = strides * len(begin) if len(strides) == 1 else strides
    axes = s.ints("axes") if s.attr("axes") is not None else tuple(range(len(begin)))
    if not len(begin) == len(end) == len(axes) or len(strides) > len(begin):
        raise s.fail(f"begin {begin}, end {end}, strides {strides}, axes {axes}", "numbers for the same axes")
    value = s[0]
    for a, b, e, step in zip(axes, begin, end, (*strides, *(1,) * len(begin)), strict=False):
        a %= len(s.shape(0))
        if s.attr("slice_mode") == "size":
            n = s.shape(0)[a]
            first = b % n if b < 0 else b
            value = sliced(s, value, a, slice(first, n if e < 0 else first + e))
        else:
            value = sliced(s, value, a, slice(b, e, step))
    return value


def _slice_like(s: Site) -> Expr:
    rank = len(s.shape(0))
    axes = [a % rank for a in s.ints("axes")] if s.attr("axes") else list(range(rank))
    value = s[0]
    for a in axes:
        value = sliced(s, value, a, slice(0, s.shape(1)[a]))
    return value


def _tile(s: Site) -> Expr:
    return relax.op.tile(s[0], list(s.ints("reps")))


def _repeat(s: Site) -> Expr:
    axis = None if s.attr("axis") is None else s.axis()
    return relax.op.repeat(s[0], *s.ints("repeats"), axis)


def _reverse(s: Site) -> Expr:
    return relax.op.flip(s[0], s.axis())


def _broadcast_to(s: Site) -> Expr:
    return relax.op.broadcast_to(s[0], s.ints("shape"))


def _broadcast_to_like(s: Site) -> Expr:
    return relax.op.broadcast_to(s[0], s.shape(1))


def _layout_transform(s: Site) -> Expr:
    a, b = str(s.attr("src_layout")), str(s.attr("dst_layout"))
    if sorted(a) != sorted(b) or len(a) != len(s.shape(0)) or len(set(a)) != len(a):
        raise s.fail(
            f"from {a} to {b}",
            "a permutation of the axes",
            "save the module before it is optimised for a target (AlterOpLayout and later passes)",
        )
    if (a, b) == ("NHWC", "NCHW"):
        return s.layouts.to_nchw(s[0])
    return (
        s.layouts.to_nhwc(s[0]) if (a, b) == ("NCHW", "NHWC") else s.transpose(s[0], [a.index(c) for c in b])
    )


def _meshgrid(s: Site) -> tuple[Expr, ...]:
    lines, indexing = s.tensors(), s.attr("indexing")
    if indexing not in ("ij", "xy"):
        raise s.fail(f"indexing {indexing!r}", "ij or xy")
    order = list(range(len(lines)))
    if indexing == "xy":
        order[:2] = reversed(order[:2])
    sizes = [prod(s.shape(line)) for line in lines]
    whole = [sizes[k] for k in order]
    found = []
    for k, line in enumerate(lines):
        line = s.reshape(line, [sizes[k] if k == at else 1 for at in order])
        found.append(s.emit(relax.op.broadcast_to(line, whole)))
    return tuple(found)


def _shape_of(s: Site) -> Expr:
    return s.const(s.shape(0), s.attr("dtype") or "int32")


def _size_of(s: Site) -> Expr:
    return s.const(prod(s.shape(0)), s.attr("dtype") or "int32")


def _pairs(s: Site) -> list[tuple[int, int]]:
    pairs = s.attr("pad_width")
    if not all(isinstance(p, tuple) and len(p) == 2 for p in pairs):
        raise s.fail(f"pad_width {pairs}", "a pair for each axis")
    return [(int(a), int(b)) for a, b in pairs]


def _pad(s: Site) -> Expr:
    mode = s.attr("pad_mode")
    fill = float(s.constant(1, "the padding value").item()) if len(s.args) > 1 else float(s.attr("pad_value"))
    return _padded(s, {"edge": "replicate"}.get(mode, mode), fill)


def _padded(s: Site, mode: str, fill: float) -> Expr:
    if mode not in ("constant", "reflect", "replicate", "symmetric"):
        raise s.fail(f"padding mode {mode!r}", "constant, edge, reflect or symmetric")
    pairs = _pairs(s)
    if mode == "constant":
        known = s.layouts.nchw_of(s[0]) is not None
        # pixels of NHWC are padded: a convolution comes, and padding in NCHW becomes part of it
        pixels = len(pairs) == 4 and pairs[0] == pairs[3] == (0, 0) and any(pairs[1]) and any(pairs[2])
        order = (0, 3, 1, 2) if known or pixels else range(len(pairs))
        flat = [v for a in order for v in pairs[a]]
        data = s.layouts.to_nchw(s[0]) if known or pixels else s[0]
        value = s.emit(relax.op.nn.pad(data, flat, "constant", fill))
        return s.layouts.to_nhwc(value) if known or pixels else value
    value = s[0]
    for axis, (before, behind) in enumerate(pairs):
        n = s.shape(value)[axis]
        if (before, behind) != (0, 0):
            name = {"replicate": "edge"}.get(mode, mode)
            where: Any = np.pad(np.arange(n), (before, behind), mode=name)  # type: ignore[call-overload]
            value = s.emit(relax.op.take(value, s.const(where, "int64"), axis))
    return value


def _mirror_pad(s: Site) -> Expr:
    return _padded(s, str(s.attr("mode")).lower(), 0.0)


def blocks(s: Site, data: Expr, block: int, mode: str) -> Expr:
    """Channels of an NCHW value spread over blocks of pixels."""
    n, c, h, w = s.shape(data)
    if c % (block * block):
        raise s.fail(f"{c} channels in blocks of {block} x {block}", "a multiple")
    rest = c // (block * block)
    if mode == "DCR":
        value = s.reshape(data, (n, block, block, rest, h, w))
        value = s.transpose(value, (0, 3, 4, 1, 5, 2))
    else:
        value = s.reshape(data, (n, rest, block, block, h, w))
        value = s.transpose(value, (0, 1, 4, 2, 5, 3))
    return s.reshape(value, (n, rest, h * block, w * block))


def _depth_to_space(s: Site) -> Expr:
    if s.attr("layout") == "NHWC":
        value = blocks(s, s.layouts.to_nchw(s[0]), s.attr("block_size"), s.attr("mode"))
        return s.layouts.to_nhwc(value)
    return blocks(s, s[0], s.attr("block_size"), s.attr("mode"))


def _space_to_depth(s: Site) -> Expr:
    nhwc, block = s.attr("layout") == "NHWC", s.attr("block_size")
    data = s.layouts.to_nchw(s[0]) if nhwc else s[0]
    n, c, h, w = s.shape(data)
    value = s.reshape(data, (n, c, h // block, block, w // block, block))
    value = s.transpose(value, (0, 3, 5, 1, 2, 4))
    value = s.reshape(value, (n, block * block * c, h // block, w // block))
    return s.layouts.to_nhwc(value) if nhwc else value


_LIKE: dict[str, Attr] = {
    "lhs_begin": integer(0),
    "lhs_end": ref(None),
    "rhs_begin": integer(0),
    "rhs_end": ref(None),
}
_BLOCKS: dict[str, Attr] = {"block_size": integer(1), "layout": text("NCHW"), "mode": text("DCR")}
ROWS: tuple[Operator, ...] = (
    Operator("reshape", _reshape, {"newshape": ref(), "allowzero": flag(False)}),
    Operator("reshape_like", _reshape_like, _LIKE),
    Operator("transpose", _transpose, {"axes": ref(None)}),
    Operator("squeeze", _squeeze, {"axis": ref(None)}),
    Operator("expand_dims", _expand_dims, {"axis": integer(), "num_newaxis": integer(1)}),
    Operator("nn.batch_flatten", _batch_flatten, {}),
    Operator("concatenate", concatenate, {"axis": integer(0)}, data=(0,), axes=("axis",)),
    Operator("stack", _stack, {"axis": ref(0)}),
    Operator("split", _split, {"indices_or_sections": ref(), "axis": integer(0)}),
    Operator(
        "strided_slice",
        _strided_slice,
        {
            "begin": ref(None),
            "end": ref(None),
            "strides": ref(None),
            "slice_mode": text("end"),
            "axes": ref(None),
        },
    ),
    Operator("slice_like", _slice_like, {"axes": ref(None)}),
    Operator("tile", _tile, {"reps": ref()}),
    Operator("repeat", _repeat, {"repeats": ref(), "axis": ref(None)}),
    Operator("reverse", _reverse, {"axis": ref()}),
    Operator("broadcast_to", _broadcast_to, {"shape": ref(), "dtype": dtype()}),
    Operator("broadcast_to_like", _broadcast_to_like, {}),
    Operator("layout_transform", _layout_transform, {"src_layout": text(""), "dst_layout": text("")}),
    Operator("meshgrid", _meshgrid, {"indexing": text("ij")}),
    Operator("shape_of", _shape_of, {"dtype": dtype()}),
    Operator("ndarray_size", _size_of, {"dtype": dtype()}),
    Operator("nn.pad", _pad, {"pad_width": ref(), "pad_mode": text("constant"), "pad_value": ref(0.0)}),
    Operator("nn.mirror_pad", _mirror_pad, {"mode": text("SYMMETRIC"), "pad_width": ref()}),
    Operator("nn.depth_to_space", _depth_to_space, _BLOCKS),
    Operator("nn.space_to_depth", _space_to_depth, _BLOCKS),
)
