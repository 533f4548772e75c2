"""The safetensors frame of a ``.sd`` file: length field, header in one canonical form, layout of the data."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sd_tvm.errors import FormatError
from sd_tvm.format.strictjson import REWRITE, parse

FORMAT_NAME = "sd-tvm"
LENGTH_BYTES = 8
ALIGN = 8
MAX_HEADER_BYTES = 64 * 2**20
MAX_NAME = 512
MAX_RANK = 8
DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
}
_ENTRY_KEYS = ("data_offsets", "dtype", "shape")


@dataclass(frozen=True)
class Entry:
    """A tensor of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def header_size(head: bytes, file_bytes: int) -> int:
    """Bytes of the header from the first 8 bytes of a file, checked against the file's size.

    Raises
    ------
    FormatError
        If the file is too short, or the length is implausible.
    """
    fix = "check that this is a .sd file and that it was copied whole"
    if file_bytes < LENGTH_BYTES or len(head) < LENGTH_BYTES:
        raise FormatError(
            f"the file has {file_bytes} bytes", expected=f"at least {LENGTH_BYTES} (header length)", fix=fix
        )
    size = int.from_bytes(head, "little")
    if not 2 <= size <= MAX_HEADER_BYTES:
        raise FormatError(
            f"header length {size}", expected=f"2 to {MAX_HEADER_BYTES} bytes (safetensors)", fix=fix
        )
    if size > file_bytes - LENGTH_BYTES:
        raise FormatError(
            f"the header is truncated: {file_bytes - LENGTH_BYTES} of {size} bytes",
            expected="a whole file",
            fix=fix,
        )
    return size


def write_header(entries: list[Entry], metadata: Mapping[str, str]) -> bytes:
    """Length field and header.

    Raises
    ------
    FormatError
        If it is too long.
    """
    table: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    for e in entries:
        table[e.name] = {"dtype": e.dtype, "shape": list(e.shape), "data_offsets": [e.begin, e.end]}
    text = json.dumps(table, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % ALIGN)
    if len(text) > MAX_HEADER_BYTES:
        raise FormatError(
            f"a header of {len(text)} bytes",
            expected=f"at most {MAX_HEADER_BYTES}",
            fix="store a shorter report or fewer layers",
        )
    return len(text).to_bytes(LENGTH_BYTES, "little") + text


def read_header(data: bytes) -> tuple[list[Entry], dict[str, str], int]:
    """Tensors, metadata and the bytes of length field and header; the layout is verified, no sums yet.

    Raises
    ------
    FormatError
        Names the tensor or the part that is wrong.
    """
    size = header_size(data[:LENGTH_BYTES], len(data))
    start = LENGTH_BYTES + size
    entries, metadata = _parse_header(data[LENGTH_BYTES:start])
    _check_layout(entries, len(data) - start)
    return entries, metadata, start


def check_header(
    data: bytes, entries: list[Entry], metadata: Mapping[str, str], keys: tuple[str, ...]
) -> None:
    """Refuse metadata without one of the keys or with another, and a header that is not in canonical form.

    Raises
    ------
    FormatError
        Names the key.
    """
    missing, extra = sorted(set(keys) - set(metadata)), sorted(set(metadata) - set(keys))
    if missing:
        raise FormatError(f"__metadata__: {missing[0]!r} is missing", fix=REWRITE)
    if extra:
        raise FormatError(f"__metadata__: unknown key {extra[0]!r}", expected=f"only {keys}", fix=REWRITE)
    if not data.startswith(write_header(entries, metadata)):
        raise FormatError(
            "the header is not in canonical form (order, spacing or escapes)",
            expected="a header as docs/format.md defines it",
            fix=REWRITE,
        )


def check_name(name: Any) -> None:
    """Refuse what cannot name a tensor.

    Raises
    ------
    FormatError
        If it cannot.
    """
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise FormatError(
            f"tensor name {name!r:.80}",
            expected=f"1 to {MAX_NAME} printable characters",
            fix="rename the layer",
        )


