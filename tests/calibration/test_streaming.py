"""Calibration of many examples: bounded memory, and the same result wherever values are kept."""

from __future__ import annotations

import errno
import os
import tracemalloc
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from calibration.streaming import SHAPE, Drawn, blocks
from hypothesis import given
from hypothesis import strategies as st
from passes.nets import Net

from sd_tvm._tvm import relax
from sd_tvm.calibration import parallel, sweep
from sd_tvm.calibration.data import InputSpec
from sd_tvm.calibration.examples import Examples, Part
from sd_tvm.calibration.sequential import SequentialFit, fit_in_order
from sd_tvm.calibration.spill import SECTIONS, ChunkStore
from sd_tvm.calibration.stops import _COPY, _READ, _WRITE, Limits, choose_stops
from sd_tvm.errors import CalibrationError
from sd_tvm.recipe import Recipe
from sd_tvm.relay_passes._rewrite import bindings_of, constant
from sd_tvm.relay_passes.calibrate import Calibrate, calibration

SPECS = [InputSpec("x", SHAPE, "float32")]


def contents(fit: SequentialFit) -> list[bytes]:
    """Everything that a fit decides."""
    found = [repr(sorted(fit.errors.items())).encode()]
    for name, weight in sorted(fit.weights.items()):
        found += [name.encode(), weight.scale.tobytes(), weight.integer().tobytes()]
    for _, value in bindings_of(fit.module["main"]):
        arrays = [constant(a) for a in getattr(value, "args", [])]
        found += [a.tobytes() for a in arrays if a is not None]
    return found


# --- the result ---


