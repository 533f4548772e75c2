"""Matches the nests of a lowered layer to instructions and emits them, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sd_tvm.accelerator.codegen.alu import AluNest
from sd_tvm.accelerator.codegen.binding import Binding, Home
from sd_tvm.accelerator.codegen.dma import LoadNest, StoreNest
from sd_tvm.accelerator.codegen.expr import Key, unmapped
from sd_tvm.accelerator.codegen.gemm import GemmNests
from sd_tvm.accelerator.codegen.memory import Arena, MemoryMap, allocate
from sd_tvm.accelerator.codegen.provenance import Provenance
from sd_tvm.accelerator.codegen.scopes import element_bytes
from sd_tvm.accelerator.codegen.stream import Stream
from sd_tvm.accelerator.codegen.tree import Alloc, Loop, Nest, TreeBuilder
from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.isa.program import Program
from sd_tvm.layers import ConvLayer, Layer
from sd_tvm.schedules.accel import marks


class Generator:
    """Code generator of one layer (or of a window of one).

    Parameters
    ----------
    func
        Flat PrimFunc of :func:`.lower.lower`.
    layer
        Its layer.
    homes
        Kind of place of each parameter; those left out are dense in DRAM.
    """

    def __init__(self, func: Any, layer: Layer, homes: Sequence[Home] = ()) -> None:
        self.layer = layer
        packed = 0 if isinstance(layer, ConvLayer) and layer.packed_input else None
        self.tree = TreeBuilder(func, homes, packed)
        #: Buffers that hold constants, by key.
        self.constants: dict[Key, int] = {}
        #: Buffers of INP whose words hold 4 elements.
        self.narrow: set[Key] = set()
        self.gemms: list[GemmNests] = []
        self.root = self._match(self.tree.root)
        #: Bytes of each parameter.
        self.param_bytes = tuple(_bytes(p) for p in self.tree.params)

    def _match(self, nodes: list[Any]) -> list[Any]:
        """The tree with its nests replaced by matchers; rebuild, MAC and bias nests become one."""
        out: list[Any] = []
        rebuild: list[Nest] = []
        mac: Nest | None = None
        for node in nodes:
            if isinstance(node, Loop):
                out.append(Loop(node.var, node.extent, self._match(node.body), node.stages))
            elif isinstance(node, Alloc):
                out.append(node)
            elif node.intrin == marks.LOAD:
                load = LoadNest(node, self.tree)
                if load.packed:
                    self.narrow.add(hash(load.buffer))
                if not load.activation:
                    self.constants[hash(load.buffer)] = load.param
                out.append(load)
            elif node.intrin == marks.STORE:
                out.append(StoreNest(node, self.tree))
            elif node.intrin == marks.ALU:
                out.append(AluNest(node, self.tree))
            elif node.intrin == marks.REBUILD:
                rebuild.append(node)
            elif node.intrin == marks.MAC and mac is None:
                mac = node
            elif node.intrin == marks.BIAS and mac is not None and isinstance(self.layer, ConvLayer):
                self.gemms.append(GemmNests(self.layer, rebuild, mac, node, self.tree))
                out.append(self.gemms[-1])
                rebuild, mac = [], None
            else:
                raise unmapped("a nest", node.intrin)
        if rebuild or mac is not None:
            raise unmapped("a rebuild or MAC without its bias", self.layer.name)
        return out

    def emit(
        self,
        bindings: Sequence[Binding],
        arena: Arena,
        stream: Stream,
        held: Provenance,
        keep: Any = None,
    ) -> None:
        """Emit the instructions of one step.

        Parameters
        ----------
        bindings
            Place of each parameter; their homes are those the generator was made for.
        arena, stream, held
            Free words, the stream to append to, and the constants that are on chip.
        keep
            Of :func:`.memory.allocate`.
        """
        memory = allocate(self.tree, list(bindings), arena, keep, self.constants, self.narrow)
        for gemm in self.gemms:
            gemm.begin()
        _Run(list(bindings), memory, stream, held).walk(self.root, {})


    def program(self, config: AcceleratorConfig) -> Program:
        """A program of this step alone, every parameter a segment."""
        stream, arena = Stream(), Arena(config)
        stream.emit("MARK", {"layer": 0})
        bindings = [Binding(segment=i) for i in range(len(self.param_bytes))]
        self.emit(bindings, arena, stream, Provenance())
        stream.emit("FINISH", {})
        return stream.program(self.param_bytes, arena.required)


class _Run:
    """One walk over the tree."""

    def __init__(
        self, bindings: list[Binding], memory: MemoryMap, stream: Stream, held: Provenance
    ) -> None:
        self.bindings, self.memory, self.stream, self.held = bindings, memory, stream, held

    def walk(self, nodes: list[Any], env: dict[Key, int]) -> None:
        memory, stream = self.memory, self.stream
        for node in nodes:
            if isinstance(node, Loop):
                for i in range(node.extent):
                    self.walk(node.body, env | {node.var: i})
            elif isinstance(node, Alloc):
                memory.begin(node.buffer)
            elif isinstance(node, LoadNest):
                node.emit(env, memory, stream, self.bindings[node.param], self.held)
            elif isinstance(node, StoreNest):
                node.emit(env, memory, stream, self.bindings[node.param])
            elif isinstance(node, GemmNests):
                node.emit(env, memory, stream, self.held, self.bindings)
            else:
                node.emit(env, memory, stream)


def _bytes(param: Any) -> int:
    size = element_bytes(param)
    for dim in param.shape:
        size *= int(dim)
    return size
