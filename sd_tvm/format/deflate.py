"""A zlib stream (RFC 1950, 1951) that is the same on every machine; any zlib reads it.

The standard library's compressor is whichever zlib the machine has, and their bytes differ. A file has one
byte form, so its text is compressed here: LZ77 with lazy matching, then one block of Huffman codes of
its own.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache

from sd_tvm.errors import FormatError

#: A text may be so many times longer than its stream, plus a constant (hostile streams).
MAX_EXPANSION = 256
FREE_BYTES = 2**16
_HEAD = bytes([0x78, 0xDA])  # deflate, window of 32 KiB, compressed as well as possible
_WINDOW = 32768
_MIN_MATCH = 3
_MAX_MATCH = 258
_TRIES = 48  # earlier places looked at for a match
_GOOD_MATCH = 32  # no later match is looked for beyond this length
_END = 256
_CODE_ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)
#: (code, first value, extra bits) of lengths and distances; RFC 1951, 3.2.5.
_LENGTHS = [(257 + i, 3 + i, 0) for i in range(8)] + [
    (265 + 4 * (e - 1) + i, 3 + ((4 + i) << e), e) for e in range(1, 6) for i in range(4)
]
_LENGTHS[-1:] = [(284, 227, 5), (285, 258, 0)]
_DISTANCES = [(i, 1 + i, 0) for i in range(4)] + [
    (2 + 2 * e + i, 1 + ((2 + i) << e), e) for e in range(1, 14) for i in range(2)
]
#: A symbol of an alphabet ("literals" or "distances"), and its extra bits: (value, number).
_Token = tuple[int, int, int]


@lru_cache(maxsize=2)  # what was written is read at once, to verify it
def compress(text: bytes) -> bytes:
    """The stream of a text."""
    pairs = list(_tokens(text))
    literals = [pair[0] for pair in pairs] + [(_END, 0, 0)]
    distances = [pair[1] for pair in pairs if pair[1] is not None]
    literal_bits = _code_lengths([symbol for symbol, _, _ in literals], 286, 15)
    distance_bits = _code_lengths([symbol for symbol, _, _ in distances], 30, 15)
    out = _Bits()
    out.add(0b101, 3)  # the last block, with its own codes
    _add_tables(out, literal_bits, distance_bits)
    literal_codes, distance_codes = _codes(literal_bits), _codes(distance_bits)
    for literal, distance in pairs:
        out.symbol(literal, literal_codes, literal_bits)
        if distance is not None:
            out.symbol(distance, distance_codes, distance_bits)
    out.symbol((_END, 0, 0), literal_codes, literal_bits)
    return _HEAD + out.bytes() + zlib.adler32(text).to_bytes(4, "big")


def decompress(stream: bytes, what: str, fix: str) -> bytes:
    """The text of a stream that :func:`compress` made; no other is accepted.

    Parameters
    ----------
    stream
        The bytes.
    what, fix
        For messages.

    Raises
    ------
    FormatError
        If it is damaged, not canonical, or expands absurdly.
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
    if compress(text) != stream:
        raise FormatError(
            f"{what}: not in canonical form", expected="the zlib stream that sd_tvm writes", fix=fix
        )
    return text


def _tokens(text: bytes) -> Iterator[tuple[_Token, _Token | None]]:
    """Literals, and matches as (length, distance)."""
    seen: dict[bytes, list[int]] = {}
    at, added, held = 0, 0, (0, 0)
    while at < len(text):
        if not held[0]:
            added = _add_places(text, seen, added, at)
            held = _longest(text, seen, at)
        length, distance = held
        held = (0, 0)
        if _MIN_MATCH <= length < _GOOD_MATCH:
            added = _add_places(text, seen, added, at + 1)
            later = _longest(text, seen, at + 1)
            if later[0] > length:
                length, held = 0, later
        if length < _MIN_MATCH:
            yield (text[at], 0, 0), None
            at += 1
        else:
            yield _coded(_LENGTHS, length), _coded(_DISTANCES, distance)
            at += length


def _add_places(text: bytes, seen: dict[bytes, list[int]], start: int, stop: int) -> int:
    for i in range(start, stop):
        seen.setdefault(text[i : i + _MIN_MATCH], []).append(i)
    return max(start, stop)


