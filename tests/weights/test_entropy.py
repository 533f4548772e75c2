"""Entropy coding: every array comes back, the code is near its entropy, damage is refused."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sd_tvm.errors import FormatError, MissingExtraError
from sd_tvm.weights.entropy import decode, encode

Array = np.ndarray[Any, Any]


@st.composite
def arrays(draw: st.DrawFn) -> Array:
    """int8 arrays, from constant to uniform."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.sampled_from([1, 2, 3, 10, 100, 3000]))
    spread = draw(st.sampled_from([0.0, 0.4, 3.0, 60.0, 1e6]))
    return np.clip(np.rint(rng.normal(size=n) * spread + draw(st.integers(-90, 90))), -128, 127).astype(
        np.int8
    )


@settings(max_examples=300, deadline=None)
@given(arrays())
def test_round_trip(values: Array) -> None:
    data = encode(values)
    assert np.array_equal(decode(data, values.size), values)
    assert data.size <= values.size + 1


@pytest.mark.parametrize("spread", [0.5, 2.0, 20.0])
def test_size_is_the_entropy(spread: float) -> None:
    values = np.rint(np.random.default_rng(0).normal(size=200_000) * spread).astype(np.int8)
    share = np.bincount(values.astype(np.int64) + 128) / values.size
    bits = -(share[share > 0] * np.log2(share[share > 0])).sum()
    assert bits <= encode(values).size * 8 / values.size < bits + 0.02


@settings(max_examples=300, deadline=None)
@given(arrays(), st.data())
def test_damage_is_refused_or_another_array(values: Array, data: st.DataObject) -> None:
    """A changed, cut or longer code: refused, or the code of what it decodes to, or not a code at all."""
    good = encode(values)
    bad = bytearray(good.tobytes())
    at = data.draw(st.integers(0, len(bad) - 1))
    if data.draw(st.booleans()):
        bad[at] ^= data.draw(st.integers(1, 255))
    else:
        bad[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    changed = np.frombuffer(bytes(bad), np.uint8)
    try:
        found = decode(changed, values.size)
    except FormatError:
        return
    assert found.shape == (values.size,)
    if np.array_equal(encode(found), changed):
        assert not np.array_equal(found, values) or np.array_equal(changed, good)


def test_noise_is_refused_or_decodes() -> None:
    rng = np.random.default_rng(1)
    for size in [*range(40), 1000]:
        for head in (0, 1):
            noise = rng.integers(0, 256, size).astype(np.uint8)
            noise[:1] = head
            with contextlib.suppress(FormatError):
                assert decode(noise, 50).shape == (50,)


DAMAGE = {
    "nothing": ([], "no array stands here"),
    "unknown kind": ([2, 0, 0], "no array stands here"),
    "too few values": ([0, 1, 2], "coded: 2 values"),
    "cut after the kind": ([1, 4], "cut short"),
    "beyond int8": ([1, 100, 28] + [255] * 29 + [1, 0, 0, 0], "values from 100 to 128"),
    "bytes after a constant": ([1, 5, 0, 0], "1 bytes after a constant"),
    "cut in the frequencies": ([1, 0, 3, 255, 255], "cut short"),
    "no words": ([1, 0, 1, 255, 255], "cut short"),
    "half a word": ([1, 0, 1, 255, 255, 1, 1], "cut short"),
    "last word zero": ([1, 0, 1, 255, 255, 0, 0, 0, 0], "cut short"),
    "no frequencies": ([1, 0, 1, 0, 0, 1, 0, 0, 0], "the largest frequency is 0"),
    "words left": ([1, 0, 1, 255, 255] + [1, 2, 3, 4] * 20, "bytes are left"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named(name: str) -> None:
    data, words = DAMAGE[name]
    with pytest.raises(FormatError, match=words):
        decode(np.array(data, np.uint8), 3)


def test_without_the_coder_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(MissingExtraError, match=r"sd-tvm\[entropy\]"):
        encode(np.zeros(3, np.int8))
