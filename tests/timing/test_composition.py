"""Queues, semaphores and channels: the event-driven evaluation against a cycle-stepped one, and its laws."""

from __future__ import annotations

import random
from typing import Any

import pytest
from timing import stepped
from timing.asm import Op, Timer, gemm, load, op, setw
from timing.random_programs import generate, tasks

from sd_tvm.errors import DeadlockError

QUEUES = stepped.QUEUES


def machine(timer: Timer) -> dict[str, int]:
    return {k: int(v) for k, v in (line.split("=") for line in timer.text().split())}


def random_machine(rng: random.Random) -> dict[str, int]:
    return {
        "dram_outstanding": rng.choice([1, 1, 2, 3]),
        "queue_depth": rng.choice([0, 1, 2, 8]),
        "fetch": rng.choice([0, 1]),
        "dram_latency_cycles": rng.choice([0, 5, 20]),
        "dram_write_latency_cycles": rng.choice([0, 8]),
        "dram_bytes_per_cycle": rng.choice([8, 16]),
        "decode_cycles": rng.choice([0, 1, 3]),
        "alu_fill_cycles": rng.choice([0, 2]),
    }


def with_finish(ops: list[Op]) -> list[Op]:
    return [*ops, op("FINISH")]


@pytest.mark.parametrize("block", range(10))
def test_event_driven_equals_cycle_stepped(block: int) -> None:
    for seed in range(40 * block, 40 * block + 40):
        rng = random.Random(seed)
        timer = Timer(overrides=random_machine(rng))
        ops = generate(rng, rng.choice([5, 25, 40]))
        m = machine(timer)
        burst = -(-128 // m["dram_bytes_per_cycle"])
        fetch = (m["dram_latency_cycles"], burst) if m["fetch"] else None
        cycles, spans = stepped.run(
            tasks(m, with_finish(ops)), in_flight=m["dram_outstanding"], depth=m["queue_depth"], fetch=fetch
        )
        out = timer(ops, trace=True)
        assert [tuple(s) for s in out["trace"]] == spans, f"seed {seed}"
        assert out["cycles"] == cycles, f"seed {seed}"


def check_sums(out: dict[str, Any]) -> None:
    for q in QUEUES:
        parts = out["busy"][q] + out["stall"][f"{q}.token"] + out["stall"][f"{q}.dispatch"] + out["idle"][q]
        assert parts == out["cycles"]
        assert sum(layer["busy"][q] for layer in out["layer_times"]) == out["busy"][q]
    layers = out["layer_times"]
    assert sum(layer["cycles"] for layer in layers) == out["cycles"]
    assert sum(out["energy_fj"].values()) == out["energy_total_fj"]
    for name, value in out["energy_fj"].items():
        assert sum(layer["energy_fj"][name] for layer in layers) == value
    for name, value in out["events"].items():
        assert sum(layer["events"][name] for layer in layers) == value
    assert sum(layer["energy_total_fj"] for layer in layers) == out["energy_total_fj"]


def test_sums_and_bounds() -> None:
    for seed in range(150):
        rng = random.Random(seed)
        timer = Timer(overrides=random_machine(rng) | {"fetch": 0})
        out = timer(generate(rng, 60))
        check_sums(out)
        lower = max(*out["busy"].values(), *out["dram_busy"].values())
        assert lower <= out["cycles"] <= sum(out["class_cycles"].values())


#: Changes of a machine that make every instruction as fast or faster.
FASTER: dict[str, list[int]] = {
    "dram_bytes_per_cycle": [4, 8, 16, 32, 64],
    "dram_latency_cycles": [40, 20, 3, 0],
    "dram_write_latency_cycles": [30, 8, 0],
    "dram_gap_cycles": [4, 1, 0],
    "dram_efficiency_percent": [50, 85, 100],
    "dram_outstanding": [1, 2, 3, 8],
    "queue_depth": [1, 2, 4, 16],
    "decode_cycles": [3, 1, 0],
    "port_bytes_per_cycle": [8, 16, 64, 256],
    "m_slices": [1, 2, 4, 8, 16],
    "drain_values_per_cycle": [1, 2, 4],
    "fold_mask": [1, 3, 7],
    "lanes_per_line": [1, 2, 4],
    "alu_lanes": [16, 32, 64],
    "alu_acc_ports": [1, 2],
}


@pytest.mark.parametrize("key", sorted(FASTER))
def test_a_faster_part_never_slows_a_program(key: str) -> None:
    for seed in range(25):
        rng = random.Random(seed)
        overrides = random_machine(rng)
        ops = generate(rng, 40)
        times = [Timer(overrides=overrides | {key: value}).cycles(ops) for value in FASTER[key]]
        assert times == sorted(times, reverse=True), f"seed {seed}"


def test_a_shorter_instruction_never_slows_a_program() -> None:
    for seed in range(150):
        rng = random.Random(seed)
        timer = Timer(overrides=random_machine(rng))
        ops = generate(rng, 40)
        loads = [i for i, o in enumerate(ops) if o.name == "LOAD"]
        if not loads:
            continue
        i = rng.choice(loads)
        shorter = Op("LOAD", ops[i].fields | {"x": 1, "y": 1, "pad_r": 0}, ops[i].waits, ops[i].signals)
        assert timer.cycles([*ops[:i], shorter, *ops[i + 1 :]]) <= timer.cycles(ops), f"seed {seed}"


def test_same_program_same_answer() -> None:
    ops = generate(random.Random(1), 50)
    assert Timer()(ops, trace=True) == Timer()(ops, trace=True)


def test_marks_share_the_time() -> None:
    out = Timer()(
        [load(4), op("MARK", layer=5), load(64), op("MARK", layer=2), load(4), op("MARK", layer=5), load(4)]
    )
    assert [(layer["layer"], layer["cycles"]) for layer in out["layer_times"]] == [
        (-1, 29),
        (5, 164 + 29),
        (2, 29),
    ]


def test_fence_separates() -> None:
    ops = [setw(cg=48), load(4), gemm(8, 8)]
    assert Timer().cycles(ops) == 35
    assert Timer().cycles([ops[0], ops[1], op("FENCE"), ops[2]]) == 29 + 33


def test_full_queue_deadlock_is_named() -> None:
    # Functionally fine, but the GEMM that frees the LOADs never gets past two full LD entries.
    ops = [
        setw(cg=48),
        *[load(4, waits=(1,)) for _ in range(3)],
        *[gemm(8, 8, signals=(1,)) for _ in range(3)],
    ]
    assert Timer(overrides={"queue_depth": 3}).cycles(ops) > 0
    with pytest.raises(DeadlockError, match=r"instruction 3 \(LOAD\) cannot be dispatched"):
        Timer(overrides={"queue_depth": 2}).cycles(ops)
