"""Resizing."""

from __future__ import annotations

from typing import Any

from sd_tvm._tvm import relax
from sd_tvm.relay.attrs import dtype, flag, integer, number, ref, text
from sd_tvm.relay.operators_conv import data_in, data_out
from sd_tvm.relay.site import Expr, Operator, Site


def _resized(s: Site, size: tuple[int, int], method: str, mode: str, rounding: str, **options: Any) -> Expr:
    known = {"nearest_neighbor": "nearest_neighbor", "linear": "linear", "cubic": "cubic"}
    if method not in known:
        raise s.fail(f"method {method!r}", "nearest_neighbor, linear or cubic")
    value = relax.op.image.resize2d(
        data_in(s, 0, "layout"),
        size,
        layout="NCHW",
        method=method,
        coordinate_transformation_mode=mode,
        rounding_method=rounding,
        **options,
    )
    return data_out(s, value, "layout")


def _resize2d(s: Site) -> Expr:
    mode = s.attr("coordinate_transformation_mode")
    if mode == "tf_crop_and_resize":
        raise s.fail("crop and resize", "a resize of the whole image")
    size = s.ints("size")
    return _resized(
        s,
        (size * 2 if len(size) == 1 else size)[:2],  # type: ignore[arg-type]
        s.attr("method"),
        mode,
        s.attr("rounding_method"),
        cubic_alpha=s.attr("cubic_alpha"),
        cubic_exclude=s.attr("cubic_exclude"),
        extrapolation_value=s.attr("extrapolation_value"),
        out_dtype=s.attr("out_dtype") or None,
    )


def _upsampling(s: Site) -> Expr:
    h, w = (s.shape(0)[s.attr("layout").index(c)] for c in "HW")
    size = (round(h * s.attr("scale_h")), round(w * s.attr("scale_w")))
    method = {"bilinear": "linear", "bicubic": "cubic"}.get(s.attr("method"), s.attr("method"))
    mode = "align_corners" if s.attr("align_corners") else "asymmetric"
    return _resized(s, size, method, mode, "", cubic_alpha=-0.5)


def _grid_sample(s: Site) -> Expr:
    if s.attr("layout") != "NCHW":
        raise s.fail(f"layout {s.attr('layout')!r}", "NCHW", "transpose in Relay")
    return relax.op.image.grid_sample(
        s[0], s[1], s.attr("method"), "NCHW", s.attr("padding_mode"), s.attr("align_corners")
    )


ROWS: tuple[Operator, ...] = (
    Operator(
        "image.resize2d",
        _resize2d,
        {
            "size": ref(None),
            "roi": ref(None),
            "layout": text("NCHW"),
            "method": text("linear"),
            "coordinate_transformation_mode": text("half_pixel"),
            "rounding_method": text("round"),
            "cubic_alpha": number(-0.5),
            "cubic_exclude": integer(0),
            "extrapolation_value": number(0.0),
            "out_dtype": dtype(),
        },
    ),
    Operator(
        "nn.upsampling",
        _upsampling,
        {
            "scale_h": number(),
            "scale_w": number(),
            "layout": text("NCHW"),
            "method": text("nearest_neighbor"),
            "align_corners": flag(False),
        },
    ),
    Operator(
        "image.grid_sample",
        _grid_sample,
        {
            "method": text("bilinear"),
            "layout": text("NCHW"),
            "padding_mode": text("zeros"),
            "align_corners": flag(True),
        },
    ),
)
