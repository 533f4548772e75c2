"""The files of ``data/``: modules that two versions of Relay saved, and what they compute."""

from __future__ import annotations

import base64
import json
import lzma
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

DATA = Path(__file__).parent / "data"
#: TVM of the file, by its name.
VERSIONS = {"0.9": "0.9.dev0", "0.16": "0.16.dev0"}
Array = npt.NDArray[Any]


def _read(path: Path) -> Any:
    return json.loads(lzma.decompress(path.read_bytes()))


@cache
def operators(version: str) -> Any:
    """Cases, refused modules and missing cases of one Relay."""
    found = _read(DATA / f"operators-{version}.json.xz")
    assert found["tvm"] == VERSIONS[version]
    return found


@cache
def cases(version: str) -> dict[str, Any]:
    """Cases by name."""
    return {c["name"]: c for c in operators(version)["cases"]}


@cache
def nets(version: str) -> dict[str, Any]:
    """Networks of relay.testing by name."""
    return {n["name"]: n for n in _read(DATA / f"nets-{version}.json.xz")["nets"]}


def array(packed: Any) -> Array:
    """An array of the files."""
    raw = base64.b64decode(packed["data"])
    return np.frombuffer(raw, packed["dtype"]).reshape(packed["shape"])


def weight(name: str, shape: tuple[int, ...]) -> Array:
    """The values that ``data/make_nets.py`` gave a weight."""
    r = np.random.RandomState(zlib.crc32(name.encode()))
    if len(shape) > 1:
        fan = int(np.prod(shape[1:]))
        return (r.standard_normal(shape) * (2.0 / fan) ** 0.5).astype("float32")
    if "var" in name:
        return r.uniform(0.5, 1.5, shape).astype("float32")
    return (r.uniform(0.8, 1.2, shape) if "gamma" in name else r.normal(0, 0.1, shape)).astype("float32")


def net_inputs(net: Any) -> dict[str, Array]:
    """The inputs that ``data/make_nets.py`` gave a network."""
    return {
        name: np.random.RandomState(zlib.crc32(name.encode())).uniform(-1, 1, shape).astype("float32")
        for name, shape in net["inputs"].items()
    }
