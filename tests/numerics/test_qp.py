"""Quantisation words: the bytes of the document, there and back."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sd_tvm.numerics.qp import pack_qp, unpack_qp

ACTS = {"uint8": (0, 255), "int8": (-128, 127)}
INT32 = st.integers(-(2**31), 2**31 - 1)


@st.composite
def fields(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """Output type and fields of some filters."""
    dtype = draw(st.sampled_from(sorted(ACTS)))
    m = draw(st.integers(1, 40))
    act = st.integers(*ACTS[dtype])

    def column(values: st.SearchStrategy[int]) -> np.ndarray:
        return np.array(draw(st.lists(values, min_size=m, max_size=m)), dtype=np.int64)

    lo, hi = sorted((draw(act), draw(act)))
    return dtype, {
        "bias": column(INT32),
        "m0": column(st.integers(0, 2**31 - 1)),
        "shift": column(st.integers(-31, 30)),
        "zero_point": draw(act),
        "lo": lo,
        "hi": hi,
    }


@given(fields(), st.booleans())
def test_round_trip_and_bytes(case: tuple[str, dict[str, Any]], pad: bool) -> None:
    dtype, f = case
    m = len(f["bias"])
    words = pack_qp(**f, pad_to_16=pad)
    assert words.dtype == np.int32
    assert words.shape == ((m + 15) // 16 * 16 if pad else m, 4)
    got = unpack_qp(words, dtype)
    for name in ("bias", "m0", "shift"):
        np.testing.assert_array_equal(got[name][:m], f[name], err_msg=name)
        assert not got[name][m:].any(), f"padding words have {name} 0"
    for name, value in (("zp", f["zero_point"]), ("lo", f["lo"]), ("hi", f["hi"])):
        assert (got[name] == value).all(), f"{name} stands in padding words too"
    layout = "<iibBBBi" if dtype == "uint8" else "<iibbbbi"
    for i in range(m):
        row = (int(f["bias"][i]), int(f["m0"][i]), int(f["shift"][i]), f["zero_point"], f["lo"], f["hi"], 0)
        assert words[i].astype("<i4").tobytes() == struct.pack(layout, *row)


@pytest.mark.parametrize("dtype", sorted(ACTS))
def test_extremes(dtype: str) -> None:
    lo, hi = ACTS[dtype]
    words = pack_qp(np.array([-(2**31)]), np.array([2**31 - 1]), np.array([-31]), lo, lo, hi, pad_to_16=False)
    got = {name: int(values[0]) for name, values in unpack_qp(words, dtype).items()}
    assert got == {"bias": -(2**31), "m0": 2**31 - 1, "shift": -31, "zp": lo, "lo": lo, "hi": hi}


def test_unpacking_a_view_that_is_not_contiguous() -> None:
    words = pack_qp(np.arange(32), np.arange(32), np.zeros(32, np.int64), 3, 0, 255)
    np.testing.assert_array_equal(unpack_qp(words[::2], "uint8")["bias"], np.arange(0, 32, 2))
