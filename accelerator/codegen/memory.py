"""On-chip addresses: where every buffer of a lowered function lives, and how many copies it has."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from sd_tvm.accelerator.codegen.binding import Binding
from sd_tvm.accelerator.codegen.expr import Key, linear, loads, unmapped
from sd_tvm.accelerator.codegen.scopes import REGISTERS, WORD_BYTES, element_bytes, memory_of
from sd_tvm.accelerator.codegen.tree import Alloc, Loop, Nest, TreeBuilder
from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.isa.spec import Mem
from sd_tvm.errors import ScheduleError
from sd_tvm.layers import PACKED_LANES
from sd_tvm.schedules.accel import marks
from sd_tvm.schedules.accel.fusion.addresses import place as place_buffers

__all__ = ["Arena", "MemoryMap", "OnChip", "allocate", "element_bytes", "memory_of"]


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

    def root(self, key: Key) -> Key:
        """Buffer whose place another one has."""
        while key in self.aliases:
            key = self.aliases[key]
        return key

    def of(self, buffer: Any) -> OnChip:
        """Place of a buffer.

        Raises
        ------
        CodegenError
            If the buffer is not on chip.
        """
        key = self.root(hash(buffer))
        if key not in self.buffers:
            raise unmapped("a buffer that is not on chip", buffer)
        return self.buffers[key]

    def begin(self, buffer: Any) -> None:
        """A buffer starts to live; buffers that share the place of another one do not count."""
        place = self.buffers.get(hash(buffer))
        if place is not None:
            place.next()


class Arena:
    """The words that steps may use for their own buffers, one step after the other.

    Consecutive steps get different words where there is room, so that a step's loads need not wait for the
    step before. INP is shared with tensors that stay on chip: who places those says which words are free.

    Parameters
    ----------
    config
        Sizes of the memories.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        self.required: dict[Mem, int] = {}
        #: First word and words of INP that the next step may use.
        self.inp = (0, config.buffer_words(Mem.INP))
        #: Places of weights that steps of one fused group share: (group, node, buffer, words) -> first word.
        self.kept: dict[tuple[Any, str, int], int] = {}
        self._cursor: dict[Mem, int] = {}

    def size(self, mem: Mem) -> int:
        """Words that a step can have."""
        return self.inp[1] if mem is Mem.INP else self.config.buffer_words(mem)

    def take(self, mem: Mem, words: int) -> int:
        """First of so many words."""
        if mem is Mem.INP:
            base = self.inp[0]
        else:
            base = self._cursor.get(mem, 0)
            if base + words > self.size(mem):
                base = 0
            self._cursor[mem] = base + words
        self.use(mem, base + words)
        return base

    def use(self, mem: Mem, last: int) -> None:
        """Words up to ``last`` are used."""
        self.required[mem] = max(self.required.get(mem, 0), last)


