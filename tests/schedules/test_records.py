"""Constants in 9 bytes a word: what the accelerator spreads again is what was packed."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sd_tvm.layers import ConvLayer, blocks16
from sd_tvm.schedules.ops import RECORD_BYTES, pack_records
from sd_tvm.weights.tensor import WeightForm


def spread(packed: np.ndarray, rest: tuple[int, int, int], words: int) -> np.ndarray:
    """What SPREAD9 writes."""
    out = np.zeros((words, 16), np.uint8)
    out[:, :RECORD_BYTES] = packed[: words * RECORD_BYTES].reshape(words, RECORD_BYTES)
    out[:, RECORD_BYTES : RECORD_BYTES + 3] = rest
    return out


@given(st.integers(1, 70), st.integers(0, 2**32 - 1), st.booleans())
def test_quantisation_words(m: int, seed: int, shared: bool) -> None:
    rng = np.random.default_rng(seed)
    words = np.zeros((blocks16(m) * 16, 16), np.uint8)
    words[:m, :9] = rng.integers(0, 256, (m, 9))
    words[:m, 9:12] = rng.integers(0, 256, 3)
    if not shared and m > 1:
        words[0, 10] ^= 1
    layer = ConvLayer("c", 1, 16, (4, 4), m, (1, 1))
    found = pack_records(layer, "qp", words.view(np.int32))
    if not shared and m > 1:
        assert found is None
        return
    assert found is not None
    packed, rest = found
    assert packed.size % 16 == 0
    assert packed.size < words.size
    np.testing.assert_array_equal(spread(packed, rest, m), words[:m])


def test_bases() -> None:
    rng = np.random.default_rng(1)
    basis = np.zeros((20, 1, 16), np.int8)
    basis[..., :9] = rng.integers(-128, 128, (20, 1, 9))
    layer = ConvLayer("c", 1, 48, (4, 4), 20, (3, 3), form=WeightForm("4:16", "two-term", "filter"))
    found = pack_records(layer, "basis", basis)
    assert found is not None
    np.testing.assert_array_equal(spread(*found, 20), basis.view(np.uint8).reshape(20, 16))
    assert pack_records(layer, "codes", basis) is None
    other = ConvLayer("c", 1, 48, (4, 4), 20, (5, 5), form=WeightForm("4:16", "two-term", "filter"))
    assert other.geometry.s != 3
    assert pack_records(other, "basis", basis) is None
