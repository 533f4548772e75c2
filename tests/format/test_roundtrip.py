"""What is written is read back, in one byte form, by us and by the safetensors library."""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from format.decode_by_hand import load
from format.rawfile import RawFile
from format.samples import models, sample
from hypothesis import given, settings
from weights.reference import pack_slowly

from sd_tvm.errors import FormatError
from sd_tvm.format import QParams, StoredModel, dumps, inspect, loads, read, write
from sd_tvm.format.container import decode
from sd_tvm.weights.tensor import SDWeight


def same(a: Any, b: Any) -> bool:
    """Equality of dataclasses, dictionaries and arrays, types included."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if dataclasses.is_dataclass(a):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    return bool(a == b)


@settings(max_examples=150)
@given(models())
def test_round_trip(model: StoredModel) -> None:
    data = dumps(model)
    again = loads(data)
    assert same(again, model)
    assert dumps(again) == data
    assert list(again.weights) == list(model.weights), "layers are in network order"


@settings(max_examples=50)
@given(models())
def test_the_safetensors_library_agrees(model: StoredModel) -> None:
    data = dumps(model)
    container = decode(data)
    theirs = safetensors.numpy.load(data)
    assert set(theirs) <= {"float32", "int8", "uint8", "model", "crc32"}
    for stream in ("float32", "int8", "uint8"):
        ours = [container.tensors[n] for n in sorted(container.tensors)]
        flat = [a.reshape(-1) for a in ours if a.dtype == stream]
        assert bool(flat) == (stream in theirs)
        assert not flat or same(np.concatenate(flat), theirs[stream]), stream
    # The bytes are what the document says, written by other code.
    assert RawFile.split(data).join() == data


def test_codes_in_the_file_are_those_of_the_kernels() -> None:
    model = sample()
    _, tensors = load(dumps(model))
    for layer, weight in model.weights.items():
        if isinstance(weight, SDWeight):
            for name, array in pack_slowly(weight).items():
                if name != "table":
                    np.testing.assert_array_equal(tensors[f"weights/{layer}/{name}"], array)


def test_order_of_insertion_does_not_matter() -> None:
    model = sample()
    turned = dataclasses.replace(
        model,
        tensors=dict(reversed(model.tensors.items())),
        weights=dict(reversed(model.weights.items())),
        activations=dict(reversed(model.activations.items())),
        graph=dict(reversed(model.graph.items())),
    )
    assert dumps(turned) == dumps(model)


def test_write_returns_the_size_and_leaves_one_file(tmp_path: Path) -> None:
    path = tmp_path / "model.sd"
    path.write_bytes(b"old")
    size = write(path, sample())
    assert path.stat().st_size == size
    assert same(read(path), sample())
    assert [p.name for p in tmp_path.iterdir()] == ["model.sd"]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "model.sd"
    write(path, sample())
    before = path.read_bytes()
    broken = dataclasses.replace(sample(), activations={"image": QParams(float("nan"), 0)})
    with pytest.raises(FormatError, match="finite"):
        write(path, broken)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.sd"]
    (tmp_path / "folder").mkdir()
    with pytest.raises(FormatError, match="cannot write"):
        write(tmp_path / "folder", sample())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "model.sd"]
    with pytest.raises(FormatError, match="cannot write"):
        write(tmp_path / "none" / "model.sd", sample())


@settings(max_examples=30)
@given(models())
def test_summary_adds_up(model: StoredModel) -> None:
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"sd-summary-{os.getpid()}.sd"
    try:
        size = write(path, model)
        summary = inspect(path)
    finally:
        path.unlink(missing_ok=True)
    parts = summary.header_bytes + summary.tensor_bytes + sum(x.nbytes for x in summary.layers)
    assert parts == size == summary.file_bytes
    assert [x.name for x in summary.layers] == list(model.weights)
    for layer in summary.layers:
        weight = model.weights[layer.name]
        assert layer.bits_per_weight == 8 * layer.nbytes / math.prod(weight.shape)
        assert layer.nonzero == np.count_nonzero(weight.integer()) / math.prod(weight.shape)
        assert layer.kind == ("sd" if isinstance(weight, SDWeight) else "int8")
    dense = sum(math.prod(w.shape) for w in model.weights.values())
    assert summary.fp32_bytes == 4 * (dense + sum(t.size for t in model.tensors.values()))
    assert summary.to_dict()["ratio"] == summary.fp32_bytes / size