def check_shape(shape: Any, where: str) -> int:
    """Elements of a shape, at most ``MAX_RANK`` dimensions and none of them 0.

    Raises
    ------
    FormatError
        If it is none.
    """
    if not _naturals(shape) or len(shape) > MAX_RANK or 0 in shape:
        raise FormatError(
            f"{where}: shape {shape!r:.80}", expected=f"up to {MAX_RANK} positive integers", fix=REWRITE
        )
    n = 1
    for dim in shape:
        n *= dim
    return n


def rank(dtype: str, name: str) -> tuple[int, str]:
    """Sort key of the data section: wide types first, so that everything is aligned; then by name."""
    return (-DTYPES[dtype].itemsize, name)


def _parse_header(raw: bytes) -> tuple[list[Entry], dict[str, str]]:
    try:
        table = parse(raw.decode("utf-8"), "header")
    except UnicodeDecodeError as error:
        raise FormatError(
            f"header: not UTF-8 ({error})", expected="a safetensors file", fix=REWRITE
        ) from error
    if not isinstance(table, dict):
        raise FormatError("header: not a JSON object", expected="a safetensors file", fix=REWRITE)
    metadata = table.pop("__metadata__", None)
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT_NAME:
        raise FormatError(
            "__metadata__: a safetensors file of another kind",
            expected=f'"format": "{FORMAT_NAME}"',
            fix="make a .sd file of the model with `sd-tvm compress`",
        )
    for key, value in metadata.items():
        if not isinstance(value, str):
            raise FormatError(f"__metadata__: {key!r} is no text", fix=REWRITE)
    return [_parse_entry(name, item) for name, item in table.items()], metadata


def _parse_entry(name: str, item: Any) -> Entry:
    check_name(name)
    where = f"header: tensor {name!r}"
    if not isinstance(item, dict) or sorted(item) != list(_ENTRY_KEYS):
        found = sorted(item) if isinstance(item, dict) else type(item).__name__
        raise FormatError(f"{where}: {found}", expected=f"exactly {list(_ENTRY_KEYS)}", fix=REWRITE)
    if not isinstance(item["dtype"], str) or item["dtype"] not in DTYPES:
        raise FormatError(
            f"{where}: dtype {item['dtype']!r}", expected=f"one of {sorted(DTYPES)}", fix=REWRITE
        )
    shape, offsets = item["shape"], item["data_offsets"]
    nbytes = check_shape(shape, where) * DTYPES[item["dtype"]].itemsize
    if not _naturals(offsets) or len(offsets) != 2:
        raise FormatError(f"{where}: data_offsets {offsets!r:.80}", expected="[begin, end]", fix=REWRITE)
    if offsets[1] - offsets[0] != nbytes:
        raise FormatError(
            f"{where}: offsets {offsets} hold {offsets[1] - offsets[0]} bytes",
            expected=f"{nbytes} bytes for {item['dtype']} {shape}",
            fix=REWRITE,
        )
    return Entry(name, item["dtype"], tuple(shape), offsets[0], offsets[1])


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)


def _check_layout(entries: list[Entry], data_bytes: int) -> None:
    """The tensors follow each other in canonical order and fill the data section exactly."""
    end = 0
    for e in entries:
        if e.begin != end:
            what = "overlaps the tensor before it" if e.begin < end else "leaves a gap before it"
            raise FormatError(
                f"header: tensor {e.name!r} at {e.begin} {what}", expected=f"begin {end}", fix=REWRITE
            )
        end = e.end
        if end > data_bytes:
            raise FormatError(
                f"data: tensor {e.name!r} is truncated, it ends at {end} of {data_bytes} bytes",
                expected="a whole file",
                fix=REWRITE,
            )
    if end != data_bytes:
        raise FormatError(
            f"data: {data_bytes - end} bytes after the last tensor", expected="none", fix=REWRITE
        )
    keys = [rank(e.dtype, e.name) for e in entries]
    for previous, key in itertools.pairwise(keys):
        if key <= previous:
            raise FormatError(
                f"header: tensor {key[1]!r} stands after {previous[1]!r}",
                expected="wide types first, then by name",
                fix=REWRITE,
            )