def allocate(
    tree: TreeBuilder,
    bindings: list[Binding],
    arena: Arena,
    keep: Any,
    loaded: Mapping[Key, int],
    narrow: Collection[Key],
) -> MemoryMap:
    """Give every on-chip buffer its words, and as many copies as the pipeline of its loop asks for.

    Parameters
    ----------
    tree
        Lowered function.
    bindings
        Places of its parameters; those on chip stand for themselves.
    arena
        Where words come from.
    keep
        Steps with the same value (None: no other step) load the same weights to the same words.
    loaded
        Buffers that hold constants: what ``keep`` is about.
    narrow
        Buffers of which a word holds 4 bytes.

    Raises
    ------
    ScheduleError
        If the buffers do not fit (the tile search should have seen to that).
    """
    out = MemoryMap()
    reused: dict[Any, bool] = {}
    readers: dict[Key, int] = {}
    _survey(tree.root, False, reused, readers)
    _find_aliases(tree.root, out, readers)
    shared: list[tuple[tuple[Any, str, int], OnChip]] = []
    for buffer in reused:
        mem = memory_of(buffer)
        if mem is None or hash(buffer) in out.aliases:
            continue
        size = int(buffer.shape[0]) * element_bytes(buffer)
        word = PACKED_LANES if hash(buffer) in narrow else WORD_BYTES[mem]
        place = OnChip(mem, -(-size // word), repeated=reused[buffer])
        out.buffers[hash(buffer)] = place
        if keep is not None and hash(buffer) in loaded and not place.repeated:
            shared.append(((keep, str(buffer.name), place.words), place))
    for buffer_key, copies in _copies(tree.root, out).items():
        if buffer_key in out.buffers:
            out.buffers[buffer_key].copies = copies
    kept = {id(place) for _, place in shared}
    total: dict[Mem, int] = {}
    for place in out.buffers.values():
        if id(place) not in kept:
            place.base = total.get(place.mem, 0)
            total[place.mem] = place.base + place.words * place.copies
    for mem in total:
        if total[mem] > arena.size(mem):
            total[mem] = _share(tree.root, out, [p for i, p in _places(out, mem) if i not in kept])
    for mem, words in total.items():
        if words > arena.size(mem):
            raise ScheduleError(
                f"the buffers of a tile take {words} words of {mem.name}",
                expected=f"at most {arena.size(mem)} (configuration {arena.config.name!r})",
                fix="use a configuration with larger buffers, or leave the layer to the CPU",
            )
        base = arena.take(mem, words)
        for place in out.buffers.values():
            if place.mem is mem and id(place) not in kept:
                place.base += base
    for name, place in shared:
        if name not in arena.kept:
            arena.kept[name] = arena.take(place.mem, place.words)
        place.base = arena.kept[name]
    for key, param in tree.segments.items():
        binding = bindings[param]
        if binding.home.mem is not None:
            out.buffers[key] = OnChip(binding.home.mem, binding.words, base=binding.first)
    return out


def _places(out: MemoryMap, mem: Mem) -> list[tuple[int, OnChip]]:
    """Places in a memory, with their identities."""
    return [(id(place), place) for place in out.buffers.values() if place.mem is mem]


def _share(root: list[Any], out: MemoryMap, places: list[OnChip]) -> int:
    """Let buffers that parts of a function use one after the other share words; the words of all."""
    lives: dict[int, tuple[int, int]] = {}
    for i, node in enumerate(root):
        written: set[Key] = set()
        read: set[Key] = set()
        _touched(node, out, written, read)
        for key in written | read:
            if key in out.buffers:
                place = id(out.buffers[key])
                lives[place] = (lives.get(place, (i, i))[0], i)
    sizes = [p.words * p.copies for p in places]
    starts = place_buffers(sizes, [lives.get(id(p), (0, len(root))) for p in places])
    for one, start in zip(places, starts, strict=True):
        one.base = start
    return max((start + size for start, size in zip(starts, sizes, strict=True)), default=0)


def _touched(node: Any, out: MemoryMap, written: set[Key], read: set[Key]) -> None:
    """Add the buffers that a statement writes and reads, aliases resolved."""
    if isinstance(node, Loop):
        for child in node.body:
            _touched(child, out, written, read)
    elif isinstance(node, Nest):
        for store in node.stores:
            written.add(out.root(hash(store.buffer)))
            read.update(out.root(hash(x.source)) for x in loads(store.value))


def _copies(root: list[Any], out: MemoryMap) -> dict[Key, int]:
    """Copies of the buffers of pipelined loops: last stage that reads - first stage that writes + 1."""
    copies: dict[Key, int] = {}

    def visit(nodes: list[Any]) -> None:
        for node in nodes:
            if not isinstance(node, Loop):
                continue
            visit(node.body)
            if not node.stages:
                continue
            born = {out.root(hash(x.buffer)) for x in node.body if isinstance(x, Alloc)}
            first: dict[Key, int] = {}
            last: dict[Key, int] = {}
            statements = [x for x in node.body if not isinstance(x, Alloc)]
            for stage, statement in zip(node.stages, statements, strict=True):
                written: set[Key] = set()
                read: set[Key] = set()
                _touched(statement, out, written, read)
                for key in written & born:
                    first[key] = min(first.get(key, stage), stage)
                for key in read & born:
                    last[key] = max(last.get(key, stage), stage)
            for key in first:
                copies[key] = max(1, last.get(key, first[key]) - first[key] + 1)

    visit(root)
    return copies


def _survey(nodes: list[Any], repeated: bool, reused: dict[Any, bool], readers: dict[Key, int]) -> None:
    """Which buffers are born several times; how many nests read each one."""
    for node in nodes:
        if isinstance(node, Loop):
            _survey(node.body, repeated or node.extent > 1, reused, readers)
        elif isinstance(node, Alloc):
            if memory_of(node.buffer) is None and str(node.buffer.scope()) not in REGISTERS:
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
