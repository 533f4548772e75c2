"""Occupancy of the memories: by hand, by counting every cycle, and never more than what there is."""

from __future__ import annotations

import random

import numpy as np
import pytest
from timing.asm import UNIT, alu, load, program, store
from timing.random_programs import generate

from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.isa import Program
from sd_tvm.accelerator.isa.accesses import accesses
from sd_tvm.accelerator.isa.spec import MEMORIES
from sd_tvm.accelerator.timing import time_program
from sd_tvm.errors import ConfigError
from sd_tvm.report.occupancy import Occupancy, occupancy

CONFIG = AcceleratorConfig.load(UNIT)


def by_cycles(code: bytes) -> dict[str, list[int]]:
    """Live bytes at every cycle, word by word."""
    stats = time_program(code, CONFIG, trace=True)
    live = {m.mem: np.zeros(stats["cycles"], dtype=int) for m in MEMORIES}
    size = {m.mem: m.word_bytes for m in MEMORIES}
    born: dict[tuple[int, int], int] = {}
    read: dict[tuple[int, int], int] = {}

    def close(key: tuple[int, int], until: int) -> None:
        if key in born and key in read:
            mem = next(m.mem for m in MEMORIES if m.mem == key[0])
            live[mem][born[key] : min(read[key], until)] += size[mem]
        read.pop(key, None)

    setw = None
    for (name, fields), (issue, end) in zip(Program.from_bytes(code).decoded(), stats["trace"], strict=True):
        setw = fields if name == "SETW" else setw
        reads, writes = accesses(name, fields, setw)
        for access in reads:
            for word in {int(w) for w in access.words}:
                key = (int(access.mem), word)
                if key in born:
                    read[key] = max(read.get(key, 0), end)
        for access in writes:
            for word in {int(w) for w in access.words}:
                close((int(access.mem), word), issue)
                born[int(access.mem), word] = issue
    for key in list(read):
        close(key, stats["cycles"])
    return {mem.name: [int(v) for v in values] for mem, values in live.items()}


def named(found: tuple[Occupancy, ...]) -> dict[str, Occupancy]:
    return {o.memory: o for o in found}


def test_by_hand() -> None:
    """What the ALU writes is live from its issue to the end of the store."""
    code = program([load(4, signals=(3,)), alu(4, "REQ", waits=(3,), signals=(4,)), store(4, waits=(4,))])
    trace = time_program(code, CONFIG, trace=True)["trace"]
    found = named(occupancy([("x", code)], CONFIG, intervals=10**6))
    out = found["OUT"].live_bytes
    assert found["OUT"].step_cycles == 1
    alu_issue, store_end = trace[1][0], trace[2][1]
    assert [i for i, v in enumerate(out) if v] == list(range(alu_issue, store_end))
    assert set(out) == {0, found["OUT"].peak_bytes}


@pytest.mark.parametrize("seed", range(12))
def test_every_cycle(seed: int) -> None:
    code = program(generate(random.Random(seed), 30))
    exact = by_cycles(code)
    for intervals in (10**7, 7):
        for memory, values in exact.items():
            found = named(occupancy([("x", code)], CONFIG, intervals))[memory]
            step = found.step_cycles
            parts = [max(values[i : i + step]) for i in range(0, len(values), step)]
            assert list(found.live_bytes) == parts, memory


def test_calls_follow_each_other() -> None:
    code = program(generate(random.Random(1), 30))
    once = occupancy([("x", code)], CONFIG, 10**7)
    twice = occupancy([("x", code), ("y", code)], CONFIG, 10**7)
    for a, b in zip(once, twice, strict=True):
        assert b.live_bytes == a.live_bytes * 2


def test_a_serial_array_is_refused() -> None:
    with pytest.raises(ConfigError, match="data"):
        occupancy(
            [("x", program(generate(random.Random(1), 30)))], AcceleratorConfig.load("smartexchange-28nm")
        )
