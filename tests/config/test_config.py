"""Accelerator configurations and energy tables: what is accepted, what is refused and how it is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from timing.asm import gemm, load, program, setw

from sd_tvm._yaml import dump_yaml, load_yaml
from sd_tvm.accelerator import DEFAULT_CONFIG
from sd_tvm.accelerator.config import AcceleratorConfig, EnergyTable
from sd_tvm.accelerator.config.energy import REQUIRED, TABLES
from sd_tvm.accelerator.config.model import CONFIGS, addressable_words
from sd_tvm.accelerator.isa.spec import MEMORIES, Mem
from sd_tvm.accelerator.timing import time_program
from sd_tvm.errors import ConfigError, ConfigMismatchError
from sd_tvm.explore.area import area_ge


def plain(name: str = DEFAULT_CONFIG, folder: Path = CONFIGS) -> dict[str, Any]:
    path = folder / f"{name}.yaml"
    data: dict[str, Any] = load_yaml(path.read_text(), source=str(path), error=ConfigError)
    return data


def write(tmp_path: Path, data: Any) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(dump_yaml(data))
    return path


def changed(tmp_path: Path, key: str, value: Any) -> Path:
    data = plain()
    *parents, last = key.split(".")
    node = data
    for parent in parents:
        node = node[parent]
    node[last] = value
    return write(tmp_path, data)


@pytest.mark.parametrize("name", AcceleratorConfig.names())
def test_shipped_configurations(name: str) -> None:
    config = AcceleratorConfig.load(name)
    assert config.name == name
    assert AcceleratorConfig.load(CONFIGS / f"{name}.yaml") == config
    # The simulator accepts the text, and times a program with it unless its time needs data.
    ops = program([load(4), setw(cg=16), gemm(16, 8)])
    if config.array.mac == "serial":
        with pytest.raises(ConfigError, match="depend on the data"):
            time_program(ops, config)
    else:
        assert time_program(ops, config)["cycles"] > 0


def test_names_and_default() -> None:
    assert AcceleratorConfig.names() == [
        "dense-int8",
        "dense-int8-equal-area",
        "edge",
        "smartexchange-28nm",
        "smartexchange-28nm-narrow",
        "smartexchange-28nm-parallel",
    ]
    assert AcceleratorConfig.load() == AcceleratorConfig.load(DEFAULT_CONFIG)


def test_narrow_multipliers() -> None:
    wide, narrow = AcceleratorConfig.load(), AcceleratorConfig.load("smartexchange-28nm-narrow")
    assert wide.array.rebuilt_bits is None
    assert narrow.model_copy(update={"name": wide.name, "description": wide.description}) == (
        wide.model_copy(update={"array": narrow.array})
    )
    before, after = wide.energy_fj(), narrow.energy_fj()
    assert {name for name in before if before[name] != after[name]} == {"mac_8x13", "shift_add"}
    # By hand from the table: .232 pJ x 10/13; .038 of .055 pJ is an adder of 16 bits, now of 10.
    assert (after["mac_8x13"], after["shift_add"]) == (178, 41)
    assert area_ge(narrow)["array"] < area_ge(wide)["array"]


@pytest.mark.parametrize("change", [{"lines_per_re": 0}, {"mac": "serial", "lanes_per_line": 8}])
def test_narrow_multipliers_go_with_a_parallel_array_that_rebuilds(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    data = plain("smartexchange-28nm-narrow")
    data["array"] |= change
    with pytest.raises(ConfigError, match="rebuilt_bits goes with"):
        AcceleratorConfig.load(write(tmp_path, data))


def test_equal_resources_of_the_baseline() -> None:
    sd, dense = AcceleratorConfig.load(), AcceleratorConfig.load("dense-int8")
    assert sd.peak_macs_per_cycle == dense.peak_macs_per_cycle == 1024
    assert (sd.sram, sd.dram, sd.clock_mhz, sd.alu) == (dense.sram, dense.dram, dense.clock_mhz, dense.alu)
    assert sd.rebuilds
    assert not dense.rebuilds


def test_equal_area_of_the_other_baseline() -> None:
    """Same gates but for 1 %, same memory in the same banks, twice the multipliers of equal resources."""
    sd, dense = AcceleratorConfig.load(), AcceleratorConfig.load("dense-int8-equal-area")
    ours, theirs = area_ge(sd), area_ge(dense)
    assert ours["array"] + ours["rebuild"] == pytest.approx(theirs["array"] + theirs["rebuild"], rel=0.01)
    assert (ours["sram"], ours["alu"]) == (theirs["sram"], theirs["alu"])
    assert dense.peak_macs_per_cycle == 2 * AcceleratorConfig.load("dense-int8").peak_macs_per_cycle
    assert not dense.rebuilds
    assert (sd.dram, sd.clock_mhz, sd.alu, sd.energy) == (
        dense.dram,
        dense.clock_mhz,
        dense.alu,
        dense.energy,
    )
    assert sd.energy_fj() == dense.energy_fj() | {k: sd.energy_fj()[k] for k in ("basis_byte", "idx_byte")}


def test_buffer_words() -> None:
    config = AcceleratorConfig.load()
    assert config.buffer_words(Mem.INP) == 512 * 1024 // 16
    assert config.buffer_words(Mem.ACC) == 256 * 1024 // 64
    for memory in MEMORIES:
        assert config.buffer_words(memory.mem) <= addressable_words(memory.mem)


def test_text_is_sorted_integers() -> None:
    lines = AcceleratorConfig.load().to_text().splitlines()
    assert lines == sorted(lines, key=lambda line: line.split("=")[0])
    for line in lines:
        key, value = line.split("=")
        assert str(int(value)) == value, key


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("array.m_slices", 0, ["array.m_slices = 0", "greater than or equal to 1"]),
        ("array.m_slices", "64", ["array.m_slices = '64'", "valid integer"]),
        ("array.m_slices", 64.5, ["array.m_slices = 64.5", "valid integer"]),
        ("array.mac", "analog", ["array.mac = 'analog'", "parallel", "serial"]),
        ("array.fold", [1, 3], ["array.fold.1 = 3"]),
        ("array.fold", [2], ["array = ", "fold must contain 1"]),
        ("array.lines_per_re", 5, ["lines_per_re must be 0 or divide c_lines"]),
        ("array.lanes_per_line", 16, ["lanes_per_line must be at most f_lanes"]),
        ("array.skip_zero_vectors", True, ["mac: serial only"]),
        ("array.turbo", 1, ["array.turbo = 1", "not permitted"]),
        ("alu.lanes", 24, ["alu.lanes = 24", "multiple of 16"]),
        ("sram.inp_kb", 2048, ["inp_kb = 2048", "at most 1024"]),
        ("sram.basis_kb", 65, ["basis_kb = 65", "at most 64"]),
        ("banks.inp", 0, ["banks.inp = 0"]),
        ("dram.burst_bytes", 48, ["power of two"]),
        ("dram.efficiency_percent", 101, ["dram.efficiency_percent = 101", "less than or equal to 100"]),
        ("clock_mhz", None, ["clock_mhz = None"]),
        ("schema_version", 2, ["schema_version = 2"]),
        ("name", "My Chip", ["name = 'My Chip'"]),
        ("energy.table", "45nm", ["unknown energy table '45nm'", "28nm-smartexchange"]),
    ],
)
def test_refusals_name_key_value_range_and_file(
    tmp_path: Path, key: str, value: Any, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as error:
        AcceleratorConfig.load(changed(tmp_path, key, value))
    expected = words if key == "energy.table" else [*words, "mine.yaml"]
    for word in expected:
        assert word in str(error.value)


def test_missing_key(tmp_path: Path) -> None:
    data = plain()
    del data["dram"]["latency_cycles"]
    with pytest.raises(ConfigError, match=r"dram\.latency_cycles is missing"):
        AcceleratorConfig.load(write(tmp_path, data))


def test_duplicate_key(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text((CONFIGS / f"{DEFAULT_CONFIG}.yaml").read_text() + "clock_mhz: 2000\n")
    with pytest.raises(ConfigError, match=r"twice\.yaml, line \d+.*duplicate key 'clock_mhz'"):
        AcceleratorConfig.load(path)


@pytest.mark.parametrize("name", ["nope", "../config/edge", "missing.yaml", ""])
def test_unknown_configuration(name: str) -> None:
    with pytest.raises(ConfigError):
        AcceleratorConfig.load(name)


def test_not_a_mapping(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a mapping"):
        AcceleratorConfig.load(write(tmp_path, [1, 2]))


def test_frozen() -> None:
    with pytest.raises(ValidationError):
        AcceleratorConfig.load().clock_mhz = 5  # type: ignore[misc]


# Energy tables.


def table(tmp_path: Path, entry: str, **fields: Any) -> Path:
    data = plain("28nm-smartexchange", TABLES)
    data["entries"][entry] |= fields
    return write(tmp_path, data)


def test_shipped_table_has_sources_and_bands() -> None:
    entries = EnergyTable.load("28nm-smartexchange").entries
    assert set(entries) == set(REQUIRED)
    for name, entry in entries.items():
        assert entry.low < entry.value < entry.high, name
        assert len(entry.source) > 20, name


@pytest.mark.parametrize("source", ["", "   ", "?"])
def test_entry_without_source_is_refused(tmp_path: Path, source: str) -> None:
    with pytest.raises(ConfigError, match="needs a source"):
        EnergyTable.load(table(tmp_path, "dram", source=source))


def test_entry_without_source_key_is_refused(tmp_path: Path) -> None:
    data = plain("28nm-smartexchange", TABLES)
    del data["entries"]["dram"]["source"]
    path = write(tmp_path, data)
    with pytest.raises(ConfigError, match=r"entries\.dram\.source is missing"):
        EnergyTable.load(path)
    # And through a configuration that names the table by path.
    (tmp_path / "chip").mkdir()
    config = changed(tmp_path / "chip", "energy.table", str(path))
    with pytest.raises(ConfigError, match=r"entries\.dram\.source is missing"):
        AcceleratorConfig.load(config)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"low": 20.0}, "low <= value <= high"),
        ({"unit": "pJ/byte"}, "dram is in pJ/byte, not pJ/bit"),
        ({"value": -1.0}, "greater than or equal to 0"),
        ({"node_nm": 7}, "no scaling factor for 7 nm"),
        ({"grade": "certain"}, "grade"),
    ],
)
def test_bad_entries(tmp_path: Path, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        EnergyTable.load(table(tmp_path, "dram", **fields))


def test_incomplete_table(tmp_path: Path) -> None:
    data = plain("28nm-smartexchange", TABLES)
    data["entries"]["quantum"] = data["entries"].pop("picker")
    with pytest.raises(ConfigError, match=r"missing \['picker'\], unknown \['quantum'\]"):
        EnergyTable.load(write(tmp_path, data))


def test_conversion_to_femtojoule() -> None:
    prices = AcceleratorConfig.load().energy_fj()
    assert prices["dram_byte"] == 12500 * 8
    assert prices["mac_8x8"] == 143
    assert prices["acc_byte"] == 340  # 1.36 pJ for 4 bytes
    assert prices["code_byte"] == 1360  # banks of the reference size
    assert prices["inp_byte"] == round(1360 * 2**0.35)  # 4 KB banks
    assert prices["add32"] == 51  # .1 pJ at 45 nm times .51
    assert prices["fifo_byte"] == round(9 * 8 * 0.59)  # register at 40 nm
    assert all(isinstance(v, int) for v in prices.values())


def test_corners_order_prices() -> None:
    config = AcceleratorConfig.load()
    groups = ("dram", "sram", "logic")
    low = config.energy_fj(dict.fromkeys(groups, "low"))
    high = config.energy_fj(dict.fromkeys(groups, "high"))
    nominal = config.energy_fj()
    assert all(low[k] <= nominal[k] <= high[k] for k in nominal)
    only = config.energy_fj({"dram": "high"})
    assert {k for k in nominal if only[k] != nominal[k]} == {"dram_byte"}
    assert config.to_text({"dram": "high"}) != config.to_text()


# The simulator trusts no text.


def texts() -> dict[str, str]:
    text = AcceleratorConfig.load().to_text()
    lines = text.splitlines()
    return {
        "missing": "".join(f"{line}\n" for line in lines if not line.startswith("m_slices")),
        "repeated": text + "m_slices=64\n",
        "unknown": text + "turbo=1\n",
        "unknown_energy": text + "energy_magic_fj=1\n",
        "range": text.replace("m_slices=64", "m_slices=0"),
        "negative": text.replace("energy_dram_byte_fj=", "energy_dram_byte_fj=-"),
        "text": text.replace("m_slices=64", "m_slices=many"),
        "huge": text.replace("m_slices=64", "m_slices=99999999999999999999"),
        "space": text.replace("m_slices=64", "m_slices= 64"),
        "version": text.replace("config_version=1", "config_version=2"),
        "inconsistent": text.replace("lanes_per_line=1", "lanes_per_line=16"),
        "fold": text.replace("fold_mask=7", "fold_mask=6"),
        "burst": text.replace("dram_burst_bytes=256", "dram_burst_bytes=200"),
        "no_price": "".join(f"{line}\n" for line in lines if not line.startswith("energy_psum")),
        "binary": "\x00\x01\x02",
    }


@pytest.mark.parametrize("name", sorted(texts()))
def test_simulator_refuses_a_bad_text(name: str) -> None:
    with pytest.raises(ConfigError):
        time_program(program([load(4)]), texts()[name])


def test_sd_weights_need_rebuild_engines() -> None:
    from sd_tvm.accelerator.isa.spec import WMode

    ops = program([setw(WMode.N4, cg=48), gemm(16, 8)])
    assert time_program(ops, AcceleratorConfig.load())["cycles"] > 0
    with pytest.raises(ConfigMismatchError, match=r"instruction 1 \(GEMM\).*no rebuild engine"):
        time_program(ops, AcceleratorConfig.load("dense-int8"))


def test_functional_run_needs_only_sizes() -> None:
    sizes = "".join(f"{m.config_key}=16\n" for m in MEMORIES)
    with pytest.raises(ConfigError):
        time_program(program([load(4)]), sizes)
