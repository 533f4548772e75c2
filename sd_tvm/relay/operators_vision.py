"""Boxes: priors, their decoding, suppression, and pooling of regions.

Results have the fixed shapes that Relay gives them. Rows behind the last valid one are -1, also where Relay
leaves them as they were in memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sd_tvm._tvm import relax
from sd_tvm.relay.attrs import Attr, flag, integer, number, ref, text
from sd_tvm.relay.operators_conv import data_in, data_out
from sd_tvm.relay.site import Expr, Operator, Site

#: A score below all others.
_LOWEST = float(np.finfo("float32").min)


def _floats(s: Site, name: str) -> tuple[float, ...]:
    value = s.attr(name)
    return tuple(float(v) for v in (value if isinstance(value, tuple) else (value,)))


def _scalar(s: Site, k: int, what: str) -> float:
    value = s.constant(k, what)
    if value.size != 1:
        raise s.fail(f"{what} of shape {list(value.shape)}", "one number")
    return float(value.reshape(()))


def _numbers(s: Site, n: int) -> Expr:
    """Numbers of rows, (1, n)."""
    return s.const(np.arange(n)[None], "int32")


def _before(s: Site, n: int, count: Expr) -> Expr:
    """Whether a row stands before the ``count``-th, (B, n) for counts (B,)."""
    return s.emit(relax.op.less(_numbers(s, n), s.reshape(count, (s.shape(count)[0], 1))))


def _column(s: Site, rows: Expr, at: int) -> Expr:
    """Numbers (B, N) of rows (B, N, L)."""
    return s.emit(relax.op.take(rows, s.const(at, "int64"), 2, "clip"))


def _count(s: Site, mask: Expr, keepdims: bool = False) -> Expr:
    return s.emit(relax.op.sum(s.cast(mask, "int32"), 1, keepdims))


def _first(s: Site, mask: Expr) -> Expr:
    """Order of rows that brings those of a mask (B, N) to the front, (B, N)."""
    return s.emit(relax.op.argsort(s.cast(s.emit(relax.op.logical_not(mask)), "int32"), 1, False, "int32"))


def _picked(s: Site, rows: Expr, order: Expr) -> Expr:
    """Rows (B, N) or (B, N, L) in an order (B, N)."""
    shape, index = s.shape(rows), s.cast(order, "int64")
    if len(shape) == 3:
        index = s.emit(relax.op.broadcast_to(s.reshape(index, (*shape[:2], 1)), shape))
    return s.emit(relax.op.gather_elements(rows, index, 1))


def _masked(s: Site, mask: Expr, rows: Expr) -> Expr:
    """Rows of a mask (B, N); the others -1."""
    shape = s.shape(rows)
    if len(shape) == 3:
        mask = s.reshape(mask, (*shape[:2], 1))
    return s.emit(relax.op.where(mask, rows, s.const(-1, s.dtype(rows))))


def _multibox_prior(s: Site) -> Expr:
    """Boxes depend on nothing but the size of the map: a constant."""
    h, w = s.shape(0)[2:]
    sizes, ratios = _floats(s, "sizes"), _floats(s, "ratios")
    steps, offsets = _floats(s, "steps"), _floats(s, "offsets")
    if not sizes or not ratios or len(steps) != 2 or len(offsets) != 2:
        raise s.fail(f"sizes {sizes}, ratios {ratios}, steps {steps}, offsets {offsets}", "two of each axis")
    step_h, step_w = (step if step > 0 else 1 / n for step, n in zip(steps, (h, w), strict=True))
    y, x = ((np.arange(n) + o) * d for n, o, d in zip((h, w), offsets, (step_h, step_w), strict=True))
    root = np.sqrt(np.array(ratios[1:]))
    half_w = np.concatenate([np.array(sizes) * h / w, sizes[0] * h / w * root]) / 2
    half_h = np.concatenate([np.array(sizes), sizes[0] / root]) / 2
    boxes = np.empty((h, w, len(half_w), 4))
    for at, sign in ((0, -1), (2, 1)):
        boxes[..., at] = x[None, :, None] + sign * half_w
        boxes[..., at + 1] = y[:, None, None] + sign * half_h
    boxes = np.clip(boxes, 0, 1) if s.attr("clip") else boxes
    return s.const(boxes.reshape(1, -1, 4), "float32")


def _multibox_transform_loc(s: Site) -> tuple[Expr, ...]:
    scores, keep = s[0], s.attr("keep_background")
    decoded = relax.op.vision.multibox_transform_loc(
        scores, s[1], s[2], s.attr("clip"), 0.0, _floats(s, "variances"), True, False
    )
    boxes = s.emit(relax.TupleGetItem(s.emit(decoded), 0))  # top, left, bottom, right
    boxes = s.emit(relax.op.take(boxes, s.const([1, 0, 3, 2], "int64"), 2, "clip"))
    n, first = s.shape(0)[2], 0 if keep else 1
    if not keep:
        scores = s.emit(relax.op.strided_slice(scores, [1], [1], [s.shape(0)[1]]))
    best = s.emit(relax.op.max(scores, 1))
    label = s.cast(s.emit(relax.op.argmax(scores, 1)), "int32")
    label = s.emit(relax.op.add(label, s.const(first, "int32")))
    # a class has to be better than -1, and any but the background than the threshold
    above = s.emit(relax.op.greater(best, s.const(-1, "float32")))
    enough = s.emit(relax.op.greater_equal(best, s.const(s.attr("threshold"), "float32")))
    taken = s.emit(relax.op.logical_and(above, enough))
    label = s.emit(relax.op.where(taken, label, s.const(0, "int32")))
    best = s.emit(relax.op.where(above, best, s.const(-1, "float32")))
    shown = s.cast(s.emit(relax.op.subtract(label, s.const(first, "int32"))), "float32")
    columns = [s.reshape(v, (*s.shape(v), 1)) for v in (shown, best)]
    rows = s.emit(relax.op.concat([*columns, boxes], 2))
    if keep:
        return rows, s.const(np.full(s.shape(0)[0], n), "int32")
    found = s.emit(relax.op.greater(label, s.const(0, "int32")))
    count = _count(s, found)
    return _masked(s, _before(s, n, count), _picked(s, rows, _first(s, found))), count


def _get_valid_counts(s: Site) -> tuple[Expr, ...]:
    threshold = _scalar(s, 1, "the score threshold")
    found = relax.op.vision.get_valid_counts(s[0], threshold, s.attr("id_index"), s.attr("score_index"))
    found = s.emit(found)
    return tuple(s.emit(relax.TupleGetItem(found, k)) for k in range(3))


def _non_max_suppression(s: Site) -> Any:
    """Relax suppresses what Relay suppresses; what they do with scores that are not positive differs.

    Relay lets such boxes pass, Relax drops them. So rows are sorted here, and those with a positive score,
    which then come first, are Relax's.
    """
    most, overlap = round(_scalar(s, 3, "max_output_size")), _scalar(s, 4, "iou_threshold")
    if overlap <= 0 or most == 0:
        raise s.fail(f"iou_threshold {overlap:g}, max_output_size {most}", "a threshold above 0, and a limit")
    (batch, n, _), at = s.shape(0), s.attr("score_index")
    within = _before(s, n, s[1])
    score = _column(s, s[0], at)
    order = s.emit(relax.op.where(within, score, s.const(_LOWEST, "float32")))
    order = s.emit(relax.op.argsort(order, 1, True, "int32"))
    rows = _picked(s, s[0], order)
    top = s.emit(relax.op.minimum(s[1], s.const(s.attr("top_k"), "int32"))) if s.attr("top_k") > 0 else s[1]
    within = _before(s, n, top)
    score = _column(s, rows, at)
    positive = s.emit(relax.op.greater(score, s.const(0, "float32")))
    positive = s.emit(relax.op.logical_and(within, positive))
    every = s.const(np.tile(np.arange(n), (batch, 1)), "int32")
    kept = relax.op.vision.non_max_suppression(
        rows,
        _count(s, positive),
        every,
        most,
        overlap,
        s.attr("force_suppress"),
        -1,
        s.attr("coord_start"),
        at,
        s.attr("id_index"),
        return_indices=False,
    )
    score = _column(s, s.emit(kept), at)
    kept = s.emit(relax.op.greater(score, s.const(0, "float32")))
    passed = s.emit(relax.op.logical_and(within, s.emit(relax.op.logical_not(positive))))
    if most > 0:
        more = s.emit(relax.op.less(_count(s, kept, keepdims=True), s.const(most, "int32")))
        passed = s.emit(relax.op.logical_and(passed, more))
    kept = s.emit(relax.op.logical_or(kept, passed))
    if s.attr("return_indices"):
        indices = _masked(s, kept, _picked(s, s[2], order))
        kept = s.emit(relax.op.greater_equal(indices, s.const(0, s.dtype(indices))))
        return _picked(s, indices, _first(s, kept)), _count(s, kept, keepdims=True)
    rows = _masked(s, kept, rows)
    if not s.attr("invalid_to_bottom"):
        return rows
    first = _column(s, rows, 0)
    kept = s.emit(relax.op.greater_equal(first, s.const(0, "float32")))
    return _picked(s, _masked(s, kept, rows), _first(s, kept))


def _all_class(s: Site) -> tuple[Expr, ...]:
    most, form = round(_scalar(s, 2, "max_output_boxes_per_class")), s.attr("output_format")
    overlap, threshold = _scalar(s, 3, "iou_threshold"), _scalar(s, 4, "score_threshold")
    if form not in ("onnx", "tensorflow"):
        raise s.fail(f"output_format {form!r}", "onnx or tensorflow")
    # the other format of Relax has a dynamic shape, Relay's has not
    found = relax.op.vision.all_class_non_max_suppression(
        s[0],
        s[1],
        s.const(most, "int32"),
        s.const(overlap, "float32"),
        s.const(threshold, "float32"),
        "tensorflow",
    )
    found = s.emit(found)
    rows, scores, count = (s.emit(relax.TupleGetItem(found, k)) for k in range(3))
    if form == "tensorflow":
        return rows, scores, count
    batch, n, _ = s.shape(rows)
    image = s.const(np.broadcast_to(np.arange(batch)[:, None, None], (batch, n, 1)), "int64")
    rows = s.reshape(s.emit(relax.op.concat([image, rows], 2)), (1, batch * n, 3))
    valid = s.reshape(_before(s, n, s.cast(count, "int32")), (1, batch * n))
    rows = _picked(s, _masked(s, valid, rows), _first(s, valid))
    return s.reshape(rows, (batch * n, 3)), relax.op.sum(count, 0, keepdims=True)


def _roi_align(s: Site) -> Expr:
    value = relax.op.vision.roi_align(
        data_in(s, 0, "layout"),
        s[1],
        s.ints("pooled_size"),
        s.attr("spatial_scale"),
        s.attr("sample_ratio"),
        mode=s.attr("mode"),
    )
    return data_out(s, value, "layout")


def _roi_pool(s: Site) -> Expr:
    data = data_in(s, 0, "layout")
    value = relax.op.vision.roi_pool(data, s[1], s.ints("pooled_size"), s.attr("spatial_scale"))
    return data_out(s, value, "layout")


def _single(*values: float) -> tuple[float, ...]:
    """Numbers as Relay's attributes hold them."""
    return tuple(float(np.float32(v)) for v in values)


