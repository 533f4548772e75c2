"""Reading version 1 of the container: every array a tensor of its own, the model's JSON in the header."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors

from sd_tvm.errors import FormatError
from sd_tvm.format.header import DTYPES, Entry, check_header, write_header
from sd_tvm.format.strictjson import REWRITE

VERSION = "1"
_METADATA_KEYS = ("crc32", "format", "sd", "sha256")


def is_version1(metadata: Mapping[str, str]) -> bool:
    """Whether a header's metadata are those of version 1, which has no key ``version``."""
    return "sd" in metadata and "version" not in metadata


def read(
    entries: Sequence[Entry], metadata: Mapping[str, str], data: bytes, start: int
) -> tuple[dict[str, npt.NDArray[Any]], str]:
    """Arrays by name and the model's JSON; ``start`` is where the data begin.

    Raises
    ------
    FormatError
        If a sum differs, or the safetensors library refuses the file.
    """
    check_header(data, list(entries), metadata, _METADATA_KEYS)
    view = memoryview(data)[start:]
    unsigned = write_header(list(entries), {**metadata, "sha256": "0" * 64})
    digest = hashlib.sha256(unsigned)
    digest.update(view)
    crcs = metadata["crc32"].split(",") if entries else []
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
    if digest.hexdigest() != metadata["sha256"]:
        raise FormatError(
            "the sum of the whole file differs, while those of the arrays agree",
            expected=f"sha256 {metadata['sha256']:.80}",
            fix=REWRITE,
        )
    try:
        loaded: Any = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise FormatError(f"safetensors refuses the file: {error}", fix=REWRITE) from error
    tensors = {
        name: np.frombuffer(item["data"], dtype=DTYPES[item["dtype"]]).reshape(item["shape"])
        for name, item in loaded
    }
    return tensors, metadata["sd"]
