"""The instruction stream: instructions with what they touch, and the semaphores that follow from it.

Every instruction says which words it reads and writes. An instruction must wait for the latest earlier
instruction of another queue that it conflicts with (read after write, write after read, write after
write). One semaphore serves each ordered pair of queues: the waits of a pair name strictly later
signallers, so the k-th wait always takes the k-th signal. A wait that others imply is left out.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass, field

from sd_tvm.accelerator.codegen.order import run_ahead
from sd_tvm.accelerator.isa.encode import encode
from sd_tvm.accelerator.isa.program import Program
from sd_tvm.accelerator.isa.spec import BY_NAME, N_SEMAPHORES, Mem, Queue
from sd_tvm.errors import CodegenError

_MAX_EVENTS = 2
#: Signals that may wait for their consumer (a semaphore counts to 255).
_MAX_PENDING = 200


@dataclass(frozen=True)
class Access:
    """Words [first, last) of a memory, or of a segment of DRAM that instructions write."""

    mem: Mem | tuple[str, int]
    first: int
    last: int


@dataclass
class Instruction:
    """An instruction of the stream, its semaphores not yet fixed."""

    name: str
    fields: dict[str, int]
    queue: Queue | None
    waits: list[int] = field(default_factory=list)
    signals: list[int] = field(default_factory=list)
    #: Latest instruction of each queue (index in its queue) known to be complete when this one is.
    known: dict[Queue, int] = field(default_factory=dict)
    order: int = 0
    #: Instructions that it waits for.
    providers: list[Instruction] = field(default_factory=list)


@dataclass
class _Words:
    """Latest reader and writer (by queue) of one interval."""

    readers: dict[Queue, Instruction] = field(default_factory=dict)
    writers: dict[Queue, Instruction] = field(default_factory=dict)


class Stream:
    """Instructions in program order."""

    def __init__(self) -> None:
        self.instructions: list[Instruction] = []
        self._counts: dict[Queue, int] = {}
        self._last: dict[Queue, Instruction] = {}
        self._touched: dict[Mem | tuple[str, int], dict[tuple[int, int], _Words]] = {}
        self._semaphores: dict[tuple[Queue, Queue], int] = {}
        #: For each pair of queues: signals so far, and (index in the consumer's queue, waits up to it).
        self._signalled: dict[tuple[Queue, Queue], int] = {}
        self._waited: dict[tuple[Queue, Queue], list[tuple[int, int]]] = {}
        #: What a FENCE made known to every later instruction.
        self._floor: dict[Queue, int] = {}
        self._full = False

    def emit(
        self,
        name: str,
        fields: dict[str, int],
        reads: Iterable[Access] = (),
        writes: Iterable[Access] = (),
    ) -> None:
        """Append an instruction.

        Parameters
        ----------
        name
            Row of the instruction table.
        fields
            Its fields (header aside; ``flags`` may be given).
        reads, writes
            On-chip words that it touches.
        """
        new = Instruction(name, fields, BY_NAME[name].queue)
        if new.queue is None:
            self.instructions.append(new)
            return
        self._fence_if_full()
        self.instructions.append(new)
        new.order = self._counts.get(new.queue, 0)
        self._counts[new.queue] = new.order + 1
        previous = self._last.get(new.queue)
        known = dict(previous.known) if previous else {}
        for queue, order in self._floor.items():
            known[queue] = max(known.get(queue, -1), order)
        self._last[new.queue] = new
        reads, writes = list(reads), list(writes)
        self._wait(new, self._conflicts(new, reads, writes), known)
        new.known = known | {new.queue: new.order}
        for access, kind in [(a, "readers") for a in reads] + [(a, "writers") for a in writes]:
            words = self._touched.setdefault(access.mem, {})
            if kind == "writers":
                # Whoever conflicts with what is overwritten conflicts with this instruction, too.
                for span in [s for s in words if access.first <= s[0] and s[1] <= access.last]:
                    del words[span]
            entry = words.setdefault((access.first, access.last), _Words())
            getattr(entry, kind)[new.queue] = new

    def _conflicts(
        self, new: Instruction, reads: list[Access], writes: list[Access]
    ) -> dict[Queue, Instruction]:
        """Latest conflicting instruction of every other queue."""
        found: dict[Queue, Instruction] = {}
        for access, is_write in [(a, False) for a in reads] + [(a, True) for a in writes]:
            for (first, last), words in self._touched.get(access.mem, {}).items():
                if first >= access.last or last <= access.first:
                    continue
                groups = (words.writers, words.readers) if is_write else (words.writers,)
                for group in groups:
                    for queue, other in group.items():
                        best = found.get(queue)
                        if queue is not new.queue and (best is None or other.order > best.order):
                            found[queue] = other
        return found

    def _wait(self, new: Instruction, conflicts: dict[Queue, Instruction], known: dict[Queue, int]) -> None:
        # Those that know most first: they make others superfluous.
        for queue, other in sorted(conflicts.items(), key=lambda item: (-len(item[1].known), item[0])):
            implied = any(
                o is not other and o.known.get(queue, -1) >= other.order for o in conflicts.values()
            )
            if known.get(queue, -1) >= other.order or implied:
                continue
            assert new.queue is not None
            semaphore = self._semaphore(queue, new.queue)
            other.signals.append(semaphore)
            new.waits.append(semaphore)
            new.providers.append(other)
            pair = (queue, new.queue)
            self._signalled[pair] = self._signalled.get(pair, 0) + 1
            waits = self._waited.setdefault(pair, [])
            waits.append((new.order, len(waits) + 1))
            taken = bisect.bisect_right(waits, (other.known.get(new.queue, -1), 1 << 40))
            if self._signalled[pair] - taken > _MAX_PENDING:
                self._full = True
        for other in conflicts.values():
            for queue, order in other.known.items():
                known[queue] = max(known.get(queue, -1), order)

    def _fence_if_full(self) -> None:
        """A semaphore that might overflow: let all queues run empty first."""
        if self._full:
            self._full = False
            self.instructions.append(Instruction("FENCE", {}, None))
            self._floor = {queue: count - 1 for queue, count in self._counts.items()}

    def _semaphore(self, producer: Queue, consumer: Queue) -> int:
        pair = (producer, consumer)
        if pair not in self._semaphores:
            if len(self._semaphores) == N_SEMAPHORES:
                raise CodegenError("too many pairs of queues", expected=f"{N_SEMAPHORES}", fix="report this")
            self._semaphores[pair] = len(self._semaphores)
        return self._semaphores[pair]

    def program(
        self,
        segment_bytes: tuple[int, ...],
        required: dict[Mem, int],
        n_results: int = 1,
        ahead: int = 0,
    ) -> Program:
        """Encoded program; waits and signals beyond two go into NOPs of the same queue."""
        out: list[bytes] = []
        for instruction in run_ahead(self.instructions, ahead):
            waits, signals = instruction.waits, instruction.signals
            queue = instruction.queue
            while len(waits) > _MAX_EVENTS:
                out.append(_nop(queue, waits=waits[:_MAX_EVENTS]))
                waits = waits[_MAX_EVENTS:]
            head, tail = signals[:_MAX_EVENTS], signals[_MAX_EVENTS:]
            out.append(encode(instruction.name, **instruction.fields, **_events(waits, head)))
            while tail:
                out.append(_nop(queue, signals=tail[:_MAX_EVENTS]))
                tail = tail[_MAX_EVENTS:]
        return Program(tuple(out), segment_bytes, required, n_results)


def _events(waits: list[int], signals: list[int]) -> dict[str, int]:
    return {f"wait{i}": s for i, s in enumerate(waits)} | {f"signal{i}": s for i, s in enumerate(signals)}


def _nop(queue: Queue | None, waits: list[int] | None = None, signals: list[int] | None = None) -> bytes:
    return encode("NOP", queue=int(queue or 0), **_events(waits or [], signals or []))
