"""Storage scopes of the schedules and the memories they stand for."""

from __future__ import annotations

from typing import Any

from sd_tvm._tvm import tvm
from sd_tvm.accelerator.isa.spec import MEMORIES, Mem
from sd_tvm.schedules.accel import marks

#: Memory of each storage scope.
MEMORY_OF: dict[str, Mem] = {
    marks.INP: Mem.INP,
    marks.CODE: Mem.CODE,
    marks.BASIS: Mem.BASIS,
    marks.IDX: Mem.IDX,
    marks.QP: Mem.QP,
    marks.LUT: Mem.LUT,
    marks.ACC: Mem.ACC,
    marks.OUT: Mem.OUT,
}
#: Bytes of a word of each memory.
WORD_BYTES = {m.mem: m.word_bytes for m in MEMORIES}
#: Scopes that are registers of the array.
REGISTERS = (marks.W, marks.PSUM)


def element_bytes(buffer: Any) -> int:
    """Bytes of an element of a buffer."""
    return int(tvm.DataType(str(buffer.dtype)).bits) // 8


def memory_of(buffer: Any) -> Mem | None:
    """Memory of a buffer's scope; None for operands and for registers of the array."""
    return MEMORY_OF.get(str(buffer.scope()))
