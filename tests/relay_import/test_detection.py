"""Detection heads that Relay wrote: suppressed boxes against NumPy, and the way to the accelerator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from relay_import.relayfiles import array, cases

import sd_tvm
import sd_tvm.relay
from sd_tvm.errors import UnsupportedModelError
from sd_tvm.relay import GraphModule

Array = Any


def overlap(a: Array, b: Array) -> float:
    """Intersection over union of two boxes (x0, y0, x1, y1)."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    inside = float(np.prod(np.maximum(high - low, 0)))
    both = float(np.prod(a[2:] - a[:2])) + float(np.prod(b[2:] - b[:2])) - inside
    return inside / both if both > 0 else 0.0


def suppress(
    rows: Array, count: int, threshold: float, force: bool = False, top: int = -1, most: int = -1
) -> list[int]:
    """Kept rows of one image, in the order of their scores; rows are (class, score, box).

    Relay lets boxes pass whose score is not positive, as long as there is room.
    """
    order = sorted(range(count), key=lambda k: -rows[k, 1])
    kept: list[int] = []
    room = most if most > 0 else count
    for k in order[:top] if top > 0 else order:
        rivals = [j for j in kept if rows[j, 1] > 0 and (force or rows[j, 0] == rows[k, 0])]
        if sum(rows[j, 1] > 0 for j in kept) < room and (
            rows[k, 1] <= 0 or all(overlap(rows[k, 2:], rows[j, 2:]) < threshold for j in rivals)
        ):
            kept.append(k)
    return kept


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("", {"threshold": 0.5}),
        ("-force", {"threshold": 0.2, "force": True}),
        ("-top", {"threshold": 0.7, "top": 4}),
        ("-most", {"threshold": 0.7, "most": 2}),
        ("-plain", {"threshold": 0.3, "force": True}),
    ],
)
def test_suppression_is_numpys(name: str, options: dict[str, Any]) -> None:
    case = cases("0.16")[f"vision.non_max_suppression{name}"]
    x, found = array(case["inputs"]["x"]), array(case["outputs"][0])
    suppressed = 0
    for image, count in enumerate((9, 6)):  # as data/detection.py says
        kept = suppress(x[image], count, **options)
        suppressed += count - len(kept)
        if found.ndim == 2:  # indices, then -1
            np.testing.assert_array_equal(found[image], kept + [-1] * (9 - len(kept)))
        else:  # rows in the order of their scores, suppressed ones -1
            np.testing.assert_array_equal(found[image][found[image][:, 2] != -1], x[image][kept])
    assert suppressed > 0


def test_boxes_are_numpys() -> None:
    case = cases("0.16")["vision.multibox_transform_loc"]
    scores, moved = array(case["inputs"]["x"]), array(case["inputs"]["y"]).reshape(2, 9, 4)
    centre = (np.mgrid[0:3, 0:3].reshape(2, -1)[::-1].T + 0.5) / 3  # of data/detection.py: x, y, sizes 0.3
    middle, half = centre + moved[..., :2] * 0.1 * 0.3, np.exp(moved[..., 2:] * 0.2) * 0.15
    boxes = np.clip(np.concatenate([middle - half, middle + half], -1), 0, 1)
    rows = np.concatenate([scores[:, 1:].argmax(1)[..., None], scores[:, 1:].max(1)[..., None], boxes], -1)
    np.testing.assert_allclose(array(case["outputs"][0]), rows, atol=1e-6)  # all above the threshold


def test_detector_runs_on_the_accelerator(tmp_path: Path) -> None:
    """Layers on the accelerator, boxes in float32 on the host; the file holds all of it."""
    case = cases("0.16")["net-ssd"]
    x = array(case["inputs"]["x"])
    model = sd_tvm.compress(sd_tvm.relay.load(case["json"]), recipe="int8", calibration=[x, -x])
    model.save(tmp_path / "net.sd")
    library = sd_tvm.relay.build(sd_tvm.load(tmp_path / "net.sd").to_relax(), target="sd_accel")
    assert [n.target for n in library.nodes if n.op == "relax.nn.conv2d"] == ["sd_accel"] * 7
    boxes = [n for n in library.nodes if n.op.startswith("relax.vision.")]
    assert {n.target for n in boxes} == {"cpu"}
    assert all(n.reason for n in boxes)
    library.run(x=x)
    found, expected = library.get_output(0).numpy()[0], array(case["outputs"][0])[0]
    for label in (0, 1):  # the best box of a class; among the others, order and overlaps may change
        best, wanted = (rows[rows[:, 0] == label][0] for rows in (found, expected))
        assert np.abs(best - wanted).max() < 0.05


SUPPRESS = """def @main(%x: Tensor[(2, 9, 6), float32], %n: Tensor[(2), int32], %i: Tensor[(2, 9), int32]) {
  %0 = vision.non_max_suppression(%x, %n, %i, 3, 0.4f, top_k=7);
  %0.0
}"""


@pytest.fixture(scope="module")
def suppression() -> GraphModule:
    return sd_tvm.relay.build(SUPPRESS, target="llvm").module


@settings(max_examples=150)
@given(st.integers(0, 2**32), st.tuples(st.integers(0, 9), st.integers(0, 9)))
def test_any_boxes_are_suppressed_as_by_numpy(
    suppression: GraphModule, seed: int, counts: tuple[int, int]
) -> None:
    """Equal scores, scores of zero and below, no boxes at all, boxes without area."""
    r = np.random.default_rng(seed)
    corners = np.sort(r.integers(0, 5, size=(2, 9, 2, 2)), axis=2).reshape(2, 9, 4)
    labels, scores = r.integers(0, 2, size=(2, 9, 1)), r.integers(-1, 4, size=(2, 9, 1)) / 4
    x = np.concatenate([labels, scores, corners], -1).astype("float32")
    names = np.stack([r.permutation(9) for _ in range(2)]).astype("int32")
    suppression.run(x=x, n=np.array(counts, "int32"), i=names)
    found = suppression.get_output(0).numpy()
    for image, count in enumerate(counts):
        kept = suppress(x[image], count, 0.4, top=7, most=3)
        np.testing.assert_array_equal(found[image], [*names[image][kept], *[-1] * (9 - len(kept))])


def test_thresholds_without_meaning_are_refused() -> None:
    text = cases("0.16")["vision.non_max_suppression"]["text"]
    assert "0.5f" in text
    with pytest.raises(UnsupportedModelError, match=r"non_max_suppression.*iou_threshold 0,"):
        sd_tvm.relay.load(text.replace("0.5f", "0f"))
