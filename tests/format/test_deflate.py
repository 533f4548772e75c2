"""Our zlib streams, read by the zlib of the standard library."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from format.samples import mixed
from hypothesis import given
from hypothesis import strategies as st

from sd_tvm.errors import FormatError
from sd_tvm.format.deflate import compress, decompress

PIECES = st.lists(
    st.tuples(st.sampled_from([b"", b"a", b'{"name":"', b"relax.add", b"\0" * 40]), st.binary(max_size=12)),
    max_size=40,
)


@given(PIECES, st.integers(1, 30))
def test_zlib_reads_them(pieces: list[tuple[bytes, bytes]], times: int) -> None:
    text = b"".join(a + b for a, b in pieces) * times
    stream = compress(text)
    assert zlib.decompress(stream) == text
    assert decompress(stream, "text", "") == text


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"x",
        b"ab" * 40_000,  # the longest matches, and a distance beyond the window
        bytes(range(256)) * 3 + b"q" * 300,
        mixed(1, (50_000,), 7).astype(np.uint8).tobytes(),
        # Fibonacci counts ask for codes of more than 15 bits.
        b"".join(bytes([i]) * n for i, n in enumerate([1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377])),
    ],
    ids=len,
)
def test_extremes(text: bytes) -> None:
    assert zlib.decompress(compress(text)) == text


def test_codes_are_limited_to_15_bits() -> None:
    """Literals whose optimal code would be longer; no three equal bytes follow each other twice."""
    counts = [1, 1]
    while len(counts) < 22:
        counts.append(counts[-1] + counts[-2])
    symbols = np.repeat(np.arange(22), counts)
    text = symbols[np.argsort(mixed(3, symbols.shape, 1 << 40), kind="stable")].astype(np.uint8).tobytes()
    assert zlib.decompress(compress(text)) == text


def test_it_is_about_as_small_as_zlib() -> None:
    rows = [f'{{"name":"blocks.{i}.conv","shape":[{i * 8},{i * 4},3,3]}}' for i in range(200)]
    text = ",".join(rows).encode()
    assert len(compress(text)) < 1.1 * len(zlib.compress(text, 9))


def test_its_bytes_are_pinned() -> None:
    assert compress(b"sd sd sd sd").hex() == PINNED


@pytest.mark.parametrize("change", ["level", "cut", "more", "bit"])
def test_other_streams_are_refused(change: str) -> None:
    text = b"the same text, the same bytes; " * 20
    stream = compress(text)
    bad = {
        "level": zlib.compress(text, 1),
        "cut": stream[:-1],
        "more": stream + b"\0",
        "bit": stream[:-1] + bytes([stream[-1] ^ 1]),
    }[change]
    with pytest.raises(FormatError, match="model"):
        decompress(bad, "model", "write it again")


def test_a_bomb_is_refused() -> None:
    with pytest.raises(FormatError, match="expand"):
        decompress(zlib.compress(bytes(2**24), 9), "model", "write it again")


PINNED = "78da35c2410900000083c02a0bb706f6075fc2f145169103bd"
