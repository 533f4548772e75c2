"""Rows from simulator statistics."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.errors import FormatError
from sd_tvm.layers import AddLayer, ConvLayer, Layer, PoolLayer, RequantLayer
from sd_tvm.report import Report
from sd_tvm.report.build import (
    config_facts,
    energy_constants,
    layer_form,
    layer_kind,
    layer_row,
    layer_shape,
    package_versions,
    timing_metrics,
)
from sd_tvm.report.groups import GROUP_OF
from sd_tvm.report.text import layer_tables, metric_table
from sd_tvm.weights.tensor import WeightForm

CASES: list[tuple[Layer, str, str, str]] = [
    (
        ConvLayer("a", 1, 3, (224, 224), 32, (3, 3), (2, 2), (0, 0, 1, 1)),
        "conv",
        "3x224x224 -> 32x112x112, 3x3/2",
        "int8",
    ),
    (
        ConvLayer("b", 1, 32, (14, 14), 32, (5, 5), padding=(2, 2, 2, 2), groups=32),
        "depthwise",
        "32x14x14 -> 32x14x14, 5x5",
        "int8",
    ),
    (
        ConvLayer("c", 1, 64, (7, 7), 24, (1, 1), form=WeightForm(), n_bases=24),
        "pointwise",
        "64x7x7 -> 24x7x7, 1x1",
        "two-term 16:16 filter",
    ),
    (
        ConvLayer("d", 2, 1280, (1, 1), 1000, (1, 1), form=WeightForm(basis_kind="codebook"), n_bases=16),
        "dense",
        "2x1280 -> 1000",
        "two-term 16:16 codebook 16",
    ),
    (
        ConvLayer("e", 1, 8, (9, 9), 8, (3, 3), (1, 2), groups=2, dilation=(2, 2)),
        "conv",
        "8x9x9 -> 8x5x3, 3x3/1x2, 2 groups, dilation 2x2",
        "int8",
    ),
    (AddLayer("f", 1, 24, (56, 56)), "add", "24x56x56", ""),
    (PoolLayer("g", "avg", 1, 1280, (7, 7), (7, 7)), "avg pool", "1280x7x7 -> 1280x1x1, 7x7", ""),
    (RequantLayer("h", 1, 16, (4, 4)), "requant", "16x4x4", ""),
]


def stats(cycles: int | None = 100) -> dict[str, Any]:
    out: dict[str, Any] = {
        "mode": "functional", "instructions": {"LOAD": 3, "GEMM": 1}, "macs": 1000, "macs_dense": 4000,
        "bytes": {"dram_read": 64, "dram_write": 32},
    }  # fmt: skip
    if cycles is not None:
        out |= {
            "mode": "timed", "cycles": cycles, "busy": {"ld": 5}, "stall": {"ge": 6},
            "energy_fj": {"dram": 70, "array": 30}, "energy_total_fj": 100,
        }  # fmt: skip
    return out


@pytest.mark.parametrize(("layer", "kind", "shape", "form"), CASES, ids=lambda c: getattr(c, "name", None))
def test_layer_text(layer: Layer, kind: str, shape: str, form: str) -> None:
    assert (layer_kind(layer), layer_shape(layer), layer_form(layer)) == (kind, shape, form)


def test_row_timed() -> None:
    row = layer_row("x", CASES[2][0], stats(), 1024)
    assert (row.weights, row.cycles, row.instructions, row.macs_dense) == (64 * 24, 100, 4, 4000)
    assert row.energy_total_fj == 100
    assert row.utilisation == 1000 / (100 * 1024)
    assert row.bits_per_weight is not None
    assert 4 < row.bits_per_weight < 10


def test_row_functional_has_no_time() -> None:
    row = layer_row("x", CASES[5][0], stats(None), 1024)
    assert row.cycles is row.energy_fj is row.peak_macs is row.utilisation is row.bits_per_weight is None
    assert timing_metrics([row], AcceleratorConfig.load()) == ()


def test_wrong_energy_is_refused() -> None:
    with pytest.raises(FormatError, match="add up"):
        layer_row("x", CASES[5][0], stats() | {"energy_total_fj": 101}, 1024)


def test_metrics() -> None:
    config = AcceleratorConfig.load()
    rows = [layer_row("x", CASES[2][0], stats(c), config.peak_macs_per_cycle) for c in (100, 900)]
    values = {m.name: m.value for m in timing_metrics(rows, config)}
    assert values["cycles"] == 1000
    assert values[f"time at {config.clock_mhz} MHz"] == pytest.approx(1000 / config.clock_mhz / 1e3)
    assert values["energy"] == pytest.approx(200e-9)


@pytest.mark.parametrize("name", AcceleratorConfig.names())
def test_config_and_constants(name: str) -> None:
    config = AcceleratorConfig.load(name)
    assert config_facts(config)["array.m_slices"] == config.array.m_slices
    assert all(c.source and c.unit and c.grade for c in energy_constants(config))
    assert len(energy_constants(config)) == len(config.energy_table().entries)


@pytest.mark.parametrize("width", [80, 240])
@pytest.mark.parametrize("cycles", [100, None])
def test_text_tables(cycles: int | None, width: int) -> None:
    rows = tuple(layer_row(layer.name, layer, stats(cycles), 1024) for layer, *_ in CASES)
    console = Console(width=240, record=True, file=io.StringIO())
    report = Report("title", layers=rows, metrics=timing_metrics(rows, AcceleratorConfig.load()))
    console.print(*layer_tables(report, width), metric_table(report))
    text = console.export_text()
    assert "32x112x112" in text
    assert ("cycles" in text) == (cycles is not None)
    assert len(layer_tables(report, width)) == (1 if width == 240 or cycles is None else 2)


def test_versions() -> None:
    assert package_versions()["apache-tvm"] == "0.27.0.post1"
    assert "sd-tvm" in package_versions()


def test_groups_lose_nothing() -> None:
    energy = {"dram_weights": 5, "sram_inp": 7, "sram_out": 11, "something new": 13, "mac": 0}
    row = layer_row("x", CASES[5][0], stats() | {"energy_fj": energy, "energy_total_fj": 36}, 1)
    report = Report("t", layers=(row, row))
    assert report.group_sums() == {"DRAM weights": 10, "SRAM": 36, "something new": 26}
    assert sum(report.group_sums().values()) == report.sums()["energy_total_fj"]


def test_every_component_of_the_simulator_has_a_group() -> None:
    from sd_tvm.accelerator.isa import Program, encode
    from sd_tvm.accelerator.timing import time_program

    program = Program((encode("FINISH"),), (16,)).to_bytes()
    assert set(time_program(program, AcceleratorConfig.load())["energy_fj"]) == set(GROUP_OF)
