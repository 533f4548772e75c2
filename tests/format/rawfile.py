"""docs/format.md, section 1, transcribed: takes a file apart, changes it, puts it together again."""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sd_tvm.format.deflate import compress

ITEM = {"F32": 4, "U8": 1, "I8": 1}
STREAMS = {"F32": "float32", "I8": "int8", "U8": "uint8"}


@dataclass
class RawTensor:
    """One array."""

    dtype: str
    shape: list[Any]
    data: bytearray


@dataclass
class RawFile:
    """A file in parts; every part may be changed before :meth:`join`.

    ``index`` overrides the list of arrays, ``text`` all that the tensor ``model`` says, ``stream`` its bytes.
    """

    sd: Any
    tensors: dict[str, RawTensor]
    index: Any = None
    text: bytes | None = None
    stream: bytes | None = None
    sums: bytes | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def split(cls, data: bytes) -> RawFile:
        """Parts of a good file."""
        parts = parts_of(data)
        document = json.loads(zlib.decompress(parts["model"]))
        at = dict.fromkeys(STREAMS, 0)
        tensors = {}
        for dtype, arrays in document["tensors"].items():
            for name, shape in arrays.items():
                begin = at[dtype]
                at[dtype] += ITEM[dtype] * int(np.prod(shape))
                tensors[name] = RawTensor(dtype, shape, bytearray(parts[STREAMS[dtype]][begin : at[dtype]]))
        return cls(document["sd"], tensors)

    def listed(self) -> dict[str, dict[str, Any]]:
        """The list of arrays by type."""
        out: dict[str, dict[str, Any]] = {}
        for name, t in self.tensors.items():
            out.setdefault(t.dtype, {})[name] = t.shape
        return out

    def join(self) -> bytes:
        """The file, with sums that agree with what it holds."""
        index = self.index if self.index is not None else self.listed()
        sd = self.sd if isinstance(self.sd, str) else dump(self.sd)
        text = self.text if self.text is not None else f'{{"sd":{sd},"tensors":{dump(index)}}}'.encode()
        streams: dict[str, bytes] = {}
        sums = b""
        for dtype, stream in STREAMS.items():
            for name in sorted(n for n, t in self.tensors.items() if t.dtype == dtype):
                data = bytes(self.tensors[name].data)
                streams[stream] = streams.get(stream, b"") + data
                sums += zlib.crc32(data).to_bytes(4, "little")
        if self.sums is not None:
            sums = self.sums
        table: dict[str, Any] = {}
        body, at = b"", 0
        parts = {
            **streams,
            "crc32": sums,
            "model": self.stream if self.stream is not None else compress(text),
        }
        for name in sorted(parts, key=lambda n: (n != "float32", n)):
            dtype = {"float32": "F32", "int8": "I8"}.get(name, "U8")
            n = len(parts[name])
            if n == 0:
                continue
            shape = [n // 4, 4] if name == "crc32" else [n // ITEM[dtype]]
            table[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + n]}
            body += parts[name]
            at += n
        meta: dict[str, Any] = {"format": "sd-tvm", "sha256": "0" * 64, "version": "2", **self.meta}
        return sign({"__metadata__": meta, **table}, body)


def parts_of(data: bytes) -> dict[str, bytes]:
    """The safetensors tensors of a file."""
    n = int.from_bytes(data[:8], "little")
    table = json.loads(data[8 : 8 + n])
    table.pop("__metadata__")
    return {name: data[8 + n :][slice(*t["data_offsets"])] for name, t in table.items()}


def contents_of(data: bytes) -> dict[str, bytes]:
    """Tensors of a file, the text of ``model`` expanded: the same whichever zlib wrote it."""
    return {name: zlib.decompress(b) if name == "model" else b for name, b in parts_of(data).items()}


def dump(value: Any) -> str:
    """Canonical JSON of the model."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def sign(table: dict[str, Any], body: bytes) -> bytes:
    """File of a header table, with its SHA-256 filled in where the table has room for it."""
    meta = table.get("__metadata__")
    if isinstance(meta, dict) and meta.get("sha256") == "0" * 64:
        meta["sha256"] = hashlib.sha256(frame(table) + body).hexdigest()
    return frame(table) + body


def frame(table: Any) -> bytes:
    """Length field and header."""
    text = table if isinstance(table, bytes) else json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
