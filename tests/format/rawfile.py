"""docs/format.md, section 1, transcribed: takes a file apart, changes it, puts it together again."""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import dataclass, field
from typing import Any

ITEM = {"F32": 4, "U8": 1, "I8": 1}


@dataclass
class RawTensor:
    """One tensor; ``offsets`` overrides what the layout says."""

    dtype: str
    shape: list[Any]
    data: bytearray
    offsets: list[Any] | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass
class RawFile:
    """A file in parts; every part may be changed before :meth:`join`."""

    sd: Any
    tensors: dict[str, RawTensor]
    meta: dict[str, Any] = field(default_factory=dict)
    tail: bytes = b""

    @classmethod
    def split(cls, data: bytes) -> RawFile:
        """Parts of a good file."""
        n = int.from_bytes(data[:8], "little")
        table = json.loads(data[8 : 8 + n])
        meta = table.pop("__metadata__")
        body = data[8 + n :]
        tensors = {
            name: RawTensor(t["dtype"], t["shape"], bytearray(body[slice(*t["data_offsets"])]))
            for name, t in table.items()
        }
        return cls(json.loads(meta["sd"]), tensors)

    def join(self, *, sort: bool = True) -> bytes:
        """The file, with sums that agree with what it holds."""
        names = list(self.tensors)
        if sort:
            names.sort(key=lambda n: (-ITEM.get(self.tensors[n].dtype, 1), n))
        body = b"".join(bytes(self.tensors[n].data) for n in names)
        sd = self.sd if isinstance(self.sd, str) else dump(self.sd)
        crc = ",".join(f"{zlib.crc32(bytes(self.tensors[n].data)):08x}" for n in names)
        meta: dict[str, Any] = {"crc32": crc, "format": "sd-tvm", "sd": sd, "sha256": "0" * 64}
        meta.update(self.meta)
        meta = {k: v for k, v in meta.items() if v is not None}
        table: dict[str, Any] = {"__metadata__": meta}
        at = 0
        for name in names:
            t = self.tensors[name]
            offsets = t.offsets or [at, at + len(t.data)]
            table[name] = {"dtype": t.dtype, "shape": t.shape, "data_offsets": offsets, **t.extra}
            at += len(t.data)
        return sign(table, body + self.tail)


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
