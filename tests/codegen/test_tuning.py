"""Tuning and the file of tiles: deterministic, reused without a search, checked, never worse."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sd_tvm.accelerator.codegen.region import Linked, compile_region
from sd_tvm.accelerator.codegen.tune import Tuning
from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.timing import time_program
from sd_tvm.errors import ConfigError, FormatError, ScheduleError
from sd_tvm.layers import ConvLayer
from sd_tvm.schedules.accel import tiles as tiles_module
from sd_tvm.schedules.accel.fusion import Node, Region, Value
from sd_tvm.schedules.accel.placement import IN_DRAM
from sd_tvm.schedules.accel.search import cycle_price
from sd_tvm.schedules.accel.tiles import TileDatabase, rank_tiles

LAYERS = (
    ConvLayer("wide", 1, 32, (20, 20), 144, (1, 1)),
    ConvLayer("depthwise", 1, 144, (20, 20), 144, (3, 3), padding=(1, 1, 1, 1), groups=144),
    ConvLayer("narrow", 1, 144, (20, 20), 40, (1, 1)),
)


@pytest.fixture(scope="module")
def config() -> AcceleratorConfig:
    return AcceleratorConfig.load("edge")


def compiled(config: AcceleratorConfig, tuning: Tuning | None) -> Linked:
    values = [Value((1, 2, 20, 20), "x")]
    values += [Value((1, -(-x.out_channels // 16), 20, 20), x.name) for x in LAYERS]
    values[-1] = replace(values[-1], leaves=True)
    nodes = tuple(Node(layer, (i,), 2, i + 1) for i, layer in enumerate(LAYERS))
    sizes = []
    for layer in LAYERS:
        blocks, (_, cg, kh, kw) = -(-layer.out_channels // 16), layer.weight_shape
        sizes += [blocks * cg * kh * kw * 16, blocks * 256]
    numbers = [[2 * i, 2 * i + 1] for i in range(len(LAYERS))]
    region = Region(nodes, tuple(values))
    return compile_region(region, numbers, len(sizes), sizes, config, tuning=tuning)[0]


def objective(linked: Linked, config: AcceleratorConfig) -> int:
    stats = time_program(linked.program.to_bytes(), config)
    return int(stats["energy_total_fj"]) + int(stats["cycles"]) * cycle_price(config)


def test_tuned_tiles_are_no_worse_and_come_from_the_file_afterwards(
    config: AcceleratorConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, seen = tmp_path / "tiles.json", []
    tuning = Tuning(TileDatabase(file), 3, lambda done, total: seen.append((done, total)))
    tuned = compiled(config, tuning)
    tuning.tiles.save()
    assert objective(tuned, config) <= objective(compiled(config, None), config)
    assert seen[-1][0] == seen[-1][1] == len(tuning.tiles)
    again = Tuning(TileDatabase(), 3)
    assert compiled(config, again).program.to_bytes() == tuned.program.to_bytes()
    other = tmp_path / "other.json"
    again.tiles.path = other
    again.tiles.save()
    assert other.read_bytes() == file.read_bytes()

    def no_search(*_: object) -> None:
        raise AssertionError("searched")

    monkeypatch.setattr("sd_tvm.accelerator.codegen.tune.rank_tiles", no_search)
    assert compiled(config, Tuning(TileDatabase(file), 3)).program.to_bytes() == tuned.program.to_bytes()
    assert compiled(config, Tuning(TileDatabase(file))).program.to_bytes() == tuned.program.to_bytes()


def test_keys_say_everything_but_names(config: AcceleratorConfig) -> None:
    layer = LAYERS[0]
    key = tiles_module.key_of(layer, config, IN_DRAM)
    renamed = config.model_copy(update={"name": "other", "description": "another"})
    assert tiles_module.key_of(replace(layer, name="other"), renamed, IN_DRAM) == key
    larger = config.model_copy(update={"sram": config.sram.model_copy(update={"acc_kb": 128})})
    assert tiles_module.key_of(layer, larger, IN_DRAM) != key
    assert tiles_module.key_of(layer, config, replace(IN_DRAM, output=True)) != key
    assert tiles_module.key_of(replace(layer, out_channels=160), config, IN_DRAM) != key


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema_version": 9, "tiles": {}}', '{"tiles": 3}', "\xff"]
)
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "tiles.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(FormatError, match="not a file of tiles"):
        TileDatabase(file)


@pytest.mark.parametrize(
    "change",
    [
        {"mb": 0},
        {"mb": 1000},
        {"oy": "7"},
        {"oy": True},
        {"ox": 3.5},
        {"resident": 1},
        {"more": 1},
        {"overlap": 3},
    ],
)
def test_tiles_of_a_file_are_checked(
    config: AcceleratorConfig, tmp_path: Path, change: dict[str, object]
) -> None:
    layer, database = LAYERS[0], TileDatabase(tmp_path / "tiles.json")
    database.put(layer, config, IN_DRAM, rank_tiles(layer, config, IN_DRAM)[0][0])
    database.save()
    data = json.loads((tmp_path / "tiles.json").read_text())
    for entry in data["tiles"].values():
        entry["tile"].update(change)
    (tmp_path / "tiles.json").write_text(json.dumps(data))
    with pytest.raises(ScheduleError, match="from a file"):
        TileDatabase(tmp_path / "tiles.json").get(layer, config, IN_DRAM)


def test_time_of_serial_arrays_depends_on_data() -> None:
    with pytest.raises(ConfigError, match="serial"):
        compiled(AcceleratorConfig.load("smartexchange-28nm"), Tuning(TileDatabase(), 2))
