"""What is written is read back, in one byte form, by us and by the safetensors library."""

from __future__ import annotations

import dataclasses
import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from format.decode_by_hand import load
from format.rawfile import RawFile
from format.samples import models, sample
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from weights.reference import store_slowly

from sd_tvm.errors import FormatError, MissingExtraError
from sd_tvm.format import QParams, StoredModel, dumps, inspect, loads, read, write
from sd_tvm.format.container import decode
from sd_tvm.weights.packing import pack_raw, pack_sd
from sd_tvm.weights.stored import STORAGES, Storage
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


def test_arrays_in_the_file_are_those_of_the_document() -> None:
    model = sample()
    _, tensors = load(dumps(model))
    for layer, weight in model.weights.items():
        if isinstance(weight, SDWeight):
            for name, array in store_slowly(weight).items():
                np.testing.assert_array_equal(tensors[f"weights/{layer}/{name}"], array)


@settings(max_examples=60)
@given(models())
def test_entropy_coded_round_trip(model: StoredModel) -> None:
    data = dumps(model, "entropy")
    again = loads(data)
    assert same(again, model)
    assert dumps(again, "entropy") == data
    assert dumps(again) == dumps(model), "how a model was stored is no part of it"


@settings(max_examples=150)
@given(st.data())
def test_damaged_codes_behind_right_sums_are_refused_or_canonical(data: st.DataObject) -> None:
    raw = RawFile.split(dumps(sample(), "entropy"))
    tensor = raw.tensors[data.draw(st.sampled_from([n for n in raw.tensors if n.endswith("coded")]))]
    if data.draw(st.booleans()):
        tensor.data[data.draw(st.integers(0, len(tensor.data) - 1))] ^= data.draw(st.integers(1, 255))
    else:
        at = data.draw(st.integers(0, len(tensor.data)))
        tensor.data[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
        tensor.shape[0] = len(tensor.data)
    assume(tensor.data)
    changed = raw.join()
    try:
        model = loads(changed)
    except FormatError:
        return
    assert dumps(model, "entropy") == changed


def test_an_unknown_storage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"storage 'zip'.*plain"):
        write(tmp_path / "model.sd", sample(), "zip")  # type: ignore[arg-type]


def test_without_the_coder_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.sd"
    write(path, sample(), "entropy")
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(MissingExtraError, match=r"sd-tvm\[entropy\]"):
        read(path)


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
@given(models(), st.sampled_from(STORAGES))
def test_summary_adds_up(model: StoredModel, storage: Storage) -> None:
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"sd-summary-{os.getpid()}.sd"
    try:
        size = write(path, model, storage)
        summary = inspect(path)
    finally:
        path.unlink(missing_ok=True)
    parts = summary.header_bytes + summary.tensor_bytes + sum(x.nbytes for x in summary.layers)
    assert parts == size == summary.file_bytes
    assert summary.storage == storage
    assert [x.name for x in summary.layers] == list(model.weights)
    used = 0
    for layer in summary.layers:
        weight = model.weights[layer.name]
        assert layer.bits_per_weight == 8 * layer.nbytes / math.prod(weight.shape)
        assert layer.nonzero == np.count_nonzero(weight.integer()) / math.prod(weight.shape)
        assert layer.kind == ("sd" if isinstance(weight, SDWeight) else "int8")
        if isinstance(weight, SDWeight):
            packed = sum(a.nbytes for a in pack_sd(weight).values()) + weight.scale.nbytes
        else:
            packed = pack_raw(weight).nbytes + weight.scale.nbytes
        assert layer.used_nbytes == packed
        used += packed
    assert summary.used_nbytes == used
    dense = sum(math.prod(w.shape) for w in model.weights.values())
    assert summary.fp32_bytes == 4 * (dense + sum(t.size for t in model.tensors.values()))
    assert summary.to_dict()["ratio"] == summary.fp32_bytes / size
