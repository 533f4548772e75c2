"""Software pipelines: which part of a tile's work overlaps with which part of the next tile's.

The loops over tiles get TVM's own annotations, ``software_pipeline_stage`` and ``software_pipeline_order``: a
stage for each statement of the body, and the order in which they are issued (program order here: the queues
of the machine make the overlap). The code generator gives a buffer that is written in stage a and last
read in stage b its b - a + 1 copies; without the annotation there is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sd_tvm._tvm import tirx
from sd_tvm.schedules.accel import marks
from sd_tvm.schedules.accel.marks import Loop, Schedule

STAGE, ORDER = "software_pipeline_stage", "software_pipeline_order"


@dataclass(frozen=True)
class Stages:
    """Stage of each kind of statement in a loop over tiles.

    Attributes
    ----------
    loads
        By the name of the block that copies: stage of its LOAD; others have ``load``.
    load, work, alu, store
        Other loads; the array (and loops inside); the ALU; stores.
    """

    load: int
    work: int
    alu: int
    store: int
    loads: tuple[tuple[str, int], ...] = ()

    @classmethod
    def simple(cls, copies: int) -> Stages:
        """Load, ALU, store, each one tile behind the other, or (one copy) all at once."""
        ahead = int(copies > 1)
        return cls(0, ahead, ahead, 2 * ahead)

    def of(self, intrin: str, block: str) -> int:
        """Stage of a nest."""
        if intrin == marks.LOAD:
            return dict(self.loads).get(block, self.load)
        if intrin == marks.STORE:
            return self.store
        return self.alu if intrin == marks.ALU else self.work


def annotate(sch: Schedule, loops: Sequence[Loop], stages: Stages) -> None:
    """Annotate those of the loops over tiles that run more than once.

    Call it when every nest is marked and in its place.
    """
    for loop in loops:
        node = sch.get(loop)
        if int(node.extent) == 1:
            continue
        found = [_stage(child, stages) for child in _statements(node.body)]
        low = min(found)
        if len(found) < 2 or max(found) == low:
            continue
        sch.annotate(loop, STAGE, [s - low for s in found])
        sch.annotate(loop, ORDER, list(range(len(found))))


def _statements(stmt: Any) -> list[Any]:
    """Statements of a loop's body; loops that run once dissolve."""
    if isinstance(stmt, tirx.SeqStmt):
        return [s for part in stmt.seq for s in _statements(part)]
    if isinstance(stmt, tirx.For) and int(stmt.extent) == 1 and marks.INTRIN not in stmt.annotations:
        return _statements(stmt.body)
    return [stmt]


def _stage(stmt: Any, stages: Stages) -> int:
    if marks.INTRIN not in stmt.annotations:
        return stages.work
    body: Any = stmt.body
    while isinstance(body, tirx.For):
        body = body.body
    return stages.of(str(stmt.annotations[marks.INTRIN]), str(body.block.name_hint))

