"""Normalisation and softmax."""

from __future__ import annotations

from typing import Any

from sd_tvm._tvm import relax
from sd_tvm.relay.attrs import Attr, flag, integer, number, ref, text
from sd_tvm.relay.site import Expr, Operator, Site


def _attrs(axis: int) -> dict[str, Attr]:
    return {"axis": integer(axis), "epsilon": number(1e-5), "center": flag(True), "scale": flag(True)}


def _batch_norm(s: Site) -> tuple[Expr, ...]:
    result = s.emit(
        relax.op.nn.batch_norm(
            s[0],
            s[1],
            s[2],
            s[3],
            s[4],
            axis=s.axis(),
            epsilon=s.attr("epsilon"),
            center=s.attr("center"),
            scale=s.attr("scale"),
            training=False,
        )
    )
    # the running statistics, which inference does not change
    return (s.emit(relax.TupleGetItem(result, 0)), s[3], s[4])


def _spatial(s: Site) -> list[int]:
    return [d for d in range(len(s.shape(0))) if d not in (0, s.axis())]


def _layer_norm(s: Site) -> Expr:
    return relax.op.nn.layer_norm(
        s[0], s[1], s[2], [s.axis()], s.attr("epsilon"), s.attr("center"), s.attr("scale")
    )


def _instance_norm(s: Site) -> Expr:
    return relax.op.nn.instance_norm(
        s[0], s[1], s[2], s.axis(), _spatial(s), s.attr("epsilon"), s.attr("center"), s.attr("scale")
    )


def _group_norm(s: Site) -> Expr:
    return relax.op.nn.group_norm(
        s[0],
        s[1],
        s[2],
        s.attr("num_groups"),
        s.axis(),
        _spatial(s),
        s.attr("epsilon"),
        s.attr("center"),
        s.attr("scale"),
    )


def _l2_normalize(s: Site) -> Expr:
    axes = [a % len(s.shape(0)) for a in s.ints("axis")]
    total = relax.op.sum(relax.op.multiply(s[0], s[0]), axes, keepdims=True)
    floor = relax.op.maximum(total, s.const(s.attr("eps"), s.dtype(0)))
    return relax.op.divide(s[0], relax.op.sqrt(floor))


def _lrn(s: Site) -> Expr:
    if s.axis() != 1 or len(s.shape(0)) != 4:
        raise s.fail(f"axis {s.attr('axis')}", "channels in axis 1 of 4")
    n, c, h, w = s.shape(0)
    size, kind = s.attr("size"), s.dtype(0)
    rows = relax.op.reshape(relax.op.multiply(s[0], s[0]), (n, 1, c, h * w))
    # the mean of `size` neighbouring channels, zeros beside the first and the last
    mean = relax.op.nn.avg_pool2d(
        rows, (size, 1), (1, 1), (size // 2, 0, size // 2, 0), count_include_pad=True
    )
    base = relax.op.add(
        relax.op.multiply(relax.op.reshape(mean, (n, c, h, w)), s.const(s.attr("alpha"), kind)),
        s.const(s.attr("bias"), kind),
    )
    return relax.op.divide(s[0], relax.op.power(base, s.const(s.attr("beta"), kind)))


def _along_axis(function: Any) -> Any:
    return lambda s: function(s[0], s.axis())


_AXIS = {"axis": integer(-1)}
ROWS: tuple[Operator, ...] = (
    Operator("nn.batch_norm", _batch_norm, _attrs(1), weights=(1, 2, 3, 4), data=(0,), axes=("axis",)),
    Operator("nn.layer_norm", _layer_norm, _attrs(-1), weights=(1, 2)),
    Operator("nn.instance_norm", _instance_norm, _attrs(1), weights=(1, 2)),
    Operator("nn.group_norm", _group_norm, {"num_groups": integer(0), **_attrs(1)}, weights=(1, 2)),
    Operator("nn.l2_normalize", _l2_normalize, {"eps": number(), "axis": ref()}),
    Operator(
        "nn.lrn",
        _lrn,
        {
            "size": integer(5),
            "axis": integer(1),
            "bias": number(2.0),
            "alpha": number(1e-4),
            "beta": number(0.75),
            "norm_region": text("ACROSS_CHANNELS"),
        },
    ),
    Operator("nn.softmax", _along_axis(relax.op.nn.softmax), _AXIS, data=(0,), axes=("axis",)),
    Operator("nn.fast_softmax", _along_axis(relax.op.nn.softmax), _AXIS, data=(0,), axes=("axis",)),
    Operator("nn.log_softmax", _along_axis(relax.op.nn.log_softmax), _AXIS, data=(0,), axes=("axis",)),
)
