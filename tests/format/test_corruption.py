"""Damaged files are refused, by a message that names the culprit, whatever the damage."""

from __future__ import annotations

import pickle
import re
import resource
from pathlib import Path
from typing import Any

import format.damage_container
import format.damage_model  # noqa: F401 - registers its kinds
import numpy as np
import pytest
from format.damage import DAMAGES
from format.rawfile import RawFile
from format.samples import sample
from hypothesis import given, settings
from hypothesis import strategies as st

from sd_tvm.errors import FormatError
from sd_tvm.format import dumps, loads, read

GOOD = dumps(sample())


def test_there_are_enough_kinds() -> None:
    assert len(DAMAGES) >= 30


@pytest.mark.parametrize("kind", sorted(DAMAGES))
def test_damage_is_refused(kind: str, tmp_path: Path) -> None:
    function, pattern = DAMAGES[kind]
    bad = function(GOOD)
    assert bad != GOOD
    path = tmp_path / "bad.sd"
    path.write_bytes(bad)
    with pytest.raises(FormatError) as caught:
        read(path)
    error = caught.value
    assert re.search(pattern, str(error)), str(error)
    assert "bad.sd" in str(error)
    assert error.fix, "the message says what to do"
    assert len(str(error)) < 600


def test_split_and_join_damage_nothing() -> None:
    """Else every damage of parts would be refused for the wrong reason."""
    assert RawFile.split(GOOD).join() == GOOD


@pytest.mark.parametrize("what", ["directory", "missing", "pickle", "numpy"])
def test_not_a_file_of_ours(what: str, tmp_path: Path) -> None:
    path = tmp_path / "model.sd"
    if what == "directory":
        path.mkdir()
    elif what == "pickle":
        path.write_bytes(pickle.dumps(_Bomb()))
    elif what == "numpy":
        with path.open("wb") as file:
            np.savez(file, a=np.ones(3))
    with pytest.raises(FormatError, match=r"model\.sd.*What to do"):
        read(path)


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (pytest.fail, ("a pickle was loaded",))


def test_every_byte_counts() -> None:
    """Any single flipped bit is refused: every 7th byte of the file here, all bytes of the header."""
    header = 8 + int.from_bytes(GOOD[:8], "little")
    for at in [*range(header), *range(header, len(GOOD), 7)]:
        bad = bytearray(GOOD)
        bad[at] ^= 1 << (at % 8)
        with pytest.raises(FormatError):
            loads(bytes(bad))


@settings(max_examples=300)
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_any_changed_byte_is_refused(at: int, change: int) -> None:
    bad = bytearray(GOOD)
    bad[at] ^= change
    with pytest.raises(FormatError):
        loads(bytes(bad))


@settings(max_examples=100)
@given(st.integers(0, len(GOOD) - 1), st.integers(0, 40), st.binary(max_size=40))
def test_any_splice_is_refused(at: int, cut: int, insert: bytes) -> None:
    bad = GOOD[:at] + insert + GOOD[at + cut :]
    if bad != GOOD:
        with pytest.raises(FormatError):
            loads(bad)


@settings(max_examples=200)
@given(st.binary(max_size=200), st.booleans())
def test_noise_is_refused(noise: bytes, framed: bool) -> None:
    data = len(noise).to_bytes(8, "little") + noise if framed else noise
    with pytest.raises(FormatError):
        loads(data)


@settings(max_examples=300)
@given(st.data())
def test_changed_data_with_right_sums_is_refused_or_canonical(data: st.DataObject) -> None:
    """Behind the sums: a byte of a tensor changes and the sums are renewed."""
    raw = RawFile.split(GOOD)
    tensor = raw.tensors[data.draw(st.sampled_from(sorted(raw.tensors)))].data
    tensor[data.draw(st.integers(0, len(tensor) - 1))] ^= data.draw(st.integers(1, 255))
    changed = raw.join()
    try:
        model = loads(changed)
    except FormatError:
        return
    assert dumps(model) == changed, "what is accepted is another model in its own byte form"


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from(["", "dense", "image", "end", "weight", "16:16", "int8"]),
        st.text(max_size=5),
    ),
    lambda children: st.one_of(
        st.lists(children, max_size=3),
        st.dictionaries(
            st.sampled_from(["name", "value", "weight", "tuple", "$args", "x"]), children, max_size=3
        ),
    ),
    max_leaves=5,
)


@settings(max_examples=300)
@given(st.data())
def test_a_changed_model_with_right_sums_is_refused_or_canonical(data: st.DataObject) -> None:
    """Any value of the model's JSON, at any depth, becomes any other value, goes, or gets a sibling."""
    raw = RawFile.split(GOOD)
    root: Any = {"sd": raw.sd}
    parent, key = root, "sd"
    while True:
        value = parent[key]
        if not isinstance(value, dict | list) or not value or data.draw(st.integers(0, 4)) == 0:
            break
        keys = sorted(value) if isinstance(value, dict) else list(range(len(value)))
        parent, key = value, data.draw(st.sampled_from(keys))
    how = data.draw(st.sampled_from(["replace", "remove", "add"]))
    if how == "remove" and parent is not root:
        del parent[key]
    elif how == "add" and isinstance(parent[key], dict):
        parent[key][data.draw(st.text(max_size=3))] = data.draw(JSON)
    else:
        parent[key] = data.draw(JSON)
    raw.sd = root["sd"]
    changed = raw.join()
    try:
        model = loads(changed)
    except FormatError:
        return
    assert dumps(model) == changed


def test_memory_is_bounded_on_hostile_sizes() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for kind in (
        "absurd_weight_shape",
        "shape_larger_than_data",
        "huge_header_length",
        "empty_dimension",
        "listed_shape_is_absurd",
        "stream_that_expands_absurdly",
    ):
        with pytest.raises(FormatError):
            loads(DAMAGES[kind][0](GOOD))
    with pytest.raises(FormatError, match="absurd"):  # an entropy coder would decode any number of weights
        loads(DAMAGES["absurd_weight_shape"][0](dumps(sample(), "entropy")))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB
