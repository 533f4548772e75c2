"""Walks the tree of a lowered layer and emits its program."""

from __future__ import annotations

from typing import Any

from sd_tvm.accelerator.codegen.alu import AluNest
from sd_tvm.accelerator.codegen.dma import LoadNest, StoreNest
from sd_tvm.accelerator.codegen.expr import Key, unmapped
from sd_tvm.accelerator.codegen.gemm import GemmNests, Provenance
from sd_tvm.accelerator.codegen.memory import allocate, element_bytes
from sd_tvm.accelerator.codegen.stream import Stream
from sd_tvm.accelerator.codegen.tree import Alloc, Loop, Nest, TreeBuilder
from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.isa.program import Program
from sd_tvm.layers import ConvLayer, Layer
from sd_tvm.schedules.accel import marks


class Generator:
    """Code generator of one layer.

    Parameters
    ----------
    func
        Flat PrimFunc of :func:`.lower.lower`.
    layer
        Its layer.
    config
        Sizes of the on-chip memories.
    """

    def __init__(self, func: Any, layer: Layer, config: AcceleratorConfig) -> None:
        self.layer = layer
        tree = TreeBuilder(func)
        self.tree = tree
        self.segments = tree.segments
        self.root = self._match(tree.root)
        self.memory = allocate(tree.root, config)
        self.segment_bytes = tuple(_bytes(p) for p in tree.params)
        self.stream = Stream()
        self.held = Provenance()

    def _match(self, nodes: list[Any]) -> list[Any]:
        """The tree with its nests replaced by matchers; rebuild, MAC and bias nests become one."""
        out: list[Any] = []
        rebuild: list[Nest] = []
        mac: Nest | None = None
        for node in nodes:
            if isinstance(node, Loop):
                out.append(Loop(node.var, node.extent, self._match(node.body)))
            elif isinstance(node, Alloc):
                out.append(node)
            elif node.intrin == marks.LOAD:
                out.append(LoadNest(node, self.segments))
            elif node.intrin == marks.STORE:
                out.append(StoreNest(node, self.segments))
            elif node.intrin == marks.ALU:
                out.append(AluNest(node))
            elif node.intrin == marks.REBUILD:
                rebuild.append(node)
            elif node.intrin == marks.MAC and mac is None:
                mac = node
            elif node.intrin == marks.BIAS and mac is not None and isinstance(self.layer, ConvLayer):
                out.append(GemmNests(self.layer, rebuild, mac, node))
                rebuild, mac = [], None
            else:
                raise unmapped("a nest", node.intrin)
        if rebuild or mac is not None:
            raise unmapped("a rebuild or MAC without its bias", self.layer.name)
        return out

    def program(self) -> Program:
        """Emit everything."""
        self.stream.emit("MARK", {"layer": 0})
        self._run(self.root, {})
        self.stream.emit("FINISH", {})
        return self.stream.program(self.segment_bytes, self.memory.required)

    def _run(self, nodes: list[Any], env: dict[Key, int]) -> None:
        for node in nodes:
            if isinstance(node, Loop):
                for i in range(node.extent):
                    self._run(node.body, env | {node.var: i})
            elif isinstance(node, Alloc):
                self.memory.begin(node.buffer)
            elif isinstance(node, LoadNest):
                self._load(node, env)
            elif isinstance(node, GemmNests):
                node.emit(env, self.memory, self.stream, self.held)
            else:
                node.emit(env, self.memory, self.stream)

    def _load(self, node: LoadNest, env: dict[Key, int]) -> None:
        for box, first in node.emit(env, self.memory, self.stream):
            # Weights come in rows of whole words; activations are not looked up.
            if box.z.n == 1 and node.mem is not None:
                for row in range(box.y.lo, box.y.hi):
                    at = first + row * box.y.chip + box.x.lo
                    dram = box.dram + (row - box.y.lo) * box.y.dram
                    self.held.loaded(node.mem, at, box.x.hi - box.x.lo, node.segment, dram)


def _bytes(param: Any) -> int:
    size = element_bytes(param)
    for dim in param.shape:
        size *= int(dim)
    return size
