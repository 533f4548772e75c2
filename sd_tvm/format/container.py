"""The outer layer of a ``.sd`` file: a safetensors file in one canonical byte form, with sums.

Header and data are verified here byte by byte before the safetensors library reads the tensors;
what the tensors mean is the matter of :mod:`sd_tvm.format.schema`. ``docs/format.md`` defines both.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors

from sd_tvm.errors import FormatError
from sd_tvm.format.strictjson import REWRITE, parse

Tensors = dict[str, npt.NDArray[Any]]

FORMAT_NAME = "sd-tvm"
LENGTH_BYTES = 8
ALIGN = 8
MAX_HEADER_BYTES = 64 * 2**20
MAX_NAME = 512
MAX_RANK = 8
_NO_SUM = "0" * 64
_DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_METADATA_KEYS = ("crc32", "format", "sd", "sha256")
_ENTRY_KEYS = ("data_offsets", "dtype", "shape")


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
        Bytes of length field and header, so ``header_bytes + sum of tensor bytes`` is the file.
    """

    tensors: Tensors
    metadata: str
    header_bytes: int


@dataclass(frozen=True)
class _Entry:
    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def encode(tensors: Mapping[str, npt.NDArray[Any]], metadata: str) -> bytes:
    """Bytes of a container; equal contents give equal bytes.

    Raises
    ------
    FormatError
        If a name is unusable or a dtype is not float32, uint8 or int8.
    """
    entries: list[_Entry] = []
    pieces: list[bytes] = []
    begin = 0
    for name, array in sorted(tensors.items(), key=lambda item: _rank(item[1].dtype, item[0])):
        _check_name(name)
        dtype = _NAMES.get(array.dtype.newbyteorder("<"))
        if dtype is None:
            raise FormatError(
                f"tensor {name!r} is {array.dtype}", expected="float32, uint8 or int8", fix="convert it"
            )
        if array.size == 0 or array.ndim > MAX_RANK:
            raise FormatError(
                f"tensor {name!r} has shape {array.shape}",
                expected=f"at most {MAX_RANK} dimensions, none of them empty",
                fix="leave it out",
            )
        piece = np.ascontiguousarray(array).astype(_DTYPES[dtype], copy=False).tobytes()
        entries.append(_Entry(name, dtype, array.shape, begin, begin + len(piece)))
        pieces.append(piece)
        begin += len(piece)
    crc = _crc_text(pieces)
    unsigned = _header(entries, metadata, crc, _NO_SUM)
    digest = _digest(unsigned, pieces)
    return b"".join([_header(entries, metadata, crc, digest), *pieces])


def decode(data: bytes) -> Container:
    """Verify the bytes of a container and read its tensors.

    Raises
    ------
    FormatError
        Names the tensor or the part of the header that is wrong.
    """
    size = header_size(data[:LENGTH_BYTES], len(data))
    start = LENGTH_BYTES + size
    entries, meta = _parse_header(data[LENGTH_BYTES:start])
    _check_layout(entries, len(data) - start)
    if _header(entries, meta["sd"], meta["crc32"], meta["sha256"]) != data[:start]:
        raise FormatError(
            "the header is not in canonical form (order, spacing or escapes)",
            expected="a header as docs/format.md defines it",
            fix=REWRITE,
        )
    view = memoryview(data)[start:]
    _check_sums(entries, meta, view)
    try:
        loaded: Any = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise FormatError(f"safetensors refuses the file: {error}", fix=REWRITE) from error
    tensors = {
        name: np.frombuffer(item["data"], dtype=_DTYPES[item["dtype"]]).reshape(item["shape"])
        for name, item in loaded
    }
    return Container(tensors, meta["sd"], start)


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


def _rank(dtype: np.dtype[Any], name: str) -> tuple[int, str]:
    """Sort key of the data section: wide types first, so that everything is aligned; then by name."""
    return (-dtype.itemsize, name)


def _header(entries: list[_Entry], metadata: str, crc: str, digest: str) -> bytes:
    """Length field and header."""
    table: dict[str, Any] = {
        "__metadata__": {"crc32": crc, "format": FORMAT_NAME, "sd": metadata, "sha256": digest}
    }
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


def _crc_text(pieces: list[bytes]) -> str:
    return ",".join(f"{zlib.crc32(piece):08x}" for piece in pieces)


def _digest(unsigned_header: bytes, pieces: list[bytes]) -> str:
    digest = hashlib.sha256(unsigned_header)
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _check_name(name: str) -> None:
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise FormatError(
            f"tensor name {name!r:.80}",
            expected=f"1 to {MAX_NAME} printable characters",
            fix="rename the layer",
        )


