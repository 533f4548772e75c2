"""The outer layer of a ``.sd`` file: a safetensors file in one canonical byte form, with sums.

A model has hundreds of small arrays, and listing each in a safetensors header takes more bytes than a small
network's weights. So the arrays of one type follow each other in one tensor; which they are stands, with the
model's JSON, in the compressed tensor ``model``. Everything is verified here byte by byte; what the arrays
mean is the matter of :mod:`sd_tvm.format.schema`. ``docs/format.md`` defines both.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors

from sd_tvm.errors import FormatError
from sd_tvm.format import version1
from sd_tvm.format.deflate import compress, decompress
from sd_tvm.format.header import (
    DTYPES,
    FORMAT_NAME,
    LENGTH_BYTES,
    Entry,
    check_header,
    check_name,
    check_shape,
    header_size,
    rank,
    read_header,
    write_header,
)
from sd_tvm.format.strictjson import REWRITE, canonical, parse

__all__ = ["LENGTH_BYTES", "Container", "decode", "encode", "header_size"]

Tensors = dict[str, npt.NDArray[Any]]

VERSION = "2"
#: Type of arrays, and the tensor that holds all of them, in the order of the data.
STREAMS = {"F32": "float32", "I8": "int8", "U8": "uint8"}
MODEL, SUMS = "model", "crc32"
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_NO_SUM = "0" * 64
_METADATA_KEYS = ("format", "sha256", "version")


@dataclass(frozen=True)
class Container:
    """A verified container.

    Attributes
    ----------
    tensors
        Arrays by name.
    metadata
        The JSON text of the model.
    header_bytes
        Bytes of everything but the arrays, so ``header_bytes + sum of array bytes`` is the file.
    version
        Of the container.
    """

    tensors: Tensors
    metadata: str
    header_bytes: int
    version: str = VERSION


@dataclass(frozen=True)
class _Item:
    """An array of the model."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int


def encode(tensors: Mapping[str, npt.NDArray[Any]], metadata: str) -> bytes:
    """Bytes of a container; equal contents give equal bytes.

    Raises
    ------
    FormatError
        If a name is unusable or a dtype is not float32, uint8 or int8.
    """
    items: dict[str, list[_Item]] = {dtype: [] for dtype in STREAMS}
    pieces: dict[str, list[bytes]] = {dtype: [] for dtype in STREAMS}
    for name, array in sorted(tensors.items()):
        check_name(name)
        dtype = _NAMES.get(array.dtype.newbyteorder("<"))
        if dtype is None:
            raise FormatError(
                f"tensor {name!r} is {array.dtype}", expected="float32, uint8 or int8", fix="convert it"
            )
        check_shape(list(array.shape), f"tensor {name!r}")
        piece = np.ascontiguousarray(array).astype(DTYPES[dtype], copy=False).tobytes()
        items[dtype].append(_Item(name, dtype, array.shape, len(piece)))
        pieces[dtype].append(piece)
    sums = [zlib.crc32(piece).to_bytes(4, "little") for some in pieces.values() for piece in some]
    parts = {STREAMS[dtype]: (dtype, b"".join(some)) for dtype, some in pieces.items() if some}
    if sums:
        parts[SUMS] = ("U8", b"".join(sums))
    parts[MODEL] = ("U8", compress(_text(metadata, items)))
    entries, data, begin = [], b"", 0
    for name, (dtype, piece) in sorted(parts.items(), key=lambda part: rank(part[1][0], part[0])):
        entries.append(Entry(name, dtype, _shape_of(name, dtype, len(piece)), begin, begin + len(piece)))
        begin += len(piece)
        data += piece
    digest = _digest(entries, data)
    return _header(entries, digest) + data


def decode(data: bytes) -> Container:
    """Verify the bytes of a container and read its arrays.

    Raises
    ------
    FormatError
        Names the array or the part of the header that is wrong.
    """
    entries, metadata, start = read_header(data)
    if version1.is_version1(metadata):
        return Container(*version1.read(entries, metadata, data, start), start, version1.VERSION)
    _check_version(metadata)
    check_header(data, entries, metadata, _METADATA_KEYS)
    view = memoryview(data)[start:]
    parts = {e.name: view[e.begin : e.end] for e in entries}
    _check_parts(entries)
    text = decompress(bytes(parts[MODEL]), f"data: tensor {MODEL!r}", REWRITE)
    items, sd = _parse_text(text, entries)
    arrays = _split(items, parts)
    _check_sums(arrays, parts.get(SUMS, memoryview(b"")))
    if _digest(entries, view) != metadata["sha256"]:
        raise FormatError(
            "the sum of the whole file differs, while those of the arrays agree",
            expected=f"sha256 {metadata['sha256']:.80}",
            fix=REWRITE,
        )
    try:
        safetensors.deserialize(data)  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise FormatError(f"safetensors refuses the file: {error}", fix=REWRITE) from error
    tensors = {
        item.name: np.frombuffer(bytes(piece), dtype=DTYPES[item.dtype]).reshape(item.shape)
        for item, piece in arrays
    }
    return Container(tensors, sd, len(data) - sum(item.nbytes for item, _ in arrays))


def _text(sd: str, items: Mapping[str, Sequence[_Item]]) -> bytes:
    """What the tensor ``model`` holds: the arrays by type, and the model, as canonical JSON."""
    index = {dtype: {item.name: list(item.shape) for item in some} for dtype, some in items.items() if some}
    return f'{{"sd":{sd},"tensors":{canonical(index)}}}'.encode("ascii")


