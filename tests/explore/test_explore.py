"""Sweeps: spaces, the Pareto front, one compile for all, any executor, reproducible files."""

from __future__ import annotations

import json
import re
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from cli import tiny
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import sd_tvm
from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.cli.app import app
from sd_tvm.errors import ConfigError
from sd_tvm.explore import Exploration, Space, exploration_to_json, explore, write_exploration
from sd_tvm.explore.area import BLOCKS, area_ge
from sd_tvm.explore.model import Refusal, pareto_front
from sd_tvm.explore.page import render_exploration
from sd_tvm.explore.plot import ticks
from sd_tvm.explore.sweep import evaluate

BASE = "smartexchange-28nm-parallel"
VALUES: dict[str, list[Any]] = {
    "array.m_slices": [16, 64],
    "array.lines_per_re": [0, 8, 5],  # 0: no weights in SD form; 5 does not divide the lines
    "dram.bytes_per_cycle": [4, 16],
    "sram.inp_kb": [512, 64],
}
SPACE = Space(schema_version=1, base=BASE, values=VALUES)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with tiny.sd."""
    folder = tmp_path_factory.mktemp("explore")
    sd_tvm.compress(*tiny.model(), calibration=tiny.data()).save(folder / "tiny.sd")
    return folder


@pytest.fixture(scope="module")
def found(files: Path) -> Exploration:
    return explore(files / "tiny.sd", SPACE)


def test_every_candidate_is_a_point_or_refused(found: Exploration) -> None:
    assert SPACE.size == 24
    assert sorted(r.index for r in (*found.points, *found.refused)) == list(range(24))
    assert len(found.points) == 8
    reasons = {r.values["array.lines_per_re"]: r.reason for r in found.refused}
    assert "rebuild engine" in reasons[0]
    assert "lines_per_re must be 0 or divide c_lines" in reasons[5]
    expected = [v for v in SPACE.assignments() if v["array.lines_per_re"] == 8]
    for point, values in zip(found.points, expected, strict=True):
        assert point.values == values
        assert point.area_ge == area_ge(SPACE.configuration(values))


def test_a_point_is_what_the_profiler_says(files: Path, found: Exploration) -> None:
    """Same cycles and energy as running the network, compiled for the smallest memories, on that machine."""
    point = next(p for p in found.points if tuple(p.values.values()) == (64, 8, 16, 64))
    config = AcceleratorConfig.load(BASE)
    small = config.model_copy(update={"sram": config.sram.model_copy(update={"inp_kb": 64})})
    assert found.compiled_for == small.sram.model_dump()
    path = files / "small.yaml"
    path.write_text(json.dumps(small.model_dump(mode="json")))
    report = sd_tvm.profile(files / "tiny.sd", config=path).report
    assert point.cycles == report.sums()["cycles"]
    assert point.energy_fj == report.sums()["energy_total_fj"]
    assert point.time_ps == point.cycles * 1000
    assert found.calls == len(report.layers)
    assert found.instructions == report.sums()["instructions"]


def test_no_layer_is_left_out_without_a_word(files: Path, found: Exploration) -> None:
    assert not any("CPU" in note for note in found.notes)
    space = Space(schema_version=1, base="dense-int8", values={"clock_mhz": [100, 200]})
    dense = explore(files / "tiny.sd", space)
    assert "these layers stay on the CPU: conv" in dense.notes[-1]
    assert dense.calls < found.calls
    one, two = dense.points
    assert (one.cycles, one.energy_fj, one.time_ps) == (two.cycles, two.energy_fj, 2 * two.time_ps)


def test_more_bandwidth_is_never_slower(found: Exploration) -> None:
    by_values = {tuple(p.values.values()): p for p in found.points}
    for (slices, engines, width, kb), point in by_values.items():
        assert point.cycles >= by_values[slices, engines, 16, kb].cycles
        assert point.dram_bytes == by_values[slices, engines, 16, kb].dram_bytes
        assert width in (4, 16)


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_executors_give_the_same_bytes(files: Path, found: Exploration, kind: str) -> None:
    make: Any = (
        ThreadPoolExecutor(2) if kind == "thread" else ProcessPoolExecutor(1, mp_context=get_context("spawn"))
    )
    seen: list[tuple[str, int, int]] = []
    with make as executor:
        again = explore(files / "tiny.sd", SPACE, executor=executor, progress=lambda *step: seen.append(step))
    assert exploration_to_json(again) == exploration_to_json(found)
    assert seen[-1] == ("time", 24, 24)


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), max_size=30))
def test_pareto_front_by_definition(values: list[tuple[int, int, int]]) -> None:
    def dominates(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
        return a != b and all(x <= y for x, y in zip(a, b, strict=True))

    expected = [i for i, v in enumerate(values) if not any(dominates(w, v) for w in values)]
    assert pareto_front(values) == expected


def test_front(found: Exploration) -> None:
    assert 0 < len(found.front) < len(found.points)
    energies = [p.energy_fj for p in found.front]
    assert energies == sorted(energies)


def test_area_by_hand() -> None:
    area = area_ge(AcceleratorConfig.load(BASE))  # 1024 lines of one multiplier, 128 engines, 1121 KiB
    assert area["array"] == 1024 * (1150 + 1000)
    assert area["rebuild"] == 128 * 2200 + 1024 * 285
    assert area["alu"] == 64 * 9000
    assert area["sram"] == (512 + 256 + 32 + 16 + 16 + 1 + 256 + 32) * 1024 * 4
    dense = area_ge(AcceleratorConfig.load("dense-int8"))
    assert dense["rebuild"] == 0
    assert dense["array"] == 1024 * (850 + 1000)
    assert all(block.ge > 0 and block.block for block in BLOCKS.values())


def test_files_are_reproducible_and_stand_alone(found: Exploration, tmp_path: Path) -> None:
    one, two = (write_exploration(found, tmp_path / name) for name in "ab")
    assert one.read_bytes() == two.read_bytes()
    page = one.read_text("utf-8")
    assert not re.search(r"url\(|<script|@import|\b(src|href)=", page)
    assert page.count("<circle") == 3 * len(found.points)
    assert "estimate" in page
    assert "divide c_lines" in page
    data = json.loads((tmp_path / "a" / "explore.json").read_text("utf-8"))
    assert next(iter(data)) == "schema_version"
    assert data["front"] == [p.index for p in found.front]
    assert {p["index"] for p in data["points"] if p["on_front"]} == set(data["front"])
    assert all(p["area_total_ge"] == sum(p["area_ge"].values()) for p in data["points"])


def test_a_page_of_one_point_and_of_none(found: Exploration) -> None:
    assert "<circle" in render_exploration(replace(found, points=found.points[:1]))
    assert "<circle" not in render_exploration(replace(found, points=()))


@given(st.floats(1, 1e15), st.floats(1.05, 1e6))
def test_ticks_lie_between(low: float, factor: float) -> None:
    found = ticks(low, low * factor)
    assert 2 <= len(found) <= 12
    assert found == sorted(found)
    assert all(low <= t <= low * factor for t in found)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"values": {"array.slices": [1]}}, "no such key"),
    "fixed key": ({"values": {"name": ["a"]}}, "no such key"),
    "repeated": ({"values": {"array.m_slices": [16, 16]}}, "each value once"),
    "no values": ({"values": {"array.m_slices": []}}, "at least 1"),
    "nothing": ({"values": {}}, "at least 1"),
    "serial base": ({"base": "smartexchange-28nm"}, "bit-serial"),
    "serial value": ({"values": {"array.mac": ["parallel", "serial"]}}, "bit-serial"),
    "base": ({"base": "none"}, "unknown accelerator configuration"),
    "version": ({"schema_version": 2}, "schema_version"),
    "too many": (
        {"values": {k: list(range(1, 60)) for k in ("clock_mhz", "alu.fill_cycles", "sram.inp_kb")}},
        "at most",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_spaces(name: str) -> None:
    change, message = BAD[name]
    data = {"schema_version": 1, "base": BASE, "values": {"array.m_slices": [16]}} | change
    with pytest.raises(ConfigError, match=message):
        Space.from_dict(data)


def test_no_valid_candidate() -> None:
    space = Space(schema_version=1, base=BASE, values={"array.lines_per_re": [5, 7]})
    with pytest.raises(ConfigError, match="none of the 2 candidates"):
        explore("never read", space)


def test_a_bound_that_programs_were_not_compiled_for_is_refused() -> None:
    space = Space(schema_version=1, base=BASE, values={"array.rebuilt_bits": [10]})
    (point,) = evaluate(space, [], [(0, {"array.rebuilt_bits": 10})])
    assert isinstance(point, Refusal)
    assert "compiled without that bound" in point.reason


def test_base_file_is_relative_to_the_space(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(json.dumps(AcceleratorConfig.load("edge").model_dump(mode="json")))
    (tmp_path / "space.yaml").write_text("schema_version: 1\nbase: base.yaml\nvalues:\n  clock_mhz: [100]\n")
    space = Space.load(tmp_path / "space.yaml")
    assert space.configuration({"clock_mhz": 100}).array == AcceleratorConfig.load("edge").array


def test_command(files: Path, tmp_path: Path, found: Exploration) -> None:
    lines = [f"  {key}: {values}" for key, values in VALUES.items()]
    (tmp_path / "space.yaml").write_text("\n".join(["schema_version: 1", f"base: {BASE}", "values:", *lines]))
    args = ["explore", str(files / "tiny.sd"), "--space", str(tmp_path / "space.yaml"), "--jobs", "1"]
    result = CliRunner().invoke(app, [*args, "-o", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert f"{len(found.front)} of 8 configurations are on the front; 16 candidates refused" in result.stdout
    assert (tmp_path / "out" / "explore.html").is_file()
    printed = CliRunner().invoke(app, [*args, "--json"]).stdout
    assert printed == (tmp_path / "out" / "explore.json").read_text("utf-8") == exploration_to_json(found)
    (tmp_path / "space.yaml").write_text("schema_version: 1\n")
    bad = CliRunner().invoke(app, args)
    assert bad.exit_code == 2
    assert "space.yaml" in bad.stderr
