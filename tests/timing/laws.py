"""The ten invariants of the timing and energy model; each checks one random program.

A law takes a random generator and fails by an assertion. `test_laws.py` decides how many programs it sees;
docs/accelerator.md lists them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from sim.reference import KEEP, Form, pack_lanes
from timing import runnable, stepped
from timing.asm import Op, Timer, alu, gemm, load, op, setw, store
from timing.random_programs import generate, tasks

from sd_tvm.accelerator.isa import Program, encode
from sd_tvm.accelerator.isa.spec import Mem, RowKind, WMode
from sd_tvm.accelerator.simulator import run_program

QUEUES = stepped.QUEUES
Law = Callable[[random.Random], None]


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


def fetch_of(m: dict[str, int]) -> tuple[int, int] | None:
    return (m["dram_latency_cycles"], -(-128 // m["dram_bytes_per_cycle"])) if m["fetch"] else None


def critical_path(work: list[stepped.Task]) -> int:
    """Longest chain of durations along semaphores, FENCEs and, where nothing overlaps, queues."""
    ends: list[int] = []
    last = dict.fromkeys(QUEUES, 0)
    signals: dict[int, list[int]] = {}
    fence = 0
    for task in work:
        if task.queue is None:
            fence = max(ends, default=0) if task.fence else fence
            ends.append(fence)
            continue
        start = max(fence, last[task.queue] if task.queue in ("GE", "AL") else 0)
        for s in task.waits:
            start = max(start, signals[s].pop(0))
        end = start + task.front + task.latency + task.data + task.tail
        last[task.queue] = end
        ends.append(end)
        for s in task.signals:
            signals.setdefault(s, []).append(end)
    return max(ends)


def bounds(rng: random.Random) -> None:
    """1: busiest queue, busiest channel and critical path <= cycles <= sum of everything."""
    timer = Timer(overrides=random_machine(rng))
    ops = [*generate(rng, rng.choice([5, 20, 60])), op("FINISH")]
    m = machine(timer)
    out = timer(ops[:-1])
    fetch = fetch_of(m)
    last = stepped.fetch_time(len(ops) - 1, fetch)
    lower = max(*out["busy"].values(), *out["dram_busy"].values(), critical_path(tasks(m, ops)), last)
    assert lower <= out["cycles"] <= sum(out["class_cycles"].values()) + last


def queue_times(rng: random.Random) -> None:
    """2: cycles = busy + waiting for semaphores + nothing to do + idle, for each queue."""
    timer = Timer(overrides=random_machine(rng))
    out = timer(generate(rng, rng.choice([5, 20, 60])))
    for q in QUEUES:
        parts = [out["busy"][q], out["stall"][f"{q}.token"], out["stall"][f"{q}.dispatch"], out["idle"][q]]
        assert sum(parts) == out["cycles"]
        assert sum(layer["busy"][q] for layer in out["layer_times"]) == out["busy"][q]


def exact_sums(rng: random.Random) -> None:
    """3: events, energy and cycles: instructions = layers = components = total."""
    timer = Timer(overrides=random_machine(rng))
    ops = generate(rng, 10)
    out = timer(ops)
    layers = out["layer_times"]
    assert sum(layer["cycles"] for layer in layers) == out["cycles"]
    assert sum(out["energy_fj"].values()) == out["energy_total_fj"]
    assert sum(layer["energy_total_fj"] for layer in layers) == out["energy_total_fj"]
    for name, value in out["energy_fj"].items():
        assert sum(layer["energy_fj"][name] for layer in layers) == value
    alone = dict.fromkeys(out["events"], 0)
    form = ops[0]
    for o in [*ops, op("FINISH")]:
        if o.name == "SETW":
            form = replace(o, waits=(), signals=())
        # Each instruction by itself: a program of it minus one without it.
        before = [form] if o.name == "GEMM" else []
        bare = replace(o, waits=(), signals=())
        with_it = timer([*before, bare] if o.name != "FINISH" else [])["events"]
        without = timer(before)["events"] if o.name != "FINISH" else dict.fromkeys(alone, 0)
        for name in alone:
            alone[name] += with_it[name] - without[name]
    assert alone == out["events"]
    for name, value in out["events"].items():
        assert sum(layer["events"][name] for layer in layers) == value


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
    "lines_per_re": [4, 2, 1],
}


def shorter(rng: random.Random, ops: list[Op]) -> list[Op]:
    """The program with one transfer cut to a word."""
    moves = [i for i, o in enumerate(ops) if o.name in ("LOAD", "STORE")]
    if not moves:
        return ops
    i = rng.choice(moves)
    fields = ops[i].fields | {"x": 1, "y": 1} | ({"pad_r": 0} if ops[i].name == "LOAD" else {})
    return [*ops[:i], replace(ops[i], fields=fields), *ops[i + 1 :]]


def monotone(rng: random.Random) -> None:
    """4: a faster part, more of it, or a shorter instruction never makes a program slower."""
    overrides = random_machine(rng)
    ops = generate(rng, rng.choice([10, 40]))
    key = rng.choice(sorted(FASTER))
    times = [Timer(overrides=overrides | {key: value}).cycles(ops) for value in FASTER[key]]
    assert times == sorted(times, reverse=True), (key, times)
    timer = Timer(overrides=overrides)
    assert timer.cycles(shorter(rng, ops)) <= timer.cycles(ops)


def tile_program(sizes: list[tuple[int, int, int]], buffers: int) -> list[Op]:
    """LOAD, GEMM, ALU, STORE of each tile; the LOAD waits until one of the input buffers is free."""
    ops = [setw(cg=48)]
    for i, (words, pixels, vectors) in enumerate(sizes):
        free = (3,) if i + buffers < len(sizes) else ()
        ops += [
            load(words, waits=(3,) if i >= buffers else (), signals=(0,)),
            gemm(8, pixels, waits=(0,), signals=(1, *free)),
            alu(vectors, waits=(1,), signals=(2,)),
            store(vectors, waits=(2,)),
        ]
    return ops


def buffers(rng: random.Random) -> None:
    """5: one buffer is never faster than two, two never than any number."""
    timer = Timer(overrides=random_machine(rng))
    sizes = [(rng.randint(1, 64), rng.randint(1, 16), rng.randint(1, 16)) for _ in range(rng.randint(2, 8))]
    # The head of a full queue must not block the instruction that frees it.
    timer.overrides["queue_depth"] = 0
    times = [timer.cycles(tile_program(sizes, n)) for n in (1, 2, 3, len(sizes))]
    assert times == sorted(times, reverse=True), times


def output(case: runnable.Runnable, text: str, mode: Any) -> bytes:
    operands = case.fresh()
    run_program(case.program, text, operands, mode)
    return operands[-1].tobytes()


def same_output(rng: random.Random) -> None:
    """6: the result depends on no parameter of time and not on M, C, F."""
    case = runnable.generate(rng)
    expected = output(case, Timer().text(), "functional")
    for _ in range(2):
        assert output(case, Timer(overrides=runnable.any_machine(rng)).text(), "timed") == expected


def event_driven(rng: random.Random) -> None:
    """7: the event-driven evaluation equals the cycle-stepped one, instruction by instruction."""
    timer = Timer(overrides=random_machine(rng))
    ops = generate(rng, rng.choice([5, 25, 40]))
    m = machine(timer)
    cycles, spans = stepped.run(
        tasks(m, [*ops, op("FINISH")]),
        in_flight=m["dram_outstanding"],
        depth=m["queue_depth"],
        fetch=fetch_of(m),
    )
    out = timer(ops, trace=True)
    assert [tuple(s) for s in out["trace"]] == spans
    assert out["cycles"] == cycles


def cycles_of(case: runnable.Runnable, overrides: dict[str, int], zero: bool = False) -> int:
    operands = case.fresh()
    if zero:
        operands[0] = np.zeros_like(operands[0])
    return int(run_program(case.program, Timer(overrides=overrides).text(), operands, "timed")["cycles"])


def sync_domains(rng: random.Random) -> None:
    """8: lane <= line <= array, and at most as many times the cycles of one digit as there are digits."""
    case = runnable.generate(rng)
    serial = runnable.any_machine(rng) | {"mac_serial": 1}
    serial["lanes_per_line"] = serial["f_lanes"]
    times = [cycles_of(case, serial | {"sync_domain": i}) for i in range(3)]
    assert times == sorted(times), times
    # Data without digits still takes a cycle a step; unsigned bytes have up to 5.
    one = cycles_of(case, serial | {"sync_domain": 2, "skip_zero_vectors": 0}, zero=True)
    assert times[2] <= 5 * one


def coded_is_not_faster(rng: random.Random) -> None:
    """9: all rows of one-term codes take at least the time of raw weights that fill the lines.

    Not so where channels do not fill the lines: rows of several taps fill them better. Nor where the port is
    no divisor of what the lines take.
    """
    c, f = rng.choice([4, 8, 16]), rng.choice([2, 4, 8])
    timer = Timer(
        overrides=random_machine(rng)
        | {
            "m_slices": rng.choice([4, 8, 64]),
            "c_lines": c,
            "f_lanes": f,
            "lanes_per_line": rng.choice([d for d in (1, 2, 4, 8) if d <= f]),
            "fold_mask": rng.choice([1, 3, 7]),
            "lines_per_re": rng.choice([1, 2, 4]),
            "port_bytes_per_cycle": c * f // rng.choice([1, 2, 4]) * rng.choice([1, 1, 4]),
            "drain_values_per_cycle": rng.choice([1, 4]),
        }
    )
    cg, (ky, kx) = c * rng.randint(1, 4), rng.choice([(1, 1), (3, 3), (1, 5)])
    product = gemm(rng.randint(1, 70), rng.randint(1, 20), rng.randint(1, 3))
    ones = {f"code{i}": 0x00 for i in range(16)}
    coded = setw(WMode.DENSE, cg=cg, ky=ky, kx=kx, s=rng.randint(1, 5), **ones)
    assert timer.cycles([coded, product]) >= timer.cycles([setw(cg=cg, ky=ky, kx=kx), product])


def coded_arrays(rng: random.Random) -> tuple[WMode, int, np.ndarray, np.ndarray]:
    """N:16 mode, filters, nibbles (m, slots, planes) and bases (m, 16) of a layer of 48 channels."""
    data = np.random.default_rng(rng.getrandbits(32))
    mode, m = rng.choice([WMode.N8, WMode.N4, WMode.N2]), rng.choice([8, 16, 24])
    return (
        mode,
        m,
        data.integers(0, 16, (m, KEEP[mode], 4)).astype(np.uint8),
        data.integers(0, 256, (m, 16)).astype(np.uint8),
    )


def permuted(mode: WMode, m: int, nibbles: np.ndarray, bases: np.ndarray, order: np.ndarray) -> Form:
    slots = -(-KEEP[mode] // 4) * 4
    lanes = np.zeros((-(-m // 8), slots // 4, 4, 32), np.uint8)
    for f, source in enumerate(order):
        for slot in range(KEEP[mode]):
            lanes[f // 8, slot // 4, :, 4 * (f % 8) + slot % 4] = nibbles[source, slot]
    ones = {f"code{i}": (i % 8) << 4 for i in range(16)}
    fields = {"wmode": mode, "rowkind": RowKind.CHANNELS, "s": 3, "cg": 48, "mg": 4096, "n_ky": 1, "n_kx": 1}
    return Form(
        {**ones, **fields, "inp_kx": 1}, np.zeros(0), pack_lanes(lanes), np.ascontiguousarray(bases[order])
    )


def layer(form: Form, x: np.ndarray, m: int) -> tuple[bytes, list[np.ndarray]]:
    """One GEMM of a layer of 48 channels, its sums stored."""
    pixels, tiles = len(x) // 3, -(-m // 16)
    tables = [(Mem.INP, x), (Mem.CODE, form.code), (Mem.BASIS, form.basis)]
    out = [encode("LOAD", mem=mem, seg=i, x=len(t), y=1, z=1) for i, (mem, t) in enumerate(tables)]
    out += [encode("FENCE"), encode("SETW", **form.setw)]
    strides = dict.fromkeys(("inp_oy", "inp_ky", "inp_cb", "acc_oy", "acc_mb"), pixels)
    out.append(encode("GEMM", acc_init=1, n_oy=1, n_ox=pixels, n_m=m, inp_ox=1, **strides))
    sums = tiles * pixels
    out += [encode("FENCE"), encode("STORE", mem=Mem.ACC, seg=3, x=sums, y=1, z=1), encode("FINISH")]
    words = {mem: len(t) for mem, t in tables} | {Mem.ACC: sums}
    operands = [x, form.code, form.basis, np.zeros((sums, 16), np.int32)]
    return Program(tuple(out), tuple(a.nbytes for a in operands), words).to_bytes(), operands


def permutation(rng: random.Random) -> None:
    """10: the order of independent filters changes no cycle (serial: within the filters of one pass)."""
    mode, m, nibbles, bases = coded_arrays(rng)
    data = np.random.default_rng(rng.getrandbits(32))
    x = data.integers(0, 256, (3 * rng.randint(1, 9), 16)).astype(np.uint8)
    serial = rng.randrange(2)
    overrides = runnable.any_machine(rng) | {"mac_serial": serial, "m_slices": rng.choice([4, 8])}
    overrides |= {"lanes_per_line": overrides["f_lanes"], "skip_zero_vectors": serial and rng.randrange(2)}
    text = Timer(overrides=overrides).text()
    block = overrides["m_slices"] if serial else m
    order = np.concatenate(
        [i + data.permutation(min(block, m - i)) for i in range(0, m, block)] or [np.arange(m)]
    )
    results = []
    for chosen in (np.arange(m), order):
        program, operands = layer(permuted(mode, m, nibbles, bases, chosen), x, m)
        stats = run_program(program, text, operands, "timed")
        sums = operands[-1].reshape(-(-m // 16), -1, 16).transpose(0, 2, 1).reshape(-1, len(x) // 3)[:m]
        results.append((stats["cycles"], stats["events"], sums))
    assert results[0][0] == results[1][0]
    assert results[0][1] == results[1][1]
    np.testing.assert_array_equal(results[0][2][order], results[1][2])


LAWS: dict[str, Law] = {
    law.__name__: law
    for law in (
        bounds,
        queue_times,
        exact_sums,
        monotone,
        buffers,
        same_output,
        event_driven,
        sync_domains,
        coded_is_not_faster,
        permutation,
    )
}
