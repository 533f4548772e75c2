"""The four queues over time, as trace-event JSON for Perfetto (ui.perfetto.dev) and ``chrome://tracing``.

One track a queue, one slice an instruction with its line of assembly and the way back: its layer, the
TensorIR function that it was generated from, the Relax bindings and the model's own nodes. What keeps a queue
waiting is a slice too. A track above shows whose instructions move the end of the program, which is a layer's
share of the cycles. Times are cycles: **one nanosecond of the trace is one cycle**, whatever the clock, so
that numbers are exact.

Transfers of one queue may overlap (the next one is issued before the last has ended), slices of one track may
not: a slice starts where the one before it ended, which is how the timing model counts a queue as busy.
``issue`` and ``end`` of each slice are the true ones. The slices and waits of a queue therefore add up
exactly to the ``busy`` and ``stall`` cycles of the statistics.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.isa.disasm import format_instruction
from sd_tvm.accelerator.isa.program import Program
from sd_tvm.accelerator.isa.spec import BY_NAME, INSTRUCTION_BYTES, Queue
from sd_tvm.accelerator.timing import time_program
from sd_tvm.errors import ConfigError
from sd_tvm.report.calls import Call, as_call, layer_ids, lines

_FETCH_INSTRUCTIONS = 4  # of one burst
_LAYER_TRACK = 0
_TITLES = {
    Queue.LD: "LD (DRAM to chip)",
    Queue.GE: "GE (rebuild and array)",
    Queue.AL: "AL (vector unit)",
    Queue.ST: "ST (chip to DRAM)",
}
#: Colours of chrome://tracing; Perfetto chooses its own by name.
_COLOURS = {"token": "bad", "dispatch": "grey"}

Event = dict[str, Any]


@dataclass(frozen=True)
class Slice:
    """A piece of a queue's time, in cycles of its program.

    Attributes
    ----------
    queue
        The queue.
    start, end
        Cycles; slices of a queue do not overlap.
    kind
        ``busy``, ``token`` (waits for a semaphore) or ``dispatch`` (the instruction had not arrived).
    index
        Instruction that runs or waits.
    """

    queue: Queue
    start: int
    end: int
    kind: str
    index: int


def slices(
    decoded: Sequence[tuple[str, dict[str, int | None]]],
    spans: Sequence[Sequence[int]],
    config: AcceleratorConfig,
) -> Iterator[Slice]:
    """Busy and waiting slices of each queue, in program order.

    Parameters
    ----------
    decoded
        Name and fields of each instruction.
    spans
        (issue, end) of each, as :func:`sd_tvm.accelerator.timing.time_program` gives them.
    config
        The configuration that was timed; it says when instructions arrive.
    """
    depth, dispatch = config.control.queue_depth, 0
    burst = -(-_FETCH_INSTRUCTIONS * INSTRUCTION_BYTES // config.dram.bytes_per_cycle)
    issues: dict[Queue, list[int]] = {q: [] for q in Queue}
    cursors = dict.fromkeys(Queue, 0)
    for index, ((name, fields), (issue, end)) in enumerate(zip(decoded, spans, strict=True)):
        queue = _queue(name, fields)
        if queue is None:
            dispatch = issue
            continue
        if config.control.fetch:
            arrived = config.dram.latency_cycles + (index // _FETCH_INSTRUCTIONS + 1) * burst
            dispatch = max(dispatch, arrived)
        left = issues[queue]
        if depth and len(left) >= depth:
            dispatch = max(dispatch, left[len(left) - depth])
        left.append(issue)
        cursor = cursors[queue]
        if issue > cursor:
            here = min(max(dispatch, cursor), issue)
            if here > cursor:
                yield Slice(queue, cursor, here, "dispatch", index)
            if issue > here:
                yield Slice(queue, here, issue, "token", index)
        start = max(cursor, issue)
        yield Slice(queue, start, max(start, end), "busy", index)
        cursors[queue] = max(start, end)


def check_traceable(config: AcceleratorConfig) -> None:
    """Refuse configurations whose programs cannot be traced.

    Raises
    ------
    ConfigError
        If the array is bit-serial: its time depends on data, which programs do not hold.
    """
    if config.array.mac == "serial":
        raise ConfigError(
            f"a trace on {config.name!r}: its array is bit-serial, so its time depends on data",
            expected="a configuration with mac: parallel",
            fix="trace on its parallel sibling",
        )


def trace_to_json(calls: Iterable[tuple[str, bytes] | Call], config: AcceleratorConfig) -> str:
    """Trace of layer calls, one after the other.

    Parameters
    ----------
    calls
        Name, program and (if known) origins of each call, in order of execution.
    config
        Configuration to time them on.

    Returns
    -------
    str
        JSON object with ``traceEvents``, one event a line.

    Raises
    ------
    ConfigError
        If the array is bit-serial: its time depends on data, which programs do not hold.
    ProgramError, ConfigMismatchError
        As :func:`sd_tvm.accelerator.timing.time_program`.
    """
    check_traceable(config)
    lines = [_json(event) for event in _events(calls, config)]
    about = {
        "config": config.name,
        "clock_mhz": config.clock_mhz,
        "time": "one nanosecond of this trace is one cycle",
    }
    head = f'{{"displayTimeUnit":"ns","otherData":{_json(about)},"traceEvents":[\n'
    return head + ",\n".join(lines) + "\n]}\n"


def write_trace(
    path: str | Path, calls: Iterable[tuple[str, bytes] | Call], config: AcceleratorConfig
) -> Path:
    """Write :func:`trace_to_json`; returns the path.

    Raises
    ------
    ConfigError, ProgramError, ConfigMismatchError
        As :func:`trace_to_json`.
    """
    target = Path(path)
    target.write_text(trace_to_json(calls, config), encoding="utf-8", newline="")
    return target


def _events(calls: Iterable[tuple[str, bytes] | Call], config: AcceleratorConfig) -> Iterator[Event]:
    yield _meta("process_name", _LAYER_TRACK, name=f"{config.name}, 1 ns = 1 cycle")
    yield _track(_LAYER_TRACK, "layers")
    for queue in Queue:
        yield _track(_id(queue), _TITLES[queue])
    now = 0
    timed: dict[bytes, _Timed] = {}
    for entry in calls:
        call = as_call(entry)
        if call.program not in timed:
            timed[call.program] = _timed(call.program, config)
        found = timed[call.program]
        chains = {i: call.origin(i).as_text() for i in set(found.layers)}
        if len(call.origins) > 1:
            yield _slice(_LAYER_TRACK, now, found.cycles, call.name, "region", {"cycles": found.cycles})
        for start, end, chain in _merged(found.shares, chains):
            args = chain | {"cycles": end - start}
            yield _slice(_LAYER_TRACK, now + start, end - start, chain["layer"], "layer", args)
        for piece, event in found.body:
            yield _slice(
                _id(piece.queue),
                now + piece.start,
                piece.end - piece.start,
                **event | {"args": chains[found.layers[piece.index]] | event["args"]},
            )
        now += found.cycles


@dataclass(frozen=True)
class _Timed:
    """A program's trace: its slices, layer of each instruction, and (start, end, layer) of the shares."""

    cycles: int
    layers: list[int]
    shares: list[tuple[int, int, int]]
    body: list[tuple[Slice, Event]]


