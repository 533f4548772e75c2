"""TVM's binary tensors and parameter files, read without the TVM that wrote them.

A tensor is ``u64 magic, u64 reserved, device (i32, i32), i32 rank, dtype (u8 code, u8 bits, u16 lanes),
i64 shape[rank], i64 bytes``, then its data, all little-endian. ``relay.save_param_dict`` writes ``u64 magic,
u64 reserved``, the names (``u64 n``, then ``u64 length`` and text each), ``u64 n`` and the tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from os import PathLike, fspath
from pathlib import Path
from struct import Struct, error
from typing import Any

import numpy as np

from sd_tvm.errors import UnsupportedDTypeError, UnsupportedModelError
from sd_tvm.relay.graph import Array

_TENSOR_MAGIC = 0xDD5E40F096B4A13F
_PARAMS_MAGIC = 0xF7E58D4F05049CB7
_HEAD = Struct("<QQiiiBBH")
_U64 = Struct("<Q")
_I64 = Struct("<q")
_MAX_RANK = 16
#: Kinds of DLPack's type codes.
_CODES = {0: "int", 1: "uint", 2: "float"}
_DTYPES = frozenset(
    {
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "float16",
        "float32",
        "float64",
    }
)


class _Reader:
    """A position in bytes; every read that leaves them is an error."""

    def __init__(self, data: bytes, what: str) -> None:
        self.data, self.at, self.what = data, 0, what

    def wrong(self, found: str, expected: str) -> UnsupportedModelError:
        return UnsupportedModelError(
            f"{self.what}: {found} at byte {self.at} of {len(self.data)}",
            expected=expected,
            fix="write the file again, and copy it in binary mode",
        )

    def unpack(self, layout: Struct) -> tuple[Any, ...]:
        try:
            values = layout.unpack_from(self.data, self.at)
        except error as cause:
            raise self.wrong("it ends", f"{layout.size} more bytes: the file was cut short") from cause
        self.at += layout.size
        return values

    def take(self, n: int) -> bytes:
        if n < 0 or self.at + n > len(self.data):
            raise self.wrong("it ends", f"{n} more bytes: the file was cut short")
        self.at += n
        return self.data[self.at - n : self.at]

    def count(self) -> int:
        n = int(self.unpack(_U64)[0])
        if n > len(self.data):
            raise self.wrong(f"a count of {n}", "no more than the file can hold")
        return n

    def tensor(self) -> Array:
        magic, _, _, _, rank, code, bits, lanes = self.unpack(_HEAD)
        if magic != _TENSOR_MAGIC:
            raise self.wrong(f"{magic:#x}", f"a tensor, which starts with {_TENSOR_MAGIC:#x}")
        if not 0 <= rank <= _MAX_RANK:
            raise self.wrong(f"a tensor of rank {rank}", f"a rank of at most {_MAX_RANK}")
        dtype = "bool" if (code, bits) == (1, 1) else f"{_CODES.get(code, f'type code {code}, ')}{bits}"
        if lanes != 1 or (dtype != "bool" and dtype not in _DTYPES):
            raise UnsupportedDTypeError(
                f"{self.what}: a tensor of {dtype}x{lanes}",
                expected="float32, integers or booleans",
                fix="convert the model to float32 before saving it",
            )
        shape = [int(self.unpack(_I64)[0]) for _ in range(rank)]
        n = int(self.unpack(_I64)[0])
        kind = np.dtype(dtype)
        if any(d < 0 for d in shape) or n != prod(shape) * kind.itemsize:
            raise self.wrong(
                f"a tensor of shape {shape} in {n} bytes", f"{prod(shape) * kind.itemsize} bytes"
            )
        return np.frombuffer(self.take(n), dtype=kind.newbyteorder("<")).astype(kind).reshape(shape)


def read_tensor(data: bytes, what: str) -> Array:
    """One tensor.

    Raises
    ------
    UnsupportedModelError
        If it is cut short or is no tensor; ``what`` names it.
    UnsupportedDTypeError
        If its type is none that NumPy has.
    """
    return _Reader(data, what).tensor()


def read_params(params: Any) -> dict[str, Array]:
    """Parameters by name.

    Parameters
    ----------
    params
        Bytes of ``relay.save_param_dict``, the path of a file that holds them, or a mapping of names to
        arrays (NumPy's, or anything with ``numpy()``).

    Raises
    ------
    UnsupportedModelError
        If it is none of these, or the file is damaged.
    """
    if isinstance(params, Mapping):
        return {str(k): np.asarray(v.numpy() if hasattr(v, "numpy") else v) for k, v in params.items()}
    what = "the parameters"
    if isinstance(params, str | PathLike):
        what = f"the parameter file {fspath(params)!r}"
        if not Path(params).is_file():
            raise UnsupportedModelError(
                f"there is no {what[4:]}", expected="a file of relay.save_param_dict", fix="check the path"
            )
        params = Path(params).read_bytes()
    if not isinstance(params, bytes | bytearray):
        raise UnsupportedModelError(
            f"params is a {type(params).__name__}",
            expected="a mapping of names to arrays, or bytes or a file of relay.save_param_dict",
        )
    reader = _Reader(bytes(params), what)
    magic, _ = reader.unpack(Struct("<QQ"))
    if magic != _PARAMS_MAGIC:
        reader.at = 0
        raise reader.wrong(f"{magic:#x}", f"a parameter file, which starts with {_PARAMS_MAGIC:#x}")
    names = []
    for _ in range(reader.count()):
        raw = reader.take(reader.count())
        try:
            names.append(raw.decode())
        except UnicodeDecodeError as cause:
            raise reader.wrong("a name that is no text", "UTF-8") from cause
    n = reader.count()
    if n != len(names):
        raise reader.wrong(f"{n} tensors for {len(names)} names", "one each")
    return {name: reader.tensor() for name in names}