def _longest(text: bytes, seen: dict[bytes, list[int]], at: int) -> tuple[int, int]:
    """Longest match of the text from here on, the nearest of equals: (length, distance), or (0, 0)."""
    best, distance, most = 0, 0, min(_MAX_MATCH, len(text) - at)
    if most < _MIN_MATCH:
        return 0, 0
    for place in reversed(seen.get(text[at : at + _MIN_MATCH], [])[-_TRIES:]):
        if at - place > _WINDOW:
            break
        if best and text[place + best] != text[at + best]:
            continue
        n = 0
        while n < most and text[place + n] == text[at + n]:
            n += 1
        if n > best:
            best, distance = n, at - place
            if n == most:
                break
    return best, distance


def _coded(table: Sequence[tuple[int, int, int]], value: int) -> _Token:
    """Symbol and extra bits of a length or a distance."""
    low, high = 0, len(table) - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if table[middle][1] <= value else (low, middle - 1)
    symbol, first, extra = table[low]
    return symbol, value - first, extra


def _code_lengths(symbols: Sequence[int], size: int, most: int) -> list[int]:
    """Lengths of an optimal prefix code of at most so many bits (package-merge); 0: the symbol is unused."""
    counts = [0] * size
    for symbol in symbols:
        counts[symbol] += 1
    leaves = sorted((count, (symbol,)) for symbol, count in enumerate(counts) if count)
    lengths = [0] * size
    if len(leaves) == 1:
        lengths[leaves[0][1][0]] = 1
        return lengths
    packages: list[tuple[int, tuple[int, ...]]] = []
    for _ in range(most):
        merged = sorted(leaves + packages)
        pairs = zip(merged[0::2], merged[1::2], strict=False)
        packages = [(a[0] + b[0], a[1] + b[1]) for a, b in pairs]
    for _, members in packages[: len(leaves) - 1]:
        for symbol in members:
            lengths[symbol] += 1
    return lengths


def _codes(lengths: Sequence[int]) -> list[int]:
    """Canonical codes of the lengths, their bits turned round (codes are packed from their highest bit)."""
    out, code = [0] * len(lengths), 0
    for bits in range(1, max(lengths, default=0) + 1):
        code <<= 1
        for symbol, length in enumerate(lengths):
            if length == bits:
                out[symbol] = int(f"{code:0{bits}b}"[::-1], 2)
                code += 1
    return out


def _add_tables(out: _Bits, literal_bits: list[int], distance_bits: list[int]) -> None:
    """The lengths of both codes, run-length coded; RFC 1951, 3.2.7."""
    literals = literal_bits[: max(257, _used(literal_bits))]
    distances = distance_bits[: max(1, _used(distance_bits))]
    runs = list(_runs(literals + distances))
    bits = _code_lengths([symbol for symbol, _, _ in runs], 19, 7)
    order = [bits[i] for i in _CODE_ORDER]
    order = order[: max(4, _used(order))]
    out.add(len(literals) - 257, 5)
    out.add(len(distances) - 1, 5)
    out.add(len(order) - 4, 4)
    for length in order:
        out.add(length, 3)
    codes = _codes(bits)
    for run in runs:
        out.symbol(run, codes, bits)


def _used(lengths: Sequence[int]) -> int:
    return max((i + 1 for i, length in enumerate(lengths) if length), default=0)


def _runs(lengths: Sequence[int]) -> Iterator[_Token]:
    """Code lengths as symbols 0 to 18: 16 repeats the last one, 17 and 18 are zeros."""
    at = 0
    while at < len(lengths):
        value, n = lengths[at], 1
        while at + n < len(lengths) and lengths[at + n] == value:
            n += 1
        at += n
        if value:
            yield value, 0, 0
            n -= 1
        while n >= 3:
            if value:
                step = min(n, 6)
                yield 16, step - 3, 2
            elif n <= 10:
                step = n
                yield 17, step - 3, 3
            else:
                step = min(n, 138)
                yield 18, step - 11, 7
            n -= step
        for _ in range(n):
            yield value, 0, 0


class _Bits:
    """Bits, packed from the lowest of each byte."""

    def __init__(self) -> None:
        self._value = self._n = 0
        self._out = bytearray()

    def add(self, value: int, n: int) -> None:
        self._value |= value << self._n
        self._n += n
        while self._n >= 8:
            self._out.append(self._value & 255)
            self._value >>= 8
            self._n -= 8

    def symbol(self, token: _Token, codes: Sequence[int], lengths: Sequence[int]) -> None:
        """A symbol's code, then its extra bits."""
        symbol, value, extra = token
        self.add(codes[symbol] | value << lengths[symbol], lengths[symbol] + extra)

    def bytes(self) -> bytes:
        return bytes(self._out) + bytes([self._value] if self._n else [])