def _parse_header(raw: bytes) -> tuple[list[_Entry], dict[str, str]]:
    try:
        table = parse(raw.decode("utf-8"), "header")
    except UnicodeDecodeError as error:
        raise FormatError(
            f"header: not UTF-8 ({error})", expected="a safetensors file", fix=REWRITE
        ) from error
    if not isinstance(table, dict):
        raise FormatError("header: not a JSON object", expected="a safetensors file", fix=REWRITE)
    meta = table.pop("__metadata__", None)
    if not isinstance(meta, dict) or meta.get("format") != FORMAT_NAME:
        raise FormatError(
            "__metadata__: a safetensors file of another kind",
            expected=f'"format": "{FORMAT_NAME}"',
            fix="make a .sd file of the model with `sd-tvm compress`",
        )
    for key in _METADATA_KEYS:
        if not isinstance(meta.get(key), str):
            raise FormatError(f"__metadata__: {key!r} is missing or no text", fix=REWRITE)
    extra = sorted(set(meta) - set(_METADATA_KEYS))
    if extra:
        raise FormatError(
            f"__metadata__: unknown key {extra[0]!r}", expected=f"only {_METADATA_KEYS}", fix=REWRITE
        )
    return [_parse_entry(name, item) for name, item in table.items()], meta


def _parse_entry(name: str, item: Any) -> _Entry:
    _check_name(name)
    where = f"header: tensor {name!r}"
    if not isinstance(item, dict) or sorted(item) != list(_ENTRY_KEYS):
        found = sorted(item) if isinstance(item, dict) else type(item).__name__
        raise FormatError(f"{where}: {found}", expected=f"exactly {list(_ENTRY_KEYS)}", fix=REWRITE)
    if not isinstance(item["dtype"], str) or item["dtype"] not in _DTYPES:
        raise FormatError(
            f"{where}: dtype {item['dtype']!r}", expected=f"one of {sorted(_DTYPES)}", fix=REWRITE
        )
    shape, offsets = item["shape"], item["data_offsets"]
    if not _naturals(shape) or len(shape) > MAX_RANK or 0 in shape:
        raise FormatError(
            f"{where}: shape {shape!r:.80}", expected=f"up to {MAX_RANK} positive integers", fix=REWRITE
        )
    if not _naturals(offsets) or len(offsets) != 2:
        raise FormatError(f"{where}: data_offsets {offsets!r:.80}", expected="[begin, end]", fix=REWRITE)
    nbytes = _DTYPES[item["dtype"]].itemsize
    for n in shape:
        nbytes *= n
    if offsets[1] - offsets[0] != nbytes:
        raise FormatError(
            f"{where}: offsets {offsets} hold {offsets[1] - offsets[0]} bytes",
            expected=f"{nbytes} bytes for {item['dtype']} {shape}",
            fix=REWRITE,
        )
    return _Entry(name, item["dtype"], tuple(shape), offsets[0], offsets[1])


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)


def _check_layout(entries: list[_Entry], data_bytes: int) -> None:
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
    keys = [_rank(_DTYPES[e.dtype], e.name) for e in entries]
    for previous, key in itertools.pairwise(keys):
        if key <= previous:
            raise FormatError(
                f"header: tensor {key[1]!r} stands after {previous[1]!r}",
                expected="wide types first, then by name",
                fix=REWRITE,
            )


def _check_sums(entries: list[_Entry], meta: dict[str, str], view: memoryview) -> None:
    unsigned = _header(entries, meta["sd"], meta["crc32"], _NO_SUM)
    digest = hashlib.sha256(unsigned)
    digest.update(view)
    crcs = meta["crc32"].split(",") if entries else []
    if len(crcs) != len(entries):
        raise FormatError(
            f"__metadata__: {len(crcs)} sums in crc32", expected=f"{len(entries)}, one a tensor", fix=REWRITE
        )
    for e, crc in zip(entries, crcs, strict=True):
        found = f"{zlib.crc32(view[e.begin : e.end]):08x}"
        if found != crc:
            raise FormatError(
                f"data: tensor {e.name!r} has sum {found}", expected=f"crc32 {crc}", fix=REWRITE
            )
    if digest.hexdigest() != meta["sha256"]:
        raise FormatError(
            "header: the sum of the whole file differs, while those of the tensors agree",
            expected=f"sha256 {meta['sha256']:.80}",
            fix=REWRITE,
        )