def _shape_of(name: str, dtype: str, nbytes: int) -> tuple[int, ...]:
    return (nbytes // 4, 4) if name == SUMS else (nbytes // DTYPES[dtype].itemsize,)


def _header(entries: list[Entry], digest: str) -> bytes:
    return write_header(entries, {"format": FORMAT_NAME, "sha256": digest, "version": VERSION})


def _digest(entries: list[Entry], data: bytes | memoryview) -> str:
    """SHA-256 of the whole file, with zeros for the digits of this sum."""
    digest = hashlib.sha256(_header(entries, _NO_SUM))
    digest.update(data)
    return digest.hexdigest()


def _check_version(metadata: Mapping[str, str]) -> None:
    version = metadata.get("version")
    if version != VERSION:
        newer = (
            version is not None and version.isdecimal() and len(version) < 9 and int(version) > int(VERSION)
        )
        raise FormatError(
            f"__metadata__: version {version!r:.40}",
            expected=f"{VERSION!r}",
            fix="install a newer sd-tvm" if newer else "write the file again with `sd-tvm compress`",
        )


def _check_parts(entries: Sequence[Entry]) -> None:
    """The tensors are the known ones, of their types and shapes; what they must hold is checked later."""
    wanted = {name: dtype for dtype, name in STREAMS.items()} | {MODEL: "U8", SUMS: "U8"}
    for e in entries:
        if e.name not in wanted:
            raise FormatError(
                f"header: tensor {e.name!r} belongs to nothing",
                expected=f"only {sorted(wanted)}",
                fix=REWRITE,
            )
        shape = _shape_of(e.name, e.dtype, e.end - e.begin)
        if e.dtype != wanted[e.name] or e.shape != shape:
            raise FormatError(
                f"header: tensor {e.name!r} is {e.dtype} {list(e.shape)}",
                expected=f"{wanted[e.name]}, {'(n, 4)' if e.name == SUMS else 'one dimension'}",
                fix=REWRITE,
            )
    if MODEL not in {e.name for e in entries}:
        raise FormatError(f"header: tensor {MODEL!r} is missing", fix=REWRITE)


def _parse_text(text: bytes, entries: Sequence[Entry]) -> tuple[list[_Item], str]:
    """Arrays in the order of the data, and the model's JSON text."""
    try:
        document = parse(text.decode("ascii"), MODEL)
    except UnicodeDecodeError as error:
        raise FormatError(f"{MODEL}: not ASCII ({error})", expected="JSON", fix=REWRITE) from error
    if not isinstance(document, dict) or sorted(document) != ["sd", "tensors"]:
        raise FormatError(f"{MODEL}: not an object of 'sd' and 'tensors'", fix=REWRITE)
    table = document["tensors"]
    if not isinstance(table, dict) or not set(table) <= set(STREAMS):
        raise FormatError(f"{MODEL}.tensors: not an object of {list(STREAMS)}", fix=REWRITE)
    items: dict[str, list[_Item]] = {}
    for dtype, some in table.items():
        if not isinstance(some, dict) or not some:
            raise FormatError(f"{MODEL}.tensors.{dtype}: not an object of names and shapes", fix=REWRITE)
        items[dtype] = []
        for name, shape in some.items():
            check_name(name)
            n = check_shape(shape, f"{MODEL}.tensors: {name!r}")
            items[dtype].append(_Item(name, dtype, tuple(shape), n * DTYPES[dtype].itemsize))
    sd = canonical(document["sd"])
    if _text(sd, items) != text:
        raise FormatError(
            f"{MODEL}: not in canonical form",
            expected="sorted keys, no whitespace, each number as it is written",
            fix=REWRITE,
        )
    for dtype, stream in STREAMS.items():
        held = sum(e.end - e.begin for e in entries if e.name == stream)
        listed = sum(item.nbytes for item in items.get(dtype, ()))
        if held != listed:
            raise FormatError(
                f"data: tensor {stream!r} holds {held} bytes", expected=f"{listed}, as listed", fix=REWRITE
            )
    every = [item for dtype in STREAMS for item in items.get(dtype, ())]
    names = [item.name for item in every]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise FormatError(f"{MODEL}.tensors: {twice!r} is listed twice", fix=REWRITE)
    return every, sd


def _split(items: Sequence[_Item], parts: Mapping[str, memoryview]) -> list[tuple[_Item, memoryview]]:
    """Every array and its bytes."""
    at = dict.fromkeys(parts, 0)
    out = []
    for item in items:
        stream = STREAMS[item.dtype]
        begin = at[stream]
        at[stream] += item.nbytes
        out.append((item, parts[stream][begin : begin + item.nbytes]))
    return out


def _check_sums(arrays: Sequence[tuple[_Item, memoryview]], sums: memoryview) -> None:
    if len(sums) != 4 * len(arrays):
        raise FormatError(
            f"data: {len(sums) // 4} sums in {SUMS!r}", expected=f"{len(arrays)}, one an array", fix=REWRITE
        )
    for i, (item, piece) in enumerate(arrays):
        found, stored = zlib.crc32(piece), int.from_bytes(sums[4 * i : 4 * i + 4], "little")
        if found != stored:
            raise FormatError(
                f"data: array {item.name!r} has sum {found:08x}", expected=f"crc32 {stored:08x}", fix=REWRITE
            )
