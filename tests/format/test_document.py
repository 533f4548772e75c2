"""The example of docs/format.md is a file that we write; another zlib may pack its text otherwise."""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path

import numpy as np
from format.rawfile import contents_of, parts_of

from sd_tvm.format import QParams, StoredModel, dumps, loads
from sd_tvm.weights.tensor import SDWeight, WeightForm

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "format.md"


def example() -> StoredModel:
    """A 1x1 convolution of two channels to one: w = 0.5 * (1, -2) . B with B = 3 * identity."""
    coef = np.array([[[1, -2, 0]]], np.int8)
    basis = 3 * np.eye(3, dtype=np.int8)[None]
    weight = SDWeight((1, 2, 1, 1), WeightForm(alphabet="pow2-5"), coef, basis, np.array([0.5], np.float32))
    node = {
        "name": "conv",
        "op": "conv2d",
        "inputs": ["x"],
        "attrs": {"$args": [{"value": 0}, {"weight": True}]},
        "shape": [1, 1, 4, 4],
        "dtype": "float32",
    }
    image = {"name": "x", "shape": [1, 2, 4, 4], "dtype": "float32"}
    return StoredModel(
        graph={"inputs": [image], "nodes": [node], "outputs": ["conv"]},
        weights={"conv": weight},
        activations={"x": QParams(0.0234375, 3)},
        versions={"sd-tvm": "0.1.0"},
    )


def test_the_example() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    blocks = dict(re.findall(r"```(\w+)\n(.*?)```", text, flags=re.S))
    data = dumps(example())
    parts = parts_of(data)
    assert list(parts) == ["float32", "crc32", "int8", "model", "uint8"]
    written = json.dumps(json.loads(blocks["json"]), sort_keys=True, separators=(",", ":"))
    assert written.encode() == zlib.decompress(parts["model"])
    length, *header, rest = re.split(r"\n(?=\{)|(?<=\}\})\n", blocks["text"].strip(), maxsplit=2)
    size = bytes.fromhex(length)
    padded = "".join("".join(header).split()).ljust(int.from_bytes(size, "little"))
    shown = size + padded.encode() + bytes.fromhex("".join(rest.split()))
    assert contents_of(shown) == contents_of(data)
    assert loads(shown).weights["conv"].scale == 0.5