@pytest.mark.parametrize(
    ("memory", "disk", "cores", "places"),
    [
        (0, 0.5, 2, {None, "disk"}),
        (0, 0.0, 2, {None}),
        (800_000, 0.0, 1, {None, "memory"}),
        (2**30, 0.5, 1, {None, "memory"}),
    ],
)
def test_bytes_do_not_depend_on_memory_disk_and_cores(
    memory: int, disk: float, cores: int, places: set[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mod, recipe = blocks(), Recipe.named("codebook64")
    wanted = fit_in_order(mod, Drawn(20), recipe)
    kept: list[Any] = []
    real = sweep.choose_stops

    def choose(*args: Any) -> Any:
        kept.extend(real(*args))
        return kept

    monkeypatch.setattr(sweep, "choose_stops", choose)
    monkeypatch.setattr(sweep, "_DISK_SHARE", disk)
    monkeypatch.setattr(parallel, "workers", lambda: cores)
    found = fit_in_order(mod, Drawn(20), recipe, memory=memory)
    assert contents(found) == contents(wanted)
    assert set(kept) == places


def test_many_examples_in_little_memory() -> None:
    """500 examples whose values take 20 MB at the widest place."""
    net = Net((1, 3, 16, 16))
    x = net.relu(net.conv(net.x, 40, 3, "stem", padding=1), "r")
    x = net.call(relax.op.mean(net.conv(x, 8, 1, "point"), axis=[2, 3]), "mean")
    mod = net.module(net.dense(x, 4, "dense"))
    data = Drawn(500, (1, 3, 16, 16))

    def peak(memory: int) -> float:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        fit_in_order(mod, data, Recipe.named("int8"), memory=memory)
        return (tracemalloc.get_traced_memory()[1] - before) / 2**20

    tracemalloc.start()
    try:
        assert peak(2**20) < 10
        data.count = 400
        assert peak(2**30) > 10  # the bound means something: this keeps the values in memory
    finally:
        tracemalloc.stop()


def test_ranges_do_not_depend_on_the_order_of_examples() -> None:
    mod, data = blocks(), list(Drawn(7))
    data[2] = data[2] * np.float32(37)
    assert calibration(Calibrate(data)(mod)) == calibration(Calibrate(data[::-1])(mod))


# --- where values are kept ---


@given(st.data())
def test_stops_are_the_best(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 5))
    costs = data.draw(st.lists(st.floats(0, 0.1), min_size=n, max_size=n))
    nbytes = data.draw(st.lists(st.integers(1, 10**7), min_size=n, max_size=n))
    limits = Limits(10**7, data.draw(st.sampled_from([0, 5 * 10**7, 10**9])))

    def place(i: int) -> str | None:
        total = 10 * nbytes[i]
        return "memory" if total <= limits.memory else "disk" if total <= limits.disk else None

    def time(kept: tuple[bool, ...]) -> float:
        total, start, read = 0.0, 0, 0.0
        for i in range(n):
            total += read + sum(costs[start : i + 1])
            if kept[i]:
                slow = place(i) == "disk"
                total += nbytes[i] * (_WRITE if slow else _COPY)
                start, read = i + 1, nbytes[i] * (_READ if slow else _COPY)
        return total

    found = choose_stops(costs, nbytes, 10, limits)
    assert all(p is None or p == place(i) for i, p in enumerate(found))
    possible = [k for k in product([False, True], repeat=n) if all(place(i) for i in range(n) if k[i])]
    assert time(tuple(p is not None for p in found)) == pytest.approx(min(map(time, possible)), abs=1e-12)


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_store_gives_back_what_was_put(on_disk: bool) -> None:
    rng = np.random.default_rng(0)
    store = ChunkStore(70, on_disk=on_disk)
    values = [
        [rng.normal(size=(2, 3)), np.array(i, np.int8), np.zeros((0, 4), np.float32), rng.random(7) > 0.5]
        for i in range(70)
    ]
    for i in reversed(range(70)):
        store.put(i, values[i])
    for i, wanted in enumerate(values):
        for a, b in zip(store.get(i), wanted, strict=True):
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            np.testing.assert_array_equal(a, b)
        store.free(i)
    assert len(store._files) == 0
    assert SECTIONS < 70


def test_a_full_disk_is_the_users_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(CalibrationError, match=r"No space left.*TMPDIR"):
        fit_in_order(blocks(), Drawn(3), Recipe.named("int8"), memory=0)


# --- forms of data ---


class Items:
    """Like a torch data set: no iterator of its own."""

    def __init__(self, data: list[Any]) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        return self.data[index]


def test_forms_of_data_give_the_same_examples(tmp_path: Path) -> None:
    data = list(Drawn(5))
    array = np.concatenate(data)
    np.save(tmp_path / "all.npy", array)
    folder = tmp_path / "folder"
    folder.mkdir()
    for i, x in enumerate(data):
        if i % 2:
            np.save(folder / f"{i}.npy", x)
        else:
            np.savez(folder / f"{i}.npz", x=x)
    forms = [
        array,
        data,
        Drawn(5),
        iter(data),
        (x for x in data),
        Items(data),
        torch.from_numpy(array),
        np.load(tmp_path / "all.npy", mmap_mode="r"),
        tmp_path / "all.npy",
        str(tmp_path / "all.npy"),
        folder,
    ]
    digests = set()
    for form in forms:
        examples = Examples(form)
        assert Examples.of(examples) is examples
        assert examples.count(SPECS) == 5
        for _ in range(2):  # a stream too
            for (found,), wanted in zip(examples.batches(SPECS), data, strict=True):
                np.testing.assert_array_equal(found, wanted)
        digests.add(examples.digest(SPECS))
    assert len(digests) == 1
    assert Examples(data[::-1]).digest(SPECS) not in digests


@given(st.integers(1, 9), st.sets(st.integers(0, 8)))
def test_a_part_has_its_examples_at_every_reading(count: int, kept: set[int]) -> None:
    whole = [np.full(SHAPE, i, np.float32) for i in range(count)]
    part = Part(Examples(whole), kept.__contains__)
    wanted = [i for i in range(count) if i in kept]
    for _ in range(2):
        assert [int(x.flat[0]) for (x,) in part.batches(SPECS)] == wanted
    assert part.count(SPECS) == len(wanted)
    if wanted:
        assert part.digest(SPECS) == Examples([whole[i] for i in wanted]).digest(SPECS)


class Changing:
    """Other examples at every reading."""

    def __init__(self, *readings: list[Any]) -> None:
        self.readings = list(readings)

    def __iter__(self) -> Any:
        return iter(self.readings.pop(0))


def test_examples_that_change_are_refused() -> None:
    a, b = list(Drawn(2)), list(Drawn(3))
    for first, second, match in (
        (a, [a[0], b[2]], "calibration example 1 is not what it was"),
        (a, b, "more calibration examples than the 2"),
        (b, a, "2 calibration examples, 3 when"),
    ):
        examples = Examples(Changing(first, second))
        list(examples.batches(SPECS))
        with pytest.raises(CalibrationError, match=match):
            list(examples.batches(SPECS))


def test_a_length_that_is_wrong_is_refused() -> None:
    data = Drawn(4)
    examples = Examples(data)
    assert examples.count(SPECS) == 4
    data.count = 3
    with pytest.raises(CalibrationError, match="3 calibration examples in data of length 4"):
        list(examples.batches(SPECS))


@pytest.mark.parametrize("data", [3, {"x": 1}, b"x", "nowhere", Path("nowhere.npy"), Path()])
def test_what_is_no_data(data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CalibrationError, match="What to do"):
        Examples(data)


def test_a_file_that_is_no_array(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(b"nothing")
    with pytest.raises(CalibrationError, match="cannot read"):
        Examples(tmp_path / "a.npy")
