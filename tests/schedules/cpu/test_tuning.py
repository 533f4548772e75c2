"""Kernels chosen by time: kept in a file, used again, never another result."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import kernelcases as cases
import layergen
import numpy as np
import pytest

from sd_tvm._tvm import tvm
from sd_tvm.errors import FormatError, OptionError
from sd_tvm.layers import ConvLayer
from sd_tvm.numerics import golden
from sd_tvm.schedules.cpu import tuning
from sd_tvm.schedules.cpu.isa import AVX2, available
from sd_tvm.schedules.cpu.table import choose
from sd_tvm.schedules.cpu.tuning import KernelDatabase, KernelTuning, candidates
from sd_tvm.weights.tensor import WeightForm

LAYER = ConvLayer("layer", 1, 32, (7, 7), 32, (3, 3), padding=(1,) * 4, form=WeightForm("4:16"), n_bases=32)
HOST = tvm.target.Target({"kind": "llvm", "mcpu": tvm.get_global_func("tvm.codegen.llvm.GetHostCPUName")()})
ISAS = available(HOST)


@pytest.fixture
def operands() -> list[np.ndarray]:
    return layergen.operands_of(LAYER, 1)


def test_candidates() -> None:
    """The estimate's choice is the first, none twice, and each computes the layer exactly."""
    found = candidates(LAYER, ISAS)
    assert found[0] == choose(LAYER, ISAS)[0]
    assert len(set(found)) == len(found) > len({k.operation for k in found})
    small = replace(LAYER, in_hw=(3, 4), out_channels=16, n_bases=16)
    ops = layergen.operands_of(small, 3)
    want = layergen.valid_lanes(small, golden.run_layer(small, ops))
    for kernel in candidates(small, ISAS):
        np.testing.assert_array_equal(cases.run(kernel, small, ops), want, err_msg=kernel.name)


def test_found_once_then_read(
    tmp_path: Path, operands: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kernels.json"
    first = KernelTuning(path, tune=4)
    kernel = first.kernel(LAYER, ISAS, HOST, operands[1:])
    assert kernel in candidates(LAYER, ISAS)[:4]
    first.database.save()
    again = KernelTuning(path)
    monkeypatch.setattr(tuning, "_seconds", None)  # nothing may be timed
    assert again.kernel(replace(LAYER, name="other"), ISAS, HOST, operands[1:]) == kernel
    assert again.kernel(replace(LAYER, in_zero_point=3), ISAS, HOST, operands[1:]) is None
    text = path.read_text()
    again.database.changed = True
    again.database.save()
    assert path.read_text() == text


def test_fastest_is_taken(operands: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    tried = candidates(LAYER, ISAS)[:3]
    for times, best in (((1.0, 0.99, 2.0), 0), ((1.0, 0.9, 0.5), 2)):
        clock = dict(zip(tried, times, strict=True))
        monkeypatch.setattr(tuning, "_seconds", lambda k, *_, clock=clock: clock[k])
        assert KernelTuning(tune=3).kernel(LAYER, ISAS, HOST, operands[1:]) == tried[best]


def test_another_processor(operands: list[np.ndarray]) -> None:
    target = tvm.target.Target({"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a76"})
    assert KernelTuning().kernel(LAYER, available(target), target, operands[1:]) is None
    with pytest.raises(OptionError, match="cortex-a76 cannot be timed"):
        KernelTuning(tune=2).kernel(LAYER, available(target), target, operands[1:])
    least = tvm.target.Target(AVX2.target)  # runs here, on whatever this machine is
    assert KernelTuning(tune=1).kernel(LAYER, [AVX2], least, operands[1:]) is not None


@pytest.mark.parametrize(
    "text", ["", "[]", '{"kernels": 3}', '{"schema_version": 9, "kernels": {}}', '{"kernels": {}}']
)
def test_files_of_other_kinds(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kernels.json"
    path.write_text(text)
    with pytest.raises(FormatError, match="tune again"):
        KernelDatabase(path)


@pytest.mark.parametrize("change", [{"tile": 1000}, {"tile": "x"}, {"operation": "gemv"}, {"isa": None}])
def test_a_kernel_that_is_none(
    tmp_path: Path, operands: list[np.ndarray], change: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "_seconds", lambda *_: 1.0)
    path = tmp_path / "kernels.json"
    written = KernelTuning(path, tune=1)
    written.kernel(LAYER, ISAS, HOST, operands[1:])
    written.database.save()
    data = json.loads(path.read_text())
    (entry,) = data["kernels"].values()
    entry.update(change)
    path.write_text(json.dumps(data))
    with pytest.raises(FormatError, match="layer"):
        KernelTuning(path).kernel(LAYER, ISAS, HOST, operands[1:])
