"""Decisions by real bytes; int8 quantisation."""

from __future__ import annotations

import numpy as np
import pytest

from sd_tvm.decompose.fit import fit
from sd_tvm.decompose.select import decide, quantize_raw
from sd_tvm.errors import FormatError, NumericsError
from sd_tvm.weights.packing import pack_raw, pack_sd
from sd_tvm.weights.tensor import WeightForm


def test_depthwise_stays_int8_and_says_why() -> None:
    got = decide((96, 1, 3, 3), WeightForm())
    assert got.form is None
    assert got.nbytes == got.bytes_raw == 96 * 9 + 96 * 4
    assert got.reason == f"SD form takes {got.bytes_sd} bytes (1536 of them bases), int8 1248"


@pytest.mark.parametrize(
    "shape", [(96, 16, 1, 1), (40, 240, 1, 1), (50, 320, 1, 1), (32, 64, 3, 3), (7, 3, 5, 5)]
)
@pytest.mark.parametrize(
    "form", [WeightForm(), WeightForm(basis_kind="codebook"), WeightForm(pattern="4:16")]
)
def test_bytes_are_those_of_the_arrays(shape: tuple[int, int, int, int], form: WeightForm) -> None:
    w = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    got = decide(shape, form)
    fitted, raw = fit(w, form, rounds=1), quantize_raw(w)
    real = sum(a.nbytes for a in pack_sd(fitted).values()) + fitted.scale.nbytes
    assert real <= got.bytes_sd
    assert form.basis_kind == "codebook" or real == got.bytes_sd
    assert got.bytes_raw == pack_raw(raw).nbytes + raw.scale.nbytes
    assert (got.form is None) == (got.bytes_sd >= got.bytes_raw)
    assert got.nbytes == min(got.bytes_sd, got.bytes_raw)


def test_margin() -> None:
    shape = (192, 1152, 1, 1)
    saved = 1 - decide(shape, WeightForm()).bytes_sd / decide(shape, WeightForm()).bytes_raw
    assert decide(shape, WeightForm(), margin=saved - 0.01).form is not None
    refused = decide(shape, WeightForm(), margin=0.6)
    assert refused.form is None
    assert refused.reason.endswith("it must save 60%")


def test_an_invalid_form_is_an_error() -> None:
    with pytest.raises(FormatError):
        decide((4, 4, 1, 1), WeightForm(pattern="shared", kept_rows=9, group_filters=16))


def test_quantize_raw() -> None:
    w = np.random.default_rng(1).normal(size=(6, 5, 3, 3)).astype(np.float32)
    w[2] = 0
    raw = quantize_raw(w)
    assert np.abs(raw.dequantize() - w).max() <= raw.scale.max() * 0.5001
    assert (np.abs(raw.values).reshape(6, -1).max(axis=1) == [127, 127, 0, 127, 127, 127]).all()
    assert (raw.scale > 0).all()
    assert quantize_raw(np.zeros((2, 1, 1, 1), np.float32)).scale.tolist() == [2.0**-10] * 2
    w[0, 0, 0, 0] = np.inf
    with pytest.raises(NumericsError):
        quantize_raw(w)
