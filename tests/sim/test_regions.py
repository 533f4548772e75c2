"""Functions of several layers: records, one row a layer, totals, the configuration in the module."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm_ffi
from sim.kit import CONFIG
from timing.asm import UNIT

from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.isa import Program, encode
from sd_tvm.accelerator.isa.spec import AluOp, Mem
from sd_tvm.accelerator.saved import saved_config, saved_programs
from sd_tvm.accelerator.simulator import Profiler, create_module, layer_records, module_config
from sd_tvm.errors import ConfigError, ProgramError

WORDS = {Mem.INP: 64, Mem.OUT: 64}


def region(rng: random.Random, n_layers: int, *, before: bool = True) -> bytes:
    """Layers that take turns: loads, moves and stores of two results."""
    out = [encode("LOAD", mem=Mem.INP, x=64, y=1, z=1), encode("FENCE")] if before else []
    for _ in range(30):
        out.append(encode("MARK", layer=rng.randrange(n_layers)))
        n, at = rng.randint(1, 8), rng.randrange(8)
        out += [
            encode("LOAD", mem=Mem.INP, dram=at, sram=at, x=n, y=1, z=1, signal0=0),
            encode("ALU", op=AluOp.MOV, a_mem=Mem.INP, a=at, dst_mem=Mem.OUT, dst=at, n0=1, n1=1, n2=n,
                   a_s2=1, dst_s2=1, wait0=0, signal0=1),
            encode("STORE", mem=Mem.OUT, seg=rng.randint(1, 2), dram=at, sram=at, x=n, y=1, z=1, wait0=1),
            encode("FENCE"),
        ]  # fmt: skip
    return Program((*out, encode("FINISH")), (1024,) * 3, WORDS, n_results=2).to_bytes()


def profile(module: Any, name: str, calls: int = 1, config: Any = None, mode: Any = "timed") -> Profiler:
    tensors = [np.zeros(1024, np.uint8) for _ in range(3)]
    with Profiler(config, mode=mode) as profiler:
        for _ in range(calls):
            module[name](*map(tvm_ffi.from_dlpack, tensors))
    return profiler


def names(n: int) -> str:
    return json.dumps([{"name": f"layer{i}", "kind": "x"} for i in range(n)])


def flat(tree: dict[str, Any], prefix: str = "") -> Counter[str]:
    out: Counter[str] = Counter()
    for key, value in tree.items():
        if isinstance(value, dict):
            out.update(flat(value, f"{prefix}{key}/"))
        elif isinstance(value, int):
            out[prefix + key] = value
    return out


@pytest.mark.parametrize("mode", ["functional", "timed"])
@pytest.mark.parametrize("before", [True, False])
def test_rows_add_up_to_the_call(mode: str, before: bool) -> None:
    for seed in range(10):
        module = create_module(
            AcceleratorConfig.load(UNIT), ["f"], [names(7)], [region(random.Random(seed), 6, before=before)]
        )
        profiler = profile(module, "f", mode=mode)
        (record,) = profiler.records
        rows = layer_records(profiler.records)
        assert [row["name"] for row in rows] == [f"layer{i}" for i in range(7)]
        assert [(row["function"], row["index"]) for row in rows] == [("f", i) for i in range(7)]
        assert not any(flat(rows[6]["stats"]).values())  # has no instruction
        total: Counter[str] = Counter()
        for row in rows:
            total.update(flat(row["stats"]))
        call = flat({k: v for k, v in record["stats"].items() if k in rows[0]["stats"]})
        assert total == call
        expected = {"instructions/LOAD", "bytes/dram_read", "bytes/inp_write", "macs"}
        if mode == "timed":
            expected |= {
                "cycles",
                "energy_total_fj",
                "stall/AL.token",
                "waits/AL.LD",
                "events/inp_write_bytes",
            }
        assert total.keys() >= expected
        assert ("cycles" in total) == (mode == "timed")


def test_totals_are_those_of_all_calls() -> None:
    module = create_module(
        AcceleratorConfig.load(UNIT),
        ["f", "g"],
        [names(3)] * 2,
        [region(random.Random(i), 3) for i in (1, 2)],
    )
    profiler = profile(module, "f", calls=3)
    assert profiler.totals["calls"] == 3
    stats = [r["stats"] for r in profiler.records]
    assert profiler.totals["cycles"] == sum(s["cycles"] for s in stats)
    assert profiler.totals["energy_total_fj"] == sum(s["energy_total_fj"] for s in stats)
    assert profiler.totals["instructions"] == sum(sum(s["instructions"].values()) for s in stats)
    assert profiler.totals["dram_read"] == sum(s["bytes"]["dram_read"] for s in stats)
    rows = layer_records(profiler.records)
    assert len(rows) == 9
    for name, total in profiler.totals["energy_fj"].items():
        assert sum(row["stats"]["energy_fj"][name] for row in rows) == total
    assert "cycles" not in profile(module, "g", mode="functional").totals


def test_one_record_is_an_array_of_one() -> None:
    module = create_module(CONFIG, ["f"], ['{"name": "only"}'], [region(random.Random(0), 1)])
    (record,) = profile(module, "f", mode="functional").records
    assert record["layers"] == [{"name": "only"}]


def test_a_marked_layer_must_be_described() -> None:
    module = create_module(CONFIG, ["f"], [names(2)], [region(random.Random(0), 3)])
    with pytest.raises(ProgramError, match=r"f: the program marks layer 2\. Expected: 0\.\.1"):
        layer_records(profile(module, "f", mode="functional").records)


@pytest.mark.parametrize("text", ["", "3", '"a"', "null", "{", "[{]"])
def test_layers_must_be_json_records(text: str) -> None:
    with pytest.raises(ProgramError, match="layers of 'f'"):
        create_module(CONFIG, ["f"], [text], [region(random.Random(0), 1)])


@pytest.mark.parametrize("name", [*AcceleratorConfig.names(), UNIT])
def test_the_module_keeps_its_configuration(name: str | Path) -> None:
    config = AcceleratorConfig.load(name)
    small = Program((encode("FINISH"),), (16,)).to_bytes()
    module = create_module(config, ["f"], ["[]"], [small])
    data = tvm_ffi.get_global_func("sd_accel.save_module")(module)
    again = tvm_ffi.get_global_func("ffi.Module.load_from_bytes.sd_accel")(bytes(data))
    assert module_config(again) == config.to_described_text()
    assert saved_config(again) == config
    assert [(p.name, p.layers, p.program) for p in saved_programs(again)] == [("f", (), small)]


def test_a_configuration_that_cannot_be_read_back() -> None:
    small = Program((encode("FINISH"),), (16,)).to_bytes()
    with pytest.raises(ConfigError, match="does not describe"):
        saved_config(create_module(CONFIG, ["f"], ["[]"], [small]))
    text = AcceleratorConfig.load("edge").to_described_text()
    with pytest.raises(ConfigError, match="'edge' gives other numbers"):
        saved_config(create_module(text.replace("energy_mac_8x8_fj=", "energy_mac_8x8_fj=1"), [], [], []))
    with pytest.raises(ConfigError, match="is no JSON"):
        AcceleratorConfig.from_text(text.replace("{", "", 1))
    with pytest.raises(ConfigError, match="m_slices"):
        AcceleratorConfig.from_text(text.replace('"m_slices":', '"m_slice":', 1))
    with pytest.raises(ProgramError, match="has no configuration"):
        module_config(tvm_ffi.system_lib("nothing_"))
