"""Names that the accelerator schedules and the code generator share: scopes and loop annotations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sd_tvm._tvm import tirx, tvm

#: Storage scope of each on-chip memory. ``w`` and ``psum`` are registers of the array, not memories.
INP, CODE, BASIS, IDX, QP, LUT, ACC, OUT, W, PSUM = (
    f"local.sd.{name}" for name in ("inp", "code", "basis", "idx", "qp", "lut", "acc", "out", "w", "psum")
)
#: Annotation of the outermost loop of a nest that becomes an instruction.
INTRIN = "sd.intrin"
LOAD, STORE, ALU, REBUILD, MAC, BIAS = "load", "store", "alu", "gemm.rebuild", "gemm.mac", "gemm.bias"
#: Annotation of every loop of a gemm or alu nest: the axis of the layer that it walks.
AXIS = "sd.axis"

Schedule = Any
Block = Any
Loop = Any


def mark(sch: Schedule, block: Block, at: Loop | None, intrin: str, axes: Sequence[str] = ()) -> None:
    """Annotate the loops of a block below loop ``at`` (None: all of them) as one nest.

    Parameters
    ----------
    sch
        Schedule.
    block
        Block whose own loops form the nest.
    at
        Innermost loop that is not part of the nest.
    intrin
        Value of :data:`INTRIN` for the outermost own loop.
    axes
        Values of :data:`AXIS`, one for each of the last own loops.
    """
    loops = list(sch.get_loops(block))
    if at is not None:
        stop = sch.get(at)
        loops = loops[next(i for i, loop in enumerate(loops) if sch.get(loop).same_as(stop)) + 1 :]
    sch.annotate(loops[0], INTRIN, intrin)
    for loop, axis in zip(loops[-len(axes) :] if axes else [], axes, strict=True):
        sch.annotate(loop, AXIS, axis)


def read_region(sch: Schedule, block: Block, buffer: str, region: Callable[..., Sequence[Any]]) -> None:
    """State which region of a buffer a block reads, so that copies to the chip move whole words.

    Parameters
    ----------
    sch
        Schedule.
    block
        Reader.
    buffer
        Beginning of the buffer's name.
    region
        Maps the block's axes to one (begin, end) a dimension.
    """
    node = sch.get(block)
    index = next(i for i, read in enumerate(node.reads) if str(read.source.name).startswith(buffer))
    axes = [v.var for v in node.iter_vars]
    bounds = [bound for pair in region(*axes) for bound in pair]
    # Schedule.annotate_buffer_access refuses buffers whose rank differs from the number of axes.
    primitive = tvm.get_global_func("s_tir.schedule.ScheduleAnnotateBufferAccess")
    primitive(sch, block, index, 0, tirx.IndexMap(axes, bounds, None))
