"""Cases of ``make_operators.py`` with boxes: every operator, the head of an SSD and that of a Faster R-CNN.

Rows behind the last valid one are whatever was in memory in some of Relay's results; here they become -2.
"""

from __future__ import annotations

import numpy as np
from registry import const
from tvm import relay

BOXES = ("boxes", (2, 9, 6))
MAP = (1, 4, 6, 5)


def before(count, n):
    """(B, n, 1) of whether a row stands before the ``count``-th of its image."""
    numbers = const(np.arange(n)[None, :, None], "int32")
    return relay.less(numbers, relay.reshape(relay.cast(count, "int32"), (-1, 1, 1)))


def shown(rows, count, n):
    """Valid rows, and how many they are."""
    return relay.Tuple([relay.where(before(count, n), rows, const(-2)), count])


def suppressed(x, count, indices=None, **options):
    vision = relay.vision.non_max_suppression
    indices = const(np.tile(np.arange(9), (2, 1)), "int32") if indices is None else indices
    found = vision(x, const(count, "int32"), indices, **options)
    return found.astuple() if options.get("return_indices", True) else found


def all_classes(x, y, form):
    found = relay.vision.all_class_non_max_suppression(x, y, 3, 0.3, 0.2, form)
    if form == "tensorflow":
        return found.astuple()
    rows = relay.reshape(relay.cast(found[0], "float32"), (1, -1, 3))
    return shown(rows, found[1], 2 * 3 * 7)


def simple(case):
    """Operators one by one."""

    def add(name, function, **inputs):
        case(name, **inputs)(lambda r, **v: function(*v.values()))

    prior, loc = relay.vision.multibox_prior, relay.vision.multibox_transform_loc
    add("vision.multibox_prior", lambda x: prior(x, (0.2, 0.5), (1.0, 2.0, 0.5)), x=MAP)
    add(
        "vision.multibox_prior-steps",
        lambda x: prior(x, (0.3,), (1.0, 3.0), steps=(0.2, 0.25), offsets=(0.25, 0.75), clip=True),
        x=MAP,
    )

    def located(x, y, **options):
        boxes = prior(const(np.zeros((1, 1, 3, 3))), (0.3,), (1.0,))
        return shown(*loc(x, y, boxes, **options), 9)

    inputs = {"x": ("probability", (2, 4, 9)), "y": (2, 36)}
    add("vision.multibox_transform_loc", located, **inputs)
    add(
        "vision.multibox_transform_loc-threshold",
        lambda x, y: located(x, y, clip=False, threshold=0.8, variances=(0.2, 0.1, 0.3, 0.4)),
        **inputs,
    )
    add(
        "vision.multibox_transform_loc-background",
        lambda x, y: located(x, y, threshold=0.8, keep_background=True),
        **inputs,
    )
    counts = relay.vision.get_valid_counts
    add("vision.get_valid_counts", lambda x: counts(x, 0.3).astuple(), x=BOXES)
    add("vision.get_valid_counts-plain", lambda x: counts(x, 0.0, -1, 1).astuple(), x=BOXES)
    for name, options in {
        "": {},
        "-boxes": {"return_indices": False},
        "-bottom": {"return_indices": False, "invalid_to_bottom": True, "iou_threshold": 0.2},
        "-force": {"force_suppress": True, "iou_threshold": 0.2},
        "-top": {"top_k": 4, "iou_threshold": 0.7, "return_indices": False},
        "-most": {"max_output_size": 2, "iou_threshold": 0.7},
        "-plain": {"id_index": -1, "iou_threshold": 0.3, "return_indices": False},
    }.items():
        add(f"vision.non_max_suppression{name}", lambda x, o=options: suppressed(x, [9, 6], **o), x=BOXES)
    inputs = {"x": ("corners", (2, 7, 4)), "y": ("probability", (2, 3, 7))}
    for form in ("onnx", "tensorflow"):
        add(
            f"vision.all_class_non_max_suppression{'' if form == 'onnx' else '-' + form}",
            lambda x, y, f=form: all_classes(x, y, f),
            **inputs,
        )
    align, rois = relay.vision.roi_align, ("rois", (5, 5))
    data = (2, 3, 8, 7)
    add("vision.roi_align", lambda x, y: align(x, y, (3, 2), 0.5), x=data, y=rois)
    add("vision.roi_align-ratio", lambda x, y: align(x, y, (2, 2), 0.25, 2), x=data, y=rois)
    add("vision.roi_align-max", lambda x, y: align(x, y, (2, 3), 0.5, 2, mode="max"), x=data, y=rois)
    add(
        "vision.roi_align-nhwc",
        lambda x, y: align(x, y, (3, 2), 0.5, 2, layout="NHWC"),
        x=(2, 8, 7, 3),
        y=rois,
    )
    add("vision.roi_pool", lambda x, y: relay.vision.roi_pool(x, y, (3, 2), 0.5), x=data, y=rois)


