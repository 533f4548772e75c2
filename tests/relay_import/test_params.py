"""Parameter files: what ``relay.save_param_dict`` writes, and damaged ones."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from relay_import.relayfiles import DATA

from sd_tvm.errors import UnsupportedModelError
from sd_tvm.relay import read_params

FILE = (DATA / "small.params").read_bytes()
#: As ``data/make_params.py`` wrote them.
VALUES = {
    "fc.weight": np.arange(12, dtype="float32").reshape(3, 4) / 8,
    "scale": np.asarray(0.5, "float32"),
    "zero": np.array([-3, 7, 2**31 - 1], "int32"),
    "codes": np.array([[1, -128], [127, 0]], "int8"),
    "mask": np.array([True, False, True]),
}


def test_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "net.params"
    path.write_bytes(FILE)
    for params in (read_params(FILE), read_params(path), read_params(str(path))):
        assert set(params) == set(VALUES)
        for name, value in VALUES.items():
            assert params[name].dtype == value.dtype
            np.testing.assert_array_equal(params[name], value)


def test_mapping_is_taken() -> None:
    params = read_params({"a": [1.0, 2.0]})
    np.testing.assert_array_equal(params["a"], [1.0, 2.0])


@given(st.integers(0, len(FILE) - 1))
def test_file_cut_short_is_refused(size: int) -> None:
    with pytest.raises(UnsupportedModelError, match="byte"):
        read_params(FILE[:size])


@given(st.integers(0, len(FILE) - 1), st.integers(1, 255))
def test_garbled_file_is_refused_or_read(at: int, change: int) -> None:
    data = bytearray(FILE)
    data[at] ^= change
    with contextlib.suppress(UnsupportedModelError):
        read_params(bytes(data))


@pytest.mark.parametrize("params", [3, "no/such/file", b"", struct.pack("<QQ", 1, 0), [1]])
def test_others_are_refused(params: object) -> None:
    with pytest.raises(UnsupportedModelError):
        read_params(params)
