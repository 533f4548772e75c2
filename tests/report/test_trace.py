"""Trace of the queues: every cycle of every queue accounted for, and a file that viewers accept."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from timing.asm import UNIT, alu, load, op, program, store
from timing.random_programs import generate

from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.isa import Program
from sd_tvm.accelerator.timing import time_program
from sd_tvm.errors import ConfigError, DeadlockError
from sd_tvm.report import trace_to_json, write_trace
from sd_tvm.report.trace import slices

UNIT_CONFIG = AcceleratorConfig.load(UNIT)
CONFIGS = [UNIT_CONFIG, AcceleratorConfig.load(), AcceleratorConfig.load("edge")]
HAND = program(
    [
        load(4, signals=(3,)),
        alu(4, "REQ", waits=(3,), signals=(4,)),
        store(4, waits=(4,)),
        op("MARK", layer=1),
        op("FENCE"),
        load(2),
    ]
)


def variants(config: AcceleratorConfig) -> list[AcceleratorConfig]:
    """The configuration with other instruction supplies."""
    controls = [
        config.control.model_copy(update={"queue_depth": depth, "fetch": fetch})
        for depth in (0, 1, 3)
        for fetch in (True, False)
    ]
    return [config, *(config.model_copy(update={"control": c}) for c in controls)]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
def test_slices_add_up_to_the_statistics(config: AcceleratorConfig) -> None:
    timed = 0
    for seed in range(30):
        code = program(generate(random.Random(seed), 40))
        for variant in variants(config):
            try:
                stats = time_program(code, variant, trace=True)
            except DeadlockError:  # the queue is too short for the program's semaphores
                continue
            timed += 1
            found: Counter[tuple[str, str]] = Counter()
            ends: dict[str, int] = {}
            for piece in slices(Program.from_bytes(code).decoded(), stats["trace"], variant):
                queue = piece.queue.name
                assert ends.get(queue, 0) <= piece.start <= piece.end <= stats["cycles"]
                ends[queue] = piece.end
                found[queue, piece.kind] += piece.end - piece.start
            for queue, busy in stats["busy"].items():
                assert found[queue, "busy"] == busy
                assert found[queue, "token"] == stats["stall"][f"{queue}.token"]
                assert found[queue, "dispatch"] == stats["stall"][f"{queue}.dispatch"]
    assert timed > 100


def events(text: str) -> list[dict[str, Any]]:
    found = json.loads(text)["traceEvents"]
    assert isinstance(found, list)
    return found


def test_events() -> None:
    found = events(trace_to_json([("first", HAND), ("second", HAND), ("first", HAND)], UNIT_CONFIG))
    tracks = {e["tid"]: e["args"]["name"] for e in found if e["name"] == "thread_name"}
    assert [name.split()[0] for name in tracks.values()] == ["layers", "LD", "GE", "AL", "ST"]
    cycles = time_program(HAND, UNIT_CONFIG)["cycles"]
    layers = [e for e in found if e["cat" if "cat" in e else "ph"] == "layer"]
    assert [(e["name"], e["ts"], e["dur"]) for e in layers] == [
        (name, i * cycles / 1000, cycles / 1000) for i, name in enumerate(("first", "second", "first"))
    ]
    spans = [e for e in found if e["ph"] == "X" and e["cat"] != "layer"]
    second = [e for e in spans if e["args"]["layer"] == "second"]
    assert [e["name"] for e in second if not e["name"].startswith("wait")] == ["LOAD", "ALU", "STORE", "LOAD"]
    assert {"wait: s3", "wait: s4"} <= {e["name"] for e in second}
    assert "op=REQ" in next(e for e in second if e["name"] == "ALU")["args"]["asm"]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
def test_slices_of_a_track_do_not_overlap(config: AcceleratorConfig) -> None:
    found = events(trace_to_json([("a", HAND), ("b", HAND)], config))
    last: dict[int, int] = {}
    for event in (e for e in found if e["ph"] == "X"):
        start, length = round(event["ts"] * 1000), round(event["dur"] * 1000)
        assert last.get(event["tid"], 0) <= start
        last[event["tid"]] = start + length


def test_file_is_reproducible(tmp_path: Path) -> None:
    one = write_trace(tmp_path / "a.json", [("ü", HAND)], UNIT_CONFIG)
    two = write_trace(tmp_path / "b.json", [("ü", HAND)], UNIT_CONFIG)
    assert one.read_bytes() == two.read_bytes()
    assert json.loads(one.read_text("utf-8"))["otherData"]["clock_mhz"] == UNIT_CONFIG.clock_mhz


def test_a_serial_array_is_refused() -> None:
    with pytest.raises(ConfigError, match="bit-serial"):
        trace_to_json([("a", HAND)], AcceleratorConfig.load("smartexchange-28nm"))
