"""On-chip addresses: where every buffer of the lowered function lives, and how many copies it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sd_tvm._tvm import tvm
from sd_tvm.accelerator.codegen.expr import Key, linear, loads, unmapped
from sd_tvm.accelerator.codegen.tree import Alloc, Loop, Nest
from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.isa.spec import MEMORIES, Mem
from sd_tvm.errors import ScheduleError
from sd_tvm.schedules.accel import marks

#: Memory of each storage scope.
MEMORY_OF: dict[str, Mem] = {
    marks.INP: Mem.INP,
    marks.CODE: Mem.CODE,
    marks.BASIS: Mem.BASIS,
    marks.IDX: Mem.IDX,
    marks.QP: Mem.QP,
    marks.ACC: Mem.ACC,
    marks.OUT: Mem.OUT,
}
_WORD_BYTES = {m.mem: m.word_bytes for m in MEMORIES}
_REGISTERS = (marks.W, marks.PSUM)


def element_bytes(buffer: Any) -> int:
    """Bytes of an element of a buffer."""
    return int(tvm.DataType(str(buffer.dtype)).bits) // 8


def memory_of(buffer: Any) -> Mem | None:
    """Memory that a buffer lives in; None for operands and for registers of the array."""
    return MEMORY_OF.get(str(buffer.scope()))


@dataclass
class OnChip:
    """A buffer on chip: ``copies`` of ``words`` words from word ``base``, used in turn if it is reused."""

    mem: Mem
    words: int
    repeated: bool = False
    copies: int = 1
    base: int = 0
    current: int = -1

    @property
    def start(self) -> int:
        """First word of the copy in use."""
        return self.base + max(self.current, 0) * self.words

    @property
    def span(self) -> tuple[int, int]:
        """Words [first, last + 1) of the copy in use."""
        return self.start, self.start + self.words

    def next(self) -> None:
        """Begin a new life in the next copy."""
        self.current = (self.current + 1) % self.copies


@dataclass
class MemoryMap:
    """Addresses of all on-chip buffers."""

    buffers: dict[Key, OnChip] = field(default_factory=dict)
    #: Buffer that another one shares its place with (it is overwritten element by element).
    aliases: dict[Key, Key] = field(default_factory=dict)
    required: dict[Mem, int] = field(default_factory=dict)

    def of(self, buffer: Any) -> OnChip:
        """Place of a buffer.

        Raises
        ------
        CodegenError
            If the buffer is not on chip.
        """
        key = hash(buffer)
        while key in self.aliases:
            key = self.aliases[key]
        if key not in self.buffers:
            raise unmapped("a buffer that is not on chip", buffer)
        return self.buffers[key]

    def begin(self, buffer: Any) -> None:
        """A buffer starts to live; buffers that share the place of another one do not count."""
        place = self.buffers.get(hash(buffer))
        if place is not None:
            place.next()


def allocate(root: list[Any], config: AcceleratorConfig) -> MemoryMap:
    """Give every on-chip buffer its words; a second copy where one is reused and the memory has room.

    Raises
    ------
    ScheduleError
        If the buffers do not fit (the tile search should have seen to that).
    """
    out = MemoryMap()
    reused: dict[Any, bool] = {}
    readers: dict[Key, int] = {}
    _survey(root, False, reused, readers)
    _find_aliases(root, out, readers)
    free: dict[Mem, int] = {mem: config.buffer_words(mem) for mem in Mem}
    for buffer in reused:
        mem = memory_of(buffer)
        if mem is None or hash(buffer) in out.aliases:
            continue
        size = int(buffer.shape[0]) * element_bytes(buffer)
        place = OnChip(mem, -(-size // _WORD_BYTES[mem]), repeated=reused[buffer])
        out.buffers[hash(buffer)] = place
        free[mem] -= place.words
    for place in out.buffers.values():
        if place.repeated and free[place.mem] >= place.words:
            place.copies = 2
            free[place.mem] -= place.words
    for place in out.buffers.values():
        place.base = out.required.get(place.mem, 0)
        out.required[place.mem] = place.base + place.words * place.copies
    for mem, words in out.required.items():
        if words > config.buffer_words(mem):
            raise ScheduleError(
                f"the buffers of a tile take {words} words of {mem.name}",
                expected=f"at most {config.buffer_words(mem)} (configuration {config.name!r})",
                fix="use a configuration with larger buffers, or leave the layer to the CPU",
            )
    return out


def _survey(nodes: list[Any], repeated: bool, reused: dict[Any, bool], readers: dict[Key, int]) -> None:
    """Which buffers are born several times; how many nests read each one."""
    for node in nodes:
        if isinstance(node, Loop):
            _survey(node.body, repeated or node.extent > 1, reused, readers)
        elif isinstance(node, Alloc):
            if memory_of(node.buffer) is None and str(node.buffer.scope()) not in _REGISTERS:
                raise unmapped("a buffer in an unknown scope", node.buffer.scope())
            reused[node.buffer] = repeated
        elif isinstance(node, Nest):
            sources = {hash(x.source) for store in node.stores for x in loads(store.value)}
            for source in sources:
                readers[source] = readers.get(source, 0) + 1


def _find_aliases(nodes: list[Any], out: MemoryMap, readers: Mapping[Key, int]) -> None:
    """Element-wise ALU results take the place of their only-once-read ACC operand."""
    born: set[Key] = set()
    for node in nodes:
        if isinstance(node, Loop):
            _find_aliases(node.body, out, readers)
        elif isinstance(node, Alloc):
            born.add(hash(node.buffer))
        elif isinstance(node, Nest) and node.intrin == marks.ALU and len(node.stores) == 1:
            store = node.stores[0]
            if memory_of(store.buffer) is not Mem.ACC or hash(store.buffer) not in born:
                continue
            for load in loads(store.value):
                source, key = load.source, hash(load.source)
                same_place = linear(load.indices[0]) == linear(store.index)
                same_size = int(source.shape[0]) == int(store.buffer.shape[0])
                once = readers.get(key) == 1 and key in born and memory_of(source) is Mem.ACC
                if once and same_place and same_size:
                    out.aliases[hash(store.buffer)] = key
                    break
