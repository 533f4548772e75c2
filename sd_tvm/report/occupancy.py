"""Words of the on-chip memories that are live over time, from the timed trace of the programs.

A word is live from the moment that the instruction which writes it is issued until the last instruction that
reads it has ended, or until it is overwritten; a word that nothing reads is not live. Time is cut into equal
intervals, and an interval holds the most that is live at any moment of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.isa.accesses import Access, accesses
from sd_tvm.accelerator.isa.program import Program
from sd_tvm.accelerator.isa.spec import MEMORIES, Mem
from sd_tvm.accelerator.timing import time_program
from sd_tvm.report.calls import Call, as_call

#: Intervals of a run.
INTERVALS = 600

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Occupancy:
    """Live bytes of one memory.

    Attributes
    ----------
    memory
        Its name.
    capacity_bytes
        Its size in the configuration.
    step_cycles
        Length of an interval.
    live_bytes
        The most bytes that are live at the same time, in each interval.
    """

    memory: str
    capacity_bytes: int
    step_cycles: int
    live_bytes: tuple[int, ...]

    @property
    def peak_bytes(self) -> int:
        """The most of all intervals."""
        return max(self.live_bytes, default=0)


def occupancy(
    calls: Iterable[tuple[str, bytes] | Call], config: AcceleratorConfig, intervals: int = INTERVALS
) -> tuple[Occupancy, ...]:
    """Occupancy of every memory over a run of calls, one after the other; on-chip data ends with a call.

    Parameters
    ----------
    calls
        Programs in order of execution.
    config
        Configuration to time them on; a parallel array.
    intervals
        Number of intervals that the run is cut into.

    Raises
    ------
    ConfigError
        If the array is bit-serial: its time depends on data, which programs do not hold.
    ProgramError, ConfigMismatchError
        As :func:`sd_tvm.accelerator.timing.time_program`.
    """
    done: dict[bytes, tuple[int, dict[Mem, Ints]]] = {}
    order = [as_call(call).program for call in calls]
    for program in order:
        if program not in done:
            done[program] = lives(program, config)
    cycles = sum(done[program][0] for program in order)
    step = max(1, -(-cycles // intervals))
    count = max(1, -(-cycles // step))
    out = []
    for memory in MEMORIES:
        parts, start = [], 0
        for program in order:
            length, found = done[program]
            if memory.mem in found and found[memory.mem].size:
                parts.append(found[memory.mem] + np.array([[start], [start], [0]]))
            start += length
        live = _peaks(parts, step, count) * memory.word_bytes
        capacity = config.buffer_words(memory.mem) * memory.word_bytes
        out.append(Occupancy(memory.mem.name, capacity, step, tuple(int(v) for v in live)))
    return tuple(out)


def _peaks(parts: Sequence[Ints], step: int, count: int) -> Ints:
    """The most live words of each interval."""
    out = np.zeros(count, dtype=np.int64)
    if not parts:
        return out
    born, died, words = np.hstack(parts)
    times, where = np.unique(np.concatenate([born, died]), return_inverse=True)
    changes = np.zeros(len(times), dtype=np.int64)
    np.add.at(changes, where, np.concatenate([words, -words]))
    live = np.cumsum(changes)
    inside = times < count * step  # the last death may be at the very end
    np.maximum.at(out, times[inside] // step, live[inside])
    before = np.searchsorted(times, np.arange(count) * step, side="right")  # what an interval starts with
    carried = np.where(before > 0, live[np.maximum(before, 1) - 1], 0)
    peaks: Ints = np.maximum(out, carried)
    return peaks


def lives(program: bytes, config: AcceleratorConfig) -> tuple[int, dict[Mem, Ints]]:
    """Cycles of a program, and for each memory an array of three rows: born, died (cycles), words."""
    stats = time_program(program, config, trace=True)
    decoded = Program.from_bytes(program).decoded()
    ledgers: dict[Mem, _Ledger] = {}
    setw: dict[str, int | None] | None = None
    spans: Sequence[tuple[int, int]] = stats["trace"]
    for (name, fields), (issue, end) in zip(decoded, spans, strict=True):
        if name == "SETW":
            setw = fields
        reads, writes = accesses(name, fields, setw)
        for access in reads:
            _ledger(ledgers, access.mem).read(access, end)
        for access in writes:
            _ledger(ledgers, access.mem).write(access.words, issue)
    return int(stats["cycles"]), {mem: ledger.spans() for mem, ledger in ledgers.items()}


def _ledger(ledgers: dict[Mem, _Ledger], mem: Mem) -> _Ledger:
    if mem not in ledgers:
        ledgers[mem] = _Ledger()
    return ledgers[mem]


class _Ledger:
    """Born and last read of every word of a memory; -1: never."""

    def __init__(self) -> None:
        size = 1 << 16
        self.born = np.full(size, -1, dtype=np.int64)
        self.died = np.full(size, -1, dtype=np.int64)
        self.writer = np.full(size, -1, dtype=np.int64)
        self.writes = 0
        self.found: list[Any] = []

    def read(self, access: Access, end: int) -> None:
        words = access.words
        if access.whole:
            words = np.flatnonzero(self.writer == self.writer[words[0]])
        self.died[words] = np.maximum(self.died[words], end)

    def write(self, words: Ints, issue: int) -> None:
        words = np.unique(words)
        self._close(words, issue)
        self.born[words], self.died[words], self.writer[words] = issue, -1, self.writes
        self.writes += 1

    def _close(self, words: Ints, until: int | None = None) -> None:
        lived = words[(self.died[words] > self.born[words]) & (self.born[words] >= 0)]
        if len(lived):
            died = self.died[lived] if until is None else np.minimum(self.died[lived], until)
            pairs = np.stack([self.born[lived], died])
            unique, counts = np.unique(pairs, axis=1, return_counts=True)
            self.found.append(np.vstack([unique, counts]))

    def spans(self) -> Ints:
        self._close(np.arange(len(self.born)))
        self.born[:] = -1
        if not self.found:
            return np.zeros((3, 0), dtype=np.int64)
        out: Ints = np.hstack(self.found)
        return out