_REGIONS: dict[str, Attr] = {"pooled_size": ref(), "spatial_scale": number(), "layout": text("NCHW")}
ROWS: tuple[Operator, ...] = (
    Operator(
        "vision.multibox_prior",
        _multibox_prior,
        {
            "sizes": ref((1.0,)),
            "ratios": ref((1.0,)),
            "steps": ref((-1.0, -1.0)),
            "offsets": ref((0.5, 0.5)),
            "clip": flag(False),
        },
    ),
    Operator(
        "vision.multibox_transform_loc",
        _multibox_transform_loc,
        {
            "clip": flag(True),
            "threshold": number(0.01),
            "variances": ref(_single(0.1, 0.1, 0.2, 0.2)),
            "keep_background": flag(False),
        },
    ),
    Operator(
        "vision.get_valid_counts", _get_valid_counts, {"id_index": integer(0), "score_index": integer(1)}
    ),
    Operator(
        "vision.non_max_suppression",
        _non_max_suppression,
        {
            "force_suppress": flag(False),
            "top_k": integer(-1),
            "coord_start": integer(2),
            "score_index": integer(1),
            "id_index": integer(0),
            "return_indices": flag(True),
            "invalid_to_bottom": flag(False),
        },
    ),
    Operator("vision.all_class_non_max_suppression", _all_class, {"output_format": text("onnx")}),
    Operator("vision.roi_align", _roi_align, {**_REGIONS, "sample_ratio": integer(-1), "mode": text("avg")}),
    Operator("vision.roi_pool", _roi_pool, _REGIONS),
)
