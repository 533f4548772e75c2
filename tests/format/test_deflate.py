"""Compressed text: what is written is read again, damage and bombs are refused."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sd_tvm.errors import FormatError
from sd_tvm.format.deflate import compress, decompress


@given(st.binary(max_size=300), st.integers(1, 30), st.integers(0, 9))
def test_any_zlib_stream_of_a_text_is_read(text: bytes, times: int, level: int) -> None:
    assert decompress(compress(text * times), "model", "") == text * times
    assert decompress(zlib.compress(text * times, level), "model", "") == text * times


@pytest.mark.parametrize("change", ["cut", "more", "bit"])
def test_damaged_streams_are_refused(change: str) -> None:
    stream = compress(b"the same text, the same bytes; " * 20)
    bad = {"cut": stream[:-1], "more": stream + b"\0", "bit": stream[:-1] + bytes([stream[-1] ^ 1])}[change]
    with pytest.raises(FormatError, match="model"):
        decompress(bad, "model", "write it again")


def test_a_bomb_is_refused() -> None:
    with pytest.raises(FormatError, match="expand"):
        decompress(zlib.compress(bytes(2**24), 9), "model", "write it again")
