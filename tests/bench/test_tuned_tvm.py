"""Tuned TVM float32, a peer of ``benchmarks/cpu``: what it computes, and that stored schedules apply."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sd_tvm._tvm import structural_equal, tvm
from sd_tvm.schedules.cpu.isa import ISAS

ROOT = Path(__file__).parents[2] / "benchmarks"
AVX2 = next(isa for isa in ISAS if isa.name == "avx2")


@pytest.fixture(scope="module")
def peer() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        yield import_module("cpu.tvm_fp32")


@pytest.fixture(scope="module")
def shapes(peer: Any) -> Any:
    return import_module("cpu.shapes")


def _run(peer: Any, shape: Any, lanes: int, module: Any) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    if hasattr(shape, "kernel"):
        w = rng.normal(size=(shape.m, shape.c, shape.kernel, shape.kernel)).astype(np.float32)
        x = rng.normal(size=(1, shape.c, shape.size, shape.size)).astype(np.float32)
        expected = torch.nn.functional.conv2d(
            torch.from_numpy(x), torch.from_numpy(w), padding=shape.kernel // 2
        )
    else:
        w = rng.normal(size=(shape.m, shape.k)).astype(np.float32)
        x = rng.normal(size=(shape.batch, shape.k)).astype(np.float32)
        expected = torch.from_numpy(x) @ torch.from_numpy(w).T
    np.testing.assert_allclose(peer.reference(shape, w, x), expected.numpy(), rtol=1e-3, atol=1e-3)
    arguments = [tvm.runtime.tensor(a) for a in peer.packed(shape, lanes, w, x)]
    y = tvm.runtime.tensor(np.zeros(peer.result_shape(shape, lanes), np.float32))
    tvm.compile(module, target="llvm")["main"](*arguments, y)
    return peer.unpacked(shape, y.numpy()), expected.numpy()


@pytest.mark.parametrize(
    ("kind", "sizes", "lanes"),
    [
        ("Dense", (24, 40, 1), 8),
        ("Dense", (32, 24, 3), 16),
        ("Conv", (16, 32, 5, 3), 8),
        ("Conv", (32, 16, 6, 1), 16),
    ],
)
def test_blocks_compute_what_torch_does(
    peer: Any, shapes: Any, kind: str, sizes: tuple[int, ...], lanes: int
) -> None:
    shape = getattr(shapes, kind)(*sizes)
    module = tvm.IRModule({"main": peer.function(shape, lanes)})
    found, expected = _run(peer, shape, lanes, module)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["avx2", "avx512vnni"])
def test_every_row_has_a_schedule_that_applies(peer: Any, shapes: Any, name: str) -> None:
    records = peer.read_records(next(isa for isa in ISAS if isa.name == name))
    rows = {shape.key: shape for shape in (*shapes.VECTORS, *shapes.BATCHES, *shapes.CONVS)}
    assert records.keys() == rows.keys()
    for key, record in records.items():
        module = peer.scheduled(rows[key], record)
        assert "vectorized" in module.script(), key
        assert structural_equal(module, peer.scheduled(rows[key], record)), key


def test_a_stored_schedule_computes_what_torch_does(peer: Any, shapes: Any) -> None:
    shape = shapes.CONVS[2]
    record = peer.read_records(AVX2)[shape.key]
    found, expected = _run(peer, shape, record["lanes"], peer.scheduled(shape, record))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-2)


def test_records_are_written_as_they_were(peer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored, rows = peer.record_file(AVX2).read_text(), peer.read_records(AVX2)
    monkeypatch.setattr(peer, "FOLDER", tmp_path)
    assert peer.read_records(AVX2) == {}
    peer.write_records(AVX2, dict(reversed(rows.items())))
    assert peer.record_file(AVX2).read_text() == stored


def test_who_has_no_schedule_or_threads_says_so(
    peer: Any, shapes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sd_tvm.bench.contestant import gather

    def why(shape: Any) -> str:
        w, x = np.zeros((shape.m, shape.k), np.float32), np.zeros((shape.batch, shape.k), np.float32)
        found, missing = gather(peer.peer(shape, w, x, AVX2))
        assert found == []
        return str(missing[peer.NAME])

    assert "no schedule for gemv 8x8, avx2" in why(shapes.Dense(8, 8))
    monkeypatch.setenv("TVM_NUM_THREADS", "2")
    assert "2 threads" in why(shapes.Dense(1000, 4096))


@given(st.integers(1, 5000))
def test_block_sizes_divide(peer: Any, m: int) -> None:
    sizes = peer.block_sizes(8 * m)
    assert len(sizes) in (1, 2)
    assert all(n % 8 == 0 and 8 * m % n == 0 for n in sizes)
