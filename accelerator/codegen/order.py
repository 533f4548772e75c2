"""Dispatch order: loads move up, so that a queue of finite depth lets them run ahead of the work.

Queues are in order and semaphores carry every dependency, so any merge of the four queues that keeps the
order within each of them computes the same. It cannot deadlock either as long as an instruction stands
behind all those that it waits for: whatever blocks the dispatch then waits for dispatched instructions only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sd_tvm.accelerator.isa.spec import Queue

if TYPE_CHECKING:
    from sd_tvm.accelerator.codegen.stream import Instruction


def run_ahead(instructions: Sequence[Instruction], depth: int) -> list[Instruction]:
    """Instructions with loads up to ``depth`` places further up in the queue of loads.

    Parameters
    ----------
    instructions
        In program order, waits and signals fixed.
    depth
        Loads that may stand before their place at any time; 0 changes nothing.
    """
    out: list[Instruction] = []
    start = 0
    for i, instruction in enumerate(instructions):
        if instruction.name in ("FENCE", "FINISH"):
            out += _between_fences(instructions[start:i], depth)
            out.append(instruction)
            start = i + 1
    return out + _between_fences(instructions[start:], depth)


def _between_fences(instructions: Sequence[Instruction], depth: int) -> list[Instruction]:
    layers: list[Instruction | None] = []  # MARK that each instruction stands behind
    mark: Instruction | None = None
    for instruction in instructions:
        mark = instruction if instruction.name == "MARK" else mark
        layers.append(mark)
    inside = {id(x) for x in instructions}
    loads = [i for i, x in enumerate(instructions) if x.queue is Queue.LD]
    done: set[int] = set()
    out: list[Instruction] = []
    current: Instruction | None = None
    following = 0  # next load

    def emit(i: int) -> None:
        nonlocal current
        wanted = layers[i]
        if wanted is not current and wanted is not None:
            out.append(wanted)
            current = wanted
        out.append(instructions[i])
        done.add(id(instructions[i]))

    for i, instruction in enumerate(instructions):
        if instruction.name == "MARK":
            continue
        if id(instruction) in done:
            continue
        if instruction.queue is Queue.LD:
            following += 1
            emit(i)
            continue
        # Loads behind this instruction that wait for nothing which is still to come.
        while following < len(loads):
            at = loads[following]
            ahead = sum(1 for j in loads[max(0, following - depth) : following] if j > i)
            ready = all(id(p) in done or id(p) not in inside for p in instructions[at].providers)
            if ahead >= depth or not ready:
                break
            emit(at)
            following += 1
        emit(i)
    return out
