"""From an instruction back to its layer, TensorIR function, Relax bindings and the model's own nodes."""

from __future__ import annotations

import json
from pathlib import Path

from timing.asm import UNIT, alu, load, op, program, store

from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.isa import Program
from sd_tvm.accelerator.isa.disasm import assemble
from sd_tvm.accelerator.timing import time_program
from sd_tvm.report import Call, Origin, trace_to_json, write_listing
from sd_tvm.report.listing import listing, sections

CONFIG = AcceleratorConfig.load(UNIT)
ORIGINS = (
    Origin("stem", "conv_stem", ("lv", "lv1"), ("features.0", "features.1")),
    Origin("head", "conv_head", ("lv2",), ("features.2",)),
)
#: Two layers that alternate, as strips of rows do.
CODE = program(
    [
        op("MARK", layer=0),
        load(4, signals=(3,)),
        alu(4, "REQ", waits=(3,), signals=(4,)),
        op("MARK", layer=1),
        store(4, waits=(4,)),
        op("MARK", layer=0),
        load(2),
        op("MARK", layer=1),
        load(2),
    ]
)
CALL = Call("region", CODE, ORIGINS)


def test_listing_assembles_to_the_same_program(tmp_path: Path) -> None:
    path = write_listing(tmp_path / "all.asm", [CALL])
    assert assemble(path.read_text()) == Program.from_bytes(CODE).instructions


def test_listing_names_the_source_of_every_run() -> None:
    text = list(listing([CALL]))
    stem = "; layer stem; tir conv_stem; relax lv, lv1; model features.0, features.1"
    head = "; layer head; tir conv_head; relax lv2; model features.2"
    assert [line for line in text if line in (stem, head)] == [stem, head, stem, head]


def test_sections_count_each_layer() -> None:
    found = sections([CALL, ("bare", CODE)], shown=2)
    assert [(s.call, s.layer, s.total) for s in found] == [(0, 0, 5), (0, 1, 5), (1, 0, 5), (1, 1, 5)]
    assert found[0].counts == {"MARK": 2, "LOAD": 2, "ALU": 1}
    assert [line.split()[:2] for line in found[0].lines] == [["0", "MARK"], ["1", "LOAD"]]


def test_trace_carries_the_chain() -> None:
    events = json.loads(trace_to_json([CALL], CONFIG))["traceEvents"]
    busy = [e for e in events if e.get("cat") in ("LOAD", "ALU", "STORE")]
    assert {e["args"]["index"]: e["args"]["tir"] for e in busy} == {
        1: "conv_stem",
        2: "conv_stem",
        4: "conv_head",
        6: "conv_stem",
        8: "conv_head",
    }
    assert busy[0]["args"]["relax"] == "lv, lv1"
    assert busy[0]["args"]["model"] == "features.0, features.1"


def test_layer_track_is_each_layers_share_of_the_cycles() -> None:
    events = json.loads(trace_to_json([CALL], CONFIG))["traceEvents"]
    shares: dict[str, int] = {}
    for event in events:
        if event.get("cat") == "layer":
            name = event["args"]["layer"]
            shares[name] = shares.get(name, 0) + event["args"]["cycles"]
    times = time_program(CODE, CONFIG)["layer_times"]
    said = {("stem", "head")[t["layer"]]: t["cycles"] for t in times if t["layer"] >= 0}
    assert shares == {name: cycles for name, cycles in said.items() if cycles}


def test_calls_without_origins_show_their_name() -> None:
    events = json.loads(trace_to_json([("bare", CODE)], CONFIG))["traceEvents"]
    assert {e["args"]["layer"] for e in events if e["ph"] == "X"} == {"bare"}
