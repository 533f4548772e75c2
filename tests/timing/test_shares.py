"""Shares of layers, instruction classes and causes: integers that add up to the totals."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from typing import Any

from timing.asm import Op, Timer, alu, gemm, load, op, setw, store
from timing.laws import random_machine
from timing.random_programs import generate, queue_of
from timing.stepped import QUEUES


def flat(tree: dict[str, Any], prefix: str = "") -> Counter[str]:
    """Integers of a tree by path."""
    out: Counter[str] = Counter()
    for key, value in tree.items():
        if isinstance(value, dict):
            out.update(flat(value, f"{prefix}{key}/"))
        else:
            out[prefix + key] = value
    return out


def check_shares(out: dict[str, Any]) -> None:
    """Everything that a layer has a share of adds up over the layers; causes and classes add up."""
    layers = out["layer_times"]
    for share in (out, *layers):
        for q in QUEUES:
            assert sum(share["waits"][f"{q}.{p}"] for p in QUEUES) == share["stall"][f"{q}.token"]
            assert share["waits"][f"{q}.{q}"] == 0
        assert sum(share["array_cycles"].values()) == share["class_cycles"]["GEMM"]
        assert sum(share["energy_fj"].values()) == share["energy_total_fj"]
        assert sum(share["class_energy_fj"].values()) == share["energy_total_fj"]
    total: Counter[str] = Counter()
    for layer in layers:
        total.update(flat({k: v for k, v in layer.items() if k != "layer"}))
    kept = {k: v for k, v in out.items() if k in layers[0]}
    assert kept.keys() >= {"cycles", "busy", "stall", "waits", "dram_busy", "array_cycles", "class_cycles"}
    assert total == flat(kept)


def waits_of(ops: list[Op], spans: list[list[int]], stalls: dict[str, int]) -> Counter[str]:
    """Token cycles by the queue whose signal came last, read off a trace."""
    signals: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for o, (_, end) in zip(ops, spans, strict=True):
        for s in o.signals:
            signals[s].append((end, queue_of(o) or ""))
    taken: Counter[int] = Counter()
    cursors: Counter[str] = Counter()
    out: Counter[str] = Counter()
    for o, (issue, end) in zip(ops, spans, strict=True):
        queue = queue_of(o)
        if queue is None:
            continue
        arrivals = []
        for s in o.waits:
            arrivals.append(signals[s][taken[s]])
            taken[s] += 1
        # Unlimited queues and no fetch: an instruction has arrived unless a FENCE holds it back.
        if issue > cursors[queue] and arrivals and max(arrivals)[0] == issue:
            causes = {q for time, q in arrivals if time == issue}
            if len(causes) == 1:
                out[f"{queue}.{causes.pop()}"] += issue - cursors[queue]
        cursors[queue] = max(cursors[queue], issue, end)
    return out


def test_shares_add_up() -> None:
    for seed in range(200):
        rng = random.Random(seed)
        check_shares(Timer(overrides=random_machine(rng))(generate(rng, 60)))


def test_causes_are_those_of_the_trace() -> None:
    seen: Counter[str] = Counter()
    for seed in range(60):
        ops = [o for o in generate(random.Random(seed), 50) if o.name != "FENCE"]
        timer = Timer(overrides={"queue_depth": 0, "fetch": 0})
        out = timer(ops, trace=True)
        expected = waits_of(ops, out["trace"][: len(ops)], out["stall"])
        assert all(out["waits"][name] >= n for name, n in expected.items())
        if expected.total() == sum(out["stall"][f"{q}.token"] for q in QUEUES):
            assert {k: v for k, v in out["waits"].items() if v} == {k: v for k, v in expected.items() if v}
            seen.update(expected.keys())
    assert len(seen) >= 8  # nearly every pair of queues


def test_hand_case() -> None:
    """A layer that waits for its input, one that waits for its sums."""
    ops = [
        op("MARK", layer=3),
        setw(cg=48),
        load(4, signals=(0,)),
        gemm(8, 8, waits=(0,), signals=(1,)),
        op("MARK", layer=1),
        alu(4, waits=(1,), signals=(2,)),
        store(4, waits=(2,)),
    ]
    out = Timer(overrides={"decode_cycles": 1})(ops, trace=True)
    first, second = out["layer_times"]
    assert (first["layer"], second["layer"]) == (3, 1)
    spans = out["trace"]
    assert first["waits"]["GE.LD"] == spans[3][0] - spans[1][1]
    assert second["waits"]["AL.GE"] == spans[5][0]
    assert second["waits"]["ST.AL"] == spans[6][0]
    assert first["dram_busy"]["write"] == second["dram_busy"]["read"] == 0
    assert second["array_cycles"] == dict.fromkeys(("mac", "port", "rebuild", "drain", "fill"), 0)
    assert first["class_energy_fj"]["ALU"] == first["class_energy_fj"]["STORE"] == 0
    assert second["class_energy_fj"]["LOAD"] == second["class_energy_fj"]["GEMM"] == 0
    check_shares(out)
