"""Reductions."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from sd_tvm._tvm import relax
from sd_tvm.relay.attrs import flag, ref
from sd_tvm.relay.site import Expr, Operator, Site

_ATTRS = {"axis": ref(None), "keepdims": flag(False), "exclude": flag(False)}
_ARG_ATTRS = {**_ATTRS, "select_last_index": flag(False)}


def _axes(s: Site) -> list[int]:
    rank = len(s.shape(0))
    if s.attr("axis") is None:
        axes = list(range(rank))
    else:
        if any(not -rank <= a < rank for a in s.ints("axis")):
            raise s.fail(f"axis {s.attr('axis')} of a tensor of rank {rank}", "its axes")
        axes = sorted({a % rank for a in s.ints("axis")})
    return [a for a in range(rank) if a not in axes] if s.attr("exclude") else axes


def _reduce(function: Callable[..., Any]) -> Callable[[Site], Expr]:
    def build(s: Site) -> Expr:
        axes, keep = _axes(s), s.attr("keepdims")
        nchw = s.layouts.nchw_of(s[0])
        if nchw is not None and axes == [1, 2]:
            # what is left has its axes in the same order in both layouts
            value = s.emit(function(s, nchw, [2, 3], keep))
            return s.layouts.to_nhwc(value) if keep else value
        return function(s, s[0], axes, keep)

    return build


def _plain(function: Callable[..., Any]) -> Callable[[Site], Expr]:
    return _reduce(lambda _s, x, axes, keep: function(x, axes, keepdims=keep))


def _mean_of(s: Site, x: Expr, axes: list[int], keep: bool) -> Expr:
    if s.dtype(x).startswith("float"):
        return relax.op.mean(x, axes, keepdims=keep)
    total = s.emit(relax.op.sum(x, axes, keepdims=keep))
    return relax.op.divide(total, s.const(prod(s.shape(x)[a] for a in axes), s.dtype(x)))  # towards zero


def _logical(function: Callable[..., Any]) -> Callable[[Site], Expr]:
    def of(s: Site, x: Expr, axes: list[int], keep: bool) -> Expr:
        return relax.op.astype(function(s.cast(x, "int32"), axes, keepdims=keep), "bool")

    return _reduce(of)


def _arg(function: Callable[..., Any]) -> Callable[[Site], Expr]:
    def build(s: Site) -> Expr:
        if s.attr("select_last_index"):
            raise s.fail("select_last_index", "the first of equal values")
        axes, rank = _axes(s), len(s.shape(0))
        if len(axes) not in (1, rank):
            raise s.fail(f"axes {axes}", "one axis, or all")
        value = function(s[0], axes[0] if len(axes) == 1 else None, s.attr("keepdims"))
        return relax.op.astype(value, "int32")

    return build


def _variance(s: Site) -> Expr:
    axes, keep = _axes(s), s.attr("keepdims")
    n = prod(s.shape(0)[a] for a in axes) - int(s.attrs["unbiased"])
    kind = s.dtype(0)
    mean = s[1]
    if len(s.shape(mean)) != len(s.shape(0)):
        mean = s.reshape(mean, [1 if a in axes else d for a, d in enumerate(s.shape(0))])
    difference = s.emit(relax.op.subtract(s[0], mean))
    total = relax.op.sum(relax.op.multiply(difference, difference), axes, keepdims=keep)
    return relax.op.divide(total, s.const(n, kind))


ROWS: tuple[Operator, ...] = (
    Operator("sum", _plain(relax.op.sum), _ATTRS),
    Operator("mean", _reduce(_mean_of), _ATTRS),
    Operator("max", _plain(relax.op.max), _ATTRS),
    Operator("min", _plain(relax.op.min), _ATTRS),
    Operator("prod", _plain(relax.op.prod), _ATTRS),
    Operator("all", _logical(relax.op.min), _ATTRS),
    Operator("any", _logical(relax.op.max), _ATTRS),
    Operator("argmax", _arg(relax.op.argmax), _ARG_ATTRS),
    Operator("argmin", _arg(relax.op.argmin), _ARG_ATTRS),
    Operator("variance", _variance, {**_ATTRS, "unbiased": flag(False)}),
)
