"""Queues, semaphores and channels: single cases (`test_laws.py` has what holds of all programs)."""

from __future__ import annotations

import random

import pytest
from timing.asm import Timer, gemm, load, op, setw
from timing.random_programs import generate

from sd_tvm.errors import DeadlockError


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