def _shares(layers: Sequence[int], spans: Sequence[Sequence[int]]) -> list[tuple[int, int, int]]:
    """Pieces of time by the layer whose instructions move the end of the program; they do not overlap."""
    out: list[tuple[int, int, int]] = []
    now = 0
    for layer, (_, end) in zip(layers, spans, strict=True):
        if end > now:
            out.append((now, end, layer))
            now = end
    return out


def _merged(
    shares: Iterable[tuple[int, int, int]], chains: dict[int, dict[str, str]]
) -> list[tuple[int, int, dict[str, str]]]:
    """Pieces with their chains; neighbours of the same chain are one."""
    out: list[tuple[int, int, dict[str, str]]] = []
    for start, end, layer in shares:
        if out and out[-1][2] == chains[layer]:
            out[-1] = (out[-1][0], end, chains[layer])
        else:
            out.append((start, end, chains[layer]))
    return out


def _timed(program: bytes, config: AcceleratorConfig) -> _Timed:
    stats = time_program(program, config, trace=True)
    decoded = Program.from_bytes(program).decoded()
    layers = layer_ids(lines(program))
    body: list[tuple[Slice, Event]] = []
    for piece in slices(decoded, stats["trace"], config):
        name, fields = decoded[piece.index]
        issue, end = stats["trace"][piece.index]
        args: Event = {"index": piece.index, "asm": format_instruction(name, fields)}
        if piece.kind == "busy":
            event: Event = {"name": name, "kind": name, "args": args | {"issue": issue, "end": end}}
        else:
            title = "wait: " + (_semaphores(fields) if piece.kind == "token" else "dispatch")
            event = {"name": title, "kind": piece.kind, "args": args, "colour": _COLOURS[piece.kind]}
        body.append((piece, event))
    return _Timed(int(stats["cycles"]), layers, _shares(layers, stats["trace"]), body)


def _queue(name: str, fields: dict[str, int | None]) -> Queue | None:
    return Queue(fields["queue"] or 0) if name == "NOP" else BY_NAME[name].queue


def _semaphores(fields: dict[str, int | None]) -> str:
    return " ".join(f"s{fields[key]}" for key in ("wait0", "wait1") if fields[key] is not None)


def _id(queue: Queue) -> int:
    return int(queue) + 1


def _meta(kind: str, track: int, **args: Any) -> Event:
    return {"ph": "M", "pid": 1, "tid": track, "name": kind, "args": args}


def _track(track: int, title: str) -> Event:
    # The track's number is its place: trace viewers sort equal indices by it.
    return _meta("thread_name", track, name=title)


def _slice(
    track: int, start: int, length: int, name: str, kind: str, args: Event, colour: str | None = None
) -> Event:
    event: Event = {"ph": "X", "pid": 1, "tid": track, "ts": start / 1000, "dur": length / 1000}
    event |= {"name": name, "cat": kind, "args": args}
    return event | {"cname": colour} if colour else event


def _json(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