def conv(r, x, channels, cin, k=3, **options):
    kernel = const(r.normal(size=(channels, cin, k, k)) * (2 / (cin * k * k)) ** 0.5)
    y = relay.nn.conv2d(x, kernel, channels=channels, kernel_size=(k, k), padding=(k // 2,) * 2, **options)
    return relay.nn.bias_add(y, const(r.normal(size=channels) * 0.1))


def ssd(case):
    """Two maps, priors, decoding and suppression, as Relay's front end of MXNet writes an SSD."""

    @case("net-ssd", x=(1, 3, 32, 32))
    def _(r, x):
        a = relay.nn.relu(conv(r, relay.nn.relu(conv(r, x, 8, 3, strides=(2, 2))), 8, 8, strides=(2, 2)))
        b = relay.nn.relu(conv(r, a, 8, 8, strides=(2, 2)))
        scores, places, anchors = [], [], []
        for data, sizes in ((a, (0.2, 0.3)), (b, (0.5, 0.7))):
            n = len(sizes) + 1
            for outs, channels in ((scores, 4 * n), (places, 4 * n)):
                y = relay.transpose(conv(r, data, channels, 8), (0, 2, 3, 1))
                outs.append(relay.nn.batch_flatten(y))
            anchors.append(relay.vision.multibox_prior(data, sizes, (1.0, 2.0)))
        scores = relay.reshape(relay.concatenate(scores, 1), (0, -1, 4))
        scores = relay.nn.softmax(relay.transpose(scores, (0, 2, 1)), 1)
        rows, count = relay.vision.multibox_transform_loc(
            scores, relay.concatenate(places, 1), relay.concatenate(anchors, 1)
        )
        return relay.vision.non_max_suppression(
            rows,
            count,
            count,
            iou_threshold=0.45,
            top_k=40,
            max_output_size=10,
            return_indices=False,
            invalid_to_bottom=True,
        )


def rcnn(case):
    """Proposals of a map, suppressed as Relay's front end of PyTorch does it, and a head on their regions."""

    @case("net-rcnn", x=(1, 3, 32, 32))
    def _(r, x):
        data = relay.nn.relu(conv(r, relay.nn.relu(conv(r, x, 8, 3, strides=(2, 2))), 8, 8, strides=(2, 2)))
        score = relay.reshape(conv(r, data, 1, 8, 1), (64,))
        moved = relay.reshape(relay.transpose(conv(r, data, 4, 8, 1), (0, 2, 3, 1)), (64, 4))
        y, x0 = np.mgrid[0:8, 0:8].reshape(2, -1) * 4 + 2
        middle = const(np.stack([x0, y], 1)) + relay.strided_slice(moved, [0, 0], [64, 2]) * const(4.0)
        half = relay.exp(relay.strided_slice(moved, [0, 2], [64, 4])) * const(5.0)
        boxes = relay.clip(relay.concatenate([middle - half, middle + half], 1), 0.0, 32.0)
        best = relay.topk(score, 20, ret_type="indices")
        boxes, score = relay.take(boxes, best, 0), relay.take(score, best, 0)
        score = score - relay.min(score) + const(1.0)
        rows = relay.expand_dims(relay.concatenate([relay.expand_dims(score, -1), boxes], -1), 0)
        kept = relay.vision.non_max_suppression(
            rows,
            const([20], "int32"),
            const(np.arange(20)[None], "int32"),
            iou_threshold=0.5,
            force_suppress=True,
            coord_start=1,
            score_index=0,
            id_index=-1,
        )[0]
        kept = relay.maximum(relay.strided_slice(relay.squeeze(kept, [0]), [0], [6]), const(0, "int32"))
        rois = relay.concatenate([const(np.zeros((6, 1))), relay.take(boxes, kept, 0)], 1)
        regions = relay.vision.roi_align(data, rois, (3, 3), 0.25, 2)
        y = relay.nn.dense(relay.nn.batch_flatten(regions), const(r.normal(size=(16, 72)) * 0.2))
        y = relay.nn.relu(y)
        label = relay.nn.softmax(relay.nn.dense(y, const(r.normal(size=(5, 16)) * 0.3)), 1)
        return relay.Tuple([label, relay.nn.dense(y, const(r.normal(size=(20, 16)) * 0.1)), rois])


def detections():
    """What the front end of PyTorch ends with: as many rows as were kept, a dynamic shape."""
    x = relay.var("x", shape=(1, 9, 6))
    numbers = const(np.arange(9)[None], "int32")
    rows, count = relay.vision.non_max_suppression(x, const([9], "int32"), numbers)
    rows, count = relay.squeeze(rows, [0]), relay.squeeze(count, [1])
    return relay.Function([x], relay.strided_slice(rows, const([0], "int32"), count, slice_mode="size"))


def draw(kind, shape, r):
    """Inputs, None for a kind that is none of these."""
    if kind == "probability":
        return r.uniform(0, 1, size=shape).astype("float32")
    if kind not in ("boxes", "corners", "rois"):
        return None
    middle, half = r.uniform(2, 10, size=(*shape[:-1], 2)), r.uniform(1, 5, size=(*shape[:-1], 2))
    corners = np.concatenate([middle - half, middle + half], -1)
    if kind == "corners":
        return corners.astype("float32")
    if kind == "rois":
        return np.concatenate([r.randint(0, 2, size=(*shape[:-1], 1)), corners], -1).astype("float32")
    label, score = r.randint(0, 2, size=(*shape[:-1], 1)), r.uniform(-0.3, 1, size=(*shape[:-1], 1))
    return np.concatenate([label, score, corners], -1).astype("float32")


def register(case):
    """Add all cases."""
    for part in (simple, ssd, rcnn):
        part(case)
