"""Cycle-stepped reference of the composition: queues, semaphores, channels, dispatch. Slow on purpose.

It knows nothing of maxima of times: every cycle it moves small state machines by one cycle. The costs
of single instructions are given to it; they are checked elsewhere.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

QUEUES = ("LD", "GE", "AL", "ST")


@dataclass(frozen=True)
class Task:
    """One instruction: queue (None: MARK or FENCE) and phase lengths in cycles."""

    queue: str | None
    front: int = 0
    latency: int = 0
    data: int = 0
    tail: int = 0
    waits: tuple[int, ...] = ()
    signals: tuple[int, ...] = ()
    fence: bool = False


@dataclass
class Running:
    """An instruction that has left its queue."""

    index: int
    left: dict[str, int]


@dataclass
class Queue:
    waiting: deque[int] = field(default_factory=deque)
    running: deque[Running] = field(default_factory=deque)


def fetch_time(index: int, fetch: tuple[int, int] | None) -> int:
    """Cycle in which instruction ``index`` is there; ``fetch``: latency and cycles of a burst of 4."""
    return 0 if fetch is None else fetch[0] + (index // 4 + 1) * fetch[1]


def run(
    tasks: list[Task], *, in_flight: int, depth: int, fetch: tuple[int, int] | None, limit: int = 10**6
) -> tuple[int, list[tuple[int, int]]]:
    """Cycles of the program and (issue, end) of every task.

    Raises
    ------
    TimeoutError
        If nothing moves any more.
    """
    queues = {q: Queue() for q in QUEUES}
    counts = [0] * 32
    spans: list[list[int]] = [[-1, -1] for _ in tasks]
    next_dispatch = 0
    now = 0
    while True:
        moved = True
        while moved:  # everything that can happen in this cycle
            moved = False
            for name, queue in queues.items():
                # In-order completion; a phase of zero cycles passes at once.
                while queue.running and not any(queue.running[0].left.values()):
                    done = queue.running.popleft()
                    spans[done.index][1] = now
                    for s in tasks[done.index].signals:
                        counts[s] += 1
                    moved = True
                limit_here = in_flight if name in ("LD", "ST") else 1
                decoding = any(r.left["front"] for r in queue.running)
                if queue.waiting and not decoding and len(queue.running) < limit_here:
                    task = tasks[queue.waiting[0]]
                    need = {s: task.waits.count(s) for s in task.waits}
                    if all(counts[s] >= n for s, n in need.items()):
                        for s, n in need.items():
                            counts[s] -= n
                        index = queue.waiting.popleft()
                        spans[index][0] = now
                        phases = {
                            "front": task.front,
                            "latency": task.latency,
                            "data": task.data,
                            "tail": task.tail,
                        }
                        queue.running.append(Running(index, phases))
                        moved = True
            while next_dispatch < len(tasks) and fetch_time(next_dispatch, fetch) <= now:
                task = tasks[next_dispatch]
                if task.queue is None:
                    if task.fence and any(q.waiting or q.running for q in queues.values()):
                        break
                    spans[next_dispatch] = [now, now]
                else:
                    if depth and len(queues[task.queue].waiting) >= depth:
                        break
                    queues[task.queue].waiting.append(next_dispatch)
                next_dispatch += 1
                moved = True
        if next_dispatch == len(tasks) and not any(q.waiting or q.running for q in queues.values()):
            return max(end for _, end in spans), [(a, b) for a, b in spans]
        for queue in queues.values():
            channel_taken = False
            for r in queue.running:  # oldest first
                left = r.left
                if left["front"]:
                    left["front"] -= 1
                elif left["latency"]:
                    left["latency"] -= 1
                elif left["data"]:
                    if not channel_taken:
                        left["data"] -= 1
                    channel_taken = True
                elif left["tail"]:
                    left["tail"] -= 1
                # A younger transfer's data never overtakes an older one's.
                channel_taken = channel_taken or bool(left["front"] or left["latency"] or left["data"])
        now += 1
        if now > limit:
            raise TimeoutError(f"nothing moves after {limit} cycles")
