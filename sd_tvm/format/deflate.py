"""The compressed text of a ``.sd`` file: a zlib stream (RFC 1950), never expanded beyond a bound."""

from __future__ import annotations

import zlib

from sd_tvm.errors import FormatError

#: A text may be so many times longer than its stream, plus a constant (hostile streams).
MAX_EXPANSION = 256
FREE_BYTES = 2**16
_LEVEL = 9


def compress(text: bytes) -> bytes:
    """The stream of a text; one zlib gives the same bytes always, another may give others."""
    return zlib.compress(text, _LEVEL)


def decompress(stream: bytes, what: str, fix: str) -> bytes:
    """The text of a stream.

    Parameters
    ----------
    stream
        The bytes.
    what, fix
        For messages.

    Raises
    ------
    FormatError
        If it is damaged, has bytes after its end, or expands absurdly.
    """
    limit = MAX_EXPANSION * len(stream) + FREE_BYTES
    decoder = zlib.decompressobj()
    try:
        text = decoder.decompress(stream, limit)
    except zlib.error as error:
        raise FormatError(f"{what}: {error}", expected="a zlib stream", fix=fix) from error
    if decoder.unconsumed_tail:
        raise FormatError(
            f"{what}: {len(stream)} bytes expand to more than {limit}",
            expected=f"at most {MAX_EXPANSION} times its size",
            fix=fix,
        )
    if not decoder.eof or decoder.unused_data:
        raise FormatError(
            f"{what}: truncated, or bytes after its end", expected="one whole zlib stream", fix=fix
        )
    return text
