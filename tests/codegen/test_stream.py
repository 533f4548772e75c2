"""Semaphores: whatever the queues' speeds, conflicting instructions run in program order."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sd_tvm.accelerator.codegen.stream import Access, Stream
from sd_tvm.accelerator.isa.program import Program
from sd_tvm.accelerator.isa.spec import BY_NAME, Mem, Queue
from sd_tvm.errors import CodegenError

NAMES = {"LOAD": Queue.LD, "GEMM": Queue.GE, "ALU": Queue.AL, "STORE": Queue.ST}


@dataclass
class Touch:
    name: str
    reads: list[Access] = field(default_factory=list)
    writes: list[Access] = field(default_factory=list)


@st.composite
def accesses(draw: st.DrawFn) -> list[Access]:
    spans = draw(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 3)), max_size=2))
    return [Access(draw(st.sampled_from([Mem.INP, Mem.ACC])), a, a + n) for a, n in spans]


TOUCHES = st.lists(
    st.builds(Touch, st.sampled_from(sorted(NAMES)), accesses(), accesses()), min_size=1, max_size=25
)


def program_of(touches: list[Touch]) -> Program:
    stream = Stream()
    for i, touch in enumerate(touches):
        # The identity travels in a field that every instruction has: its memory address.
        key = {"LOAD": "sram", "STORE": "sram", "GEMM": "acc", "ALU": "dst"}[touch.name]
        stream.emit(touch.name, {key: i}, touch.reads, touch.writes)
    return stream.program((16,), {})


def order_of(program: Program, rng: random.Random) -> list[int]:
    """Indices in an order in which the queues may execute; fails on a deadlock."""
    queues: dict[Queue, list[tuple[str, dict[str, int | None]]]] = {q: [] for q in Queue}
    for name, fields in program.decoded():
        queue = Queue(int(fields["queue"] or 0)) if name == "NOP" else BY_NAME[name].queue
        assert queue is not None
        queues[queue].append((name, fields))
    count = [0] * 32
    out = []
    while any(queues.values()):
        ready = []
        for queue, items in queues.items():
            waits = [items[0][1][w] for w in ("wait0", "wait1")] if items else [None]
            needed = [w for w in waits if w is not None]
            if items and all(count[w] > 0 for w in needed):
                ready.append(queue)
        assert ready, "deadlock"
        name, fields = queues[rng.choice(ready)].pop(0)
        for w in ("wait0", "wait1"):
            if fields[w] is not None:
                count[fields[w]] -= 1
        for s in ("signal0", "signal1"):
            if fields[s] is not None:
                count[fields[s]] += 1
        if name != "NOP":
            key = {"LOAD": "sram", "STORE": "sram", "GEMM": "acc", "ALU": "dst"}[name]
            out.append(int(fields[key] or 0))
    assert not any(count), "a signal that nobody takes"
    return out


def conflict(a: Touch, b: Touch) -> bool:
    def overlap(xs: list[Access], ys: list[Access]) -> bool:
        return any(x.mem is y.mem and x.first < y.last and y.first < x.last for x in xs for y in ys)

    return overlap(a.writes, b.reads + b.writes) or overlap(a.reads, b.writes)


@settings(max_examples=300)
@given(touches=TOUCHES, seed=st.integers(0, 1000))
def test_conflicts_keep_their_order(touches: list[Touch], seed: int) -> None:
    order = order_of(program_of(touches), random.Random(seed))
    at = {index: position for position, index in enumerate(order)}
    for j, later in enumerate(touches):
        for i, earlier in enumerate(touches[:j]):
            if conflict(earlier, later):
                assert at[i] < at[j]


def test_a_double_buffer_overlaps() -> None:
    """With two copies the second load waits for nothing."""
    touches = []
    for tile in range(4):
        copy = Access(Mem.INP, tile % 2 * 8, tile % 2 * 8 + 8)
        touches += [Touch("LOAD", writes=[copy]), Touch("GEMM", reads=[copy])]
    decoded = program_of(touches).decoded()
    loads = [fields for name, fields in decoded if name == "LOAD"]
    assert [f["wait0"] is None for f in loads] == [True, True, False, False]


def test_only_known_instructions() -> None:
    stream = Stream()
    stream.emit("GEMM", {"acc": 1 << 20})
    with pytest.raises(CodegenError, match="field acc"):
        stream.program((16,), {})
