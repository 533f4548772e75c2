"""The bytes of version 1 are pinned; an independent decoder says what they mean.

Recording is not approval: ``pytest tests/format --update-golden`` rewrites it; the decoder must still agree.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from format.decode_by_hand import load, weight
from format.samples import sample

from sd_tvm.format import SCHEMA_VERSION, dumps, read
from sd_tvm.recipe import Recipe

GOLDEN = Path(__file__).parent.parent / "golden" / "format_v1.sd"


@pytest.fixture(scope="module")
def golden(request: pytest.FixtureRequest) -> bytes:
    """Bytes of the golden file; a missing one is a failure, not a skip."""
    if request.config.getoption("--update-golden"):
        GOLDEN.write_bytes(dumps(sample()))
    if not GOLDEN.is_file():
        pytest.fail(f"{GOLDEN.name} is missing; `pytest tests/format --update-golden` writes it")
    return GOLDEN.read_bytes()


def test_the_bytes_are_pinned(golden: bytes) -> None:
    assert SCHEMA_VERSION == 1, "a new version gets a golden file of its own; this one stays readable"
    assert len(golden) < 50_000
    assert dumps(sample()) == golden


def test_reading_gives_the_model(golden: bytes) -> None:
    model, wanted = read(GOLDEN), sample()
    assert dumps(model) == golden
    assert model.graph == wanted.graph
    assert model.activations == wanted.activations
    assert model.recipe == Recipe.named("sd-4:16")
    assert list(model.weights) == list(wanted.weights)


def test_an_independent_decoder_agrees(golden: bytes) -> None:
    model = read(GOLDEN)
    document, tensors = load(golden)
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


def test_the_sums_are_those_of_the_document(golden: bytes) -> None:
    at = golden.index(b'"sha256":"') + len(b'"sha256":"')
    blank = golden[:at] + b"0" * 64 + golden[at + 64 :]
    assert hashlib.sha256(blank).hexdigest().encode() == golden[at : at + 64]
