"""The bytes of version 2 are pinned, version 1 is still read; an independent decoder says what they mean.

Recording is not approval: ``pytest tests/format --update-golden`` rewrites it; the decoder must still agree.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from format.decode_by_hand import load, weight
from format.rawfile import contents_of
from format.samples import sample

from sd_tvm.errors import FormatError
from sd_tvm.format import SCHEMA_VERSION, dumps, inspect, loads, read
from sd_tvm.recipe import Recipe

FOLDER = Path(__file__).parent.parent / "golden"
GOLDEN = FOLDER / "format_v2.sd"
OLD = FOLDER / "format_v1.sd"


@pytest.fixture(scope="module")
def golden(request: pytest.FixtureRequest) -> bytes:
    """Bytes of the golden file; a missing one is a failure, not a skip."""
    if request.config.getoption("--update-golden"):
        GOLDEN.write_bytes(dumps(sample()))
    if not GOLDEN.is_file():
        pytest.fail(f"{GOLDEN.name} is missing; `pytest tests/format --update-golden` writes it")
    return GOLDEN.read_bytes()


def test_the_bytes_are_pinned(golden: bytes) -> None:
    assert SCHEMA_VERSION == 2, "a new version gets a golden file of its own; this one stays readable"
    assert len(golden) < 50_000
    assert contents_of(dumps(sample())) == contents_of(golden)
    assert dumps(sample()) == dumps(sample())


def test_reading_gives_the_model(golden: bytes) -> None:
    model, wanted = read(GOLDEN), sample()
    assert contents_of(dumps(model)) == contents_of(golden)
    assert model.graph == wanted.graph
    assert model.activations == wanted.activations
    assert model.recipe == Recipe.named("sd-4:16")
    assert list(model.weights) == list(wanted.weights)


@pytest.mark.usefixtures("golden")
@pytest.mark.parametrize("path", [GOLDEN, OLD], ids=lambda p: p.stem)
def test_an_independent_decoder_agrees(path: Path) -> None:
    model = read(path)
    document, tensors = load(path.read_bytes())
    assert sorted(document["weights"]) == sorted(model.weights)
    for layer, stored in model.weights.items():
        by_hand = weight(document, tensors, layer)
        assert by_hand.any(), f"{layer}: a golden weight of zeros shows nothing"
        scale = stored.scale.astype(np.float64)[:, None, None, None]
        np.testing.assert_array_equal(by_hand, stored.integer() * scale, err_msg=layer)
        np.testing.assert_array_equal(by_hand.astype(np.float32), stored.dequantize(), err_msg=layer)
    for name, array in model.tensors.items():
        np.testing.assert_array_equal(tensors[f"tensors/{name}"], array)
    for name, q in model.activations.items():
        assert document["activations"][name] == vars(q)


def test_version_1_is_read_and_becomes_version_2(golden: bytes) -> None:
    assert inspect(OLD).schema_version == 1
    assert inspect(GOLDEN).schema_version == 2
    assert contents_of(dumps(read(OLD))) == contents_of(golden)


def test_damage_to_version_1_is_refused() -> None:
    """Behind right sums of the container: the rest is verified as in version 2."""
    old = OLD.read_bytes()
    for at in range(0, len(old), 11):
        bad = old[:at] + bytes([old[at] ^ 4]) + old[at + 1 :]
        with pytest.raises(FormatError):
            loads(bad)
    assert b'"schema_version' not in GOLDEN.read_bytes(), "version 2 is compressed"


@pytest.mark.parametrize(
    ("old", "new", "pattern"),
    [
        (b'\\"schema_version\\":1', b'\\"schema_version\\":2', "schema_version is 2"),
        (b'"crc32":"', b'"crc32":"00000000,', "sums in crc32"),
        (b'"format":"sd-tvm"', b'"format":"sd-tvm","more":"x"', "unknown key 'more'"),
    ],
)
def test_version_1_with_right_sums(old: bytes, new: bytes, pattern: str) -> None:
    data = OLD.read_bytes()
    n = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + n].rstrip(b" ").replace(old, new)
    at = header.index(b'"sha256":"') + 10
    header = header[:at] + b"0" * 64 + header[at + 64 :]
    header += b" " * (-len(header) % 8)
    whole = len(header).to_bytes(8, "little") + header + data[8 + n :]
    digest = hashlib.sha256(whole).hexdigest().encode()
    with pytest.raises(FormatError, match=pattern):
        loads(whole[: 8 + at] + digest + whole[8 + at + 64 :])


def test_the_sums_are_those_of_the_document(golden: bytes) -> None:
    at = golden.index(b'"sha256":"') + len(b'"sha256":"')
    blank = golden[:at] + b"0" * 64 + golden[at + 64 :]
    assert hashlib.sha256(blank).hexdigest().encode() == golden[at : at + 64]
