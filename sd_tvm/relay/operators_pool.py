"""Pooling."""

from __future__ import annotations

from typing import Any

import numpy as np

from sd_tvm._tvm import relax
from sd_tvm.relay.attrs import Attr, flag, ref, text
from sd_tvm.relay.operators_conv import data_in, data_out, padding, per_axis
from sd_tvm.relay.site import Expr, Operator, Site

#: Layouts with one axis and with three axes of pixels; two may be NHWC as well.
_LAYOUTS = {1: "NCW", 2: "NCHW", 3: "NCDHW"}


def _attrs(n: int, average: bool) -> dict[str, Attr]:
    return {
        "pool_size": ref(),
        "strides": ref((1,) * n),
        "dilation": ref((1,) * n),
        "padding": ref((0,) * n),
        "layout": text(_LAYOUTS[n]),
        "out_layout": text(""),
        "ceil_mode": flag(False),
        **({"count_include_pad": flag(False)} if average else {}),
    }


_GLOBAL: dict[str, Attr] = {"layout": text("NCHW"), "out_layout": text("")}
_ADAPTIVE: dict[str, Attr] = {"output_size": ref(()), **_GLOBAL}


def _options(s: Site, n: int) -> dict[str, Any]:
    return {
        "pool_size": per_axis(s, "pool_size", n),
        "strides": per_axis(s, "strides", n),
        "padding": padding(s, n),
        "dilation": per_axis(s, "dilation", n),
        "ceil_mode": s.attr("ceil_mode"),
        "count_include_pad": s.attrs.get("count_include_pad", False),
    }


def _max_pool2d(s: Site) -> Expr:
    return data_out(s, relax.op.nn.max_pool2d(data_in(s, 0, "layout"), **_options(s, 2)), "layout")


def _avg_pool2d(s: Site) -> Expr:
    return data_out(s, _average(s, data_in(s, 0, "layout")), "layout")


def _pool(function: Any, n: int) -> Any:
    def build(s: Site) -> Expr:
        if s.attr("layout") != _LAYOUTS[n]:
            raise s.fail(f"layout {s.attr('layout')!r}", _LAYOUTS[n], "transpose in Relay")
        return function(s[0], **_options(s, n))

    return build


def _adaptive_avg_pool3d(s: Site) -> Expr:
    if s.attr("layout") != _LAYOUTS[3]:
        raise s.fail(f"layout {s.attr('layout')!r}", _LAYOUTS[3], "transpose in Relay")
    return relax.op.nn.adaptive_avg_pool3d(s[0], s.ints("output_size") or s.shape(0)[2:])


def _integer_average(s: Site, data: Expr) -> Expr:
    """Average of an integer window towards zero: a convolution with ones gives its sum."""
    _, c, *size = s.shape(data)
    kernel, strides = per_axis(s, "pool_size", 2), per_axis(s, "strides", 2)
    pads, dilation = padding(s, 2), per_axis(s, "dilation", 2)
    counts = []
    for k in range(2):
        before, behind, extent = pads[k], pads[k + 2], (kernel[k] - 1) * dilation[k] + 1
        whole = size[k] + before + behind
        more = -(whole - extent) % strides[k] if s.attr("ceil_mode") else 0
        pads[k + 2] = behind + more
        starts = np.arange(0, whole + more - extent + 1, strides[k])[:, None]
        at = starts + np.arange(kernel[k]) * dilation[k] - before
        low, high = (-before, size[k] + behind) if s.attr("count_include_pad") else (0, size[k])
        counts.append(((at >= low) & (at < high)).sum(1))
    kind = s.dtype(data)
    ones = s.const(np.ones((c, 1, *kernel)), kind)
    total = s.emit(relax.op.nn.conv2d(data, ones, strides, pads, dilation, c))
    return relax.op.divide(total, s.const(np.maximum(counts[0][:, None] * counts[1], 1), kind))


def _average(s: Site, data: Expr) -> Expr:
    if not s.dtype(data).startswith("float"):
        return _integer_average(s, data)
    return relax.op.nn.avg_pool2d(data, **_options(s, 2))


def whole_mean(s: Site, data: Expr) -> Expr:
    """Mean of H and W, rounded towards zero for integers as Relay does."""
    if s.dtype(data).startswith("float"):
        return relax.op.mean(data, [2, 3], keepdims=True)
    _, _, h, w = s.shape(data)
    total = s.emit(relax.op.sum(data, [2, 3], keepdims=True))
    return relax.op.divide(total, s.const(h * w, s.dtype(data)))


def _global(average: bool) -> Any:
    def build(s: Site) -> Expr:
        data = data_in(s, 0, "layout")
        value = whole_mean(s, data) if average else relax.op.max(data, [2, 3], keepdims=True)
        return data_out(s, value, "layout")

    return build


def _adaptive(average: bool) -> Any:
    def build(s: Site) -> Expr:
        data = data_in(s, 0, "layout")
        h, w = s.shape(data)[2:]
        size = s.ints("output_size") or (h, w)
        oh, ow = size * 2 if len(size) == 1 else size
        if (oh, ow) == (1, 1):
            return _global(average)(s)
        if h % oh == 0 and w % ow == 0:
            window = [h // oh, w // ow]
            pool = relax.op.nn.avg_pool2d if average else relax.op.nn.max_pool2d
            return data_out(s, pool(data, window, window), "layout")
        if not average:
            raise s.fail(f"windows of {h} x {w} for {oh} x {ow} results", "windows of one size")
        return data_out(s, relax.op.nn.adaptive_avg_pool2d(data, (oh, ow)), "layout")

    return build


ROWS: tuple[Operator, ...] = (
    Operator("nn.max_pool2d", _max_pool2d, _attrs(2, False)),
    Operator("nn.avg_pool2d", _avg_pool2d, _attrs(2, True)),
    Operator("nn.max_pool1d", _pool(relax.op.nn.max_pool1d, 1), _attrs(1, False)),
    Operator("nn.avg_pool1d", _pool(relax.op.nn.avg_pool1d, 1), _attrs(1, True)),
    Operator("nn.max_pool3d", _pool(relax.op.nn.max_pool3d, 3), _attrs(3, False)),
    Operator("nn.avg_pool3d", _pool(relax.op.nn.avg_pool3d, 3), _attrs(3, True)),
    Operator("nn.adaptive_avg_pool3d", _adaptive_avg_pool3d, {**_ADAPTIVE, "layout": text(_LAYOUTS[3])}),
    Operator("nn.global_avg_pool2d", _global(True), _GLOBAL),
    Operator("nn.global_max_pool2d", _global(False), _GLOBAL),
    Operator("nn.adaptive_avg_pool2d", _adaptive(True), _ADAPTIVE),
    Operator("nn.adaptive_max_pool2d", _adaptive(False), _ADAPTIVE),
)
