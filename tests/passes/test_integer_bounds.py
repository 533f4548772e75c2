"""Layers without weights are refused where a multiplier's left shift could leave int32."""

from __future__ import annotations

import numpy as np
import pytest

from sd_tvm.errors import NumericsError
from sd_tvm.numerics.qparams import QParams
from sd_tvm.relay_passes import _integer
from sd_tvm.relay_passes._integer import NO_BOUNDS

SHAPE = (1, 16, 2, 2)
X = QParams(1.0, 0, "uint8")
WINDOW = ((2, 2), (2, 2), (0, 0, 0, 0))


def _layer(kind: str, out: QParams) -> _integer.Integer:
    if kind == "add":
        return _integer.add("layer", SHAPE, X, X, out)
    if kind == "pool":
        return _integer.pool("layer", "avg", SHAPE, WINDOW, X, out)
    return _integer.requant("layer", SHAPE, X, out, NO_BOUNDS)


@pytest.mark.parametrize("kind", ["add", "pool", "requant"])
@pytest.mark.parametrize("ratio", [2.0**-26, 2.0**-24])
def test_a_result_scale_that_is_far_too_small(kind: str, ratio: float) -> None:
    with pytest.raises(NumericsError, match="can reach"):
        _layer(kind, QParams(ratio, 0, "uint8"))


@pytest.mark.parametrize("kind", ["add", "pool", "requant"])
def test_usual_scales(kind: str) -> None:
    words = _layer(kind, QParams(0.5, 0, "uint8")).constants[-1]
    assert words.dtype == np.int32
