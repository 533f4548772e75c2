"""Element-wise and reduction nests on sums and activations to ALU."""

from __future__ import annotations

from typing import Any

import tvm_ffi

from sd_tvm._tvm import ir, tirx, tvm
from sd_tvm.accelerator.codegen.expr import Env, Linear, Ranges, linear, loads, unmapped, variables
from sd_tvm.accelerator.codegen.memory import MemoryMap
from sd_tvm.accelerator.codegen.stream import Access, Stream
from sd_tvm.accelerator.codegen.tree import Nest, Store, TreeBuilder
from sd_tvm.accelerator.isa.spec import AluOp, AluSrcB, Mem
from sd_tvm.layers import LANES
from sd_tvm.schedules.ops.tir import requantize_words, scale_words

#: Entries of a table.
_TABLE = 256
_SIGNED_SOURCE, _SIGNED_RESULT, _WORD_PER_LANE = 1, 2, 4
_SOURCES_B = {Mem.ACC: AluSrcB.ACC, Mem.INP: AluSrcB.INP, Mem.QP: AluSrcB.QP, Mem.LUT: AluSrcB.LUT}
_BINARY = {tirx.Add: AluOp.ADD, tirx.Mul: AluOp.MUL}


class Operand:
    """An operand on chip: where it is and how it moves along the axes."""

    def __init__(self, nest: Nest, tree: TreeBuilder, buffer: Any, index: Any, *, word: int = LANES) -> None:
        self.home = tree.home(buffer)
        if self.home.mem is None:
            raise unmapped("an ALU operand that is not on chip", buffer)
        self.mem: Mem = self.home.mem
        self.nest, self.buffer, self.word = nest, buffer, word
        self.index: Linear = linear(index)
        self.signed = str(buffer.dtype) == "int8"
        if any(variables(atom) & nest.extents.keys() for _, atom in self.index.atoms):
            raise unmapped("the address of an ALU operand", index)

    def check_lane(self, stride: int) -> None:
        """The lane axis must move by ``stride`` elements."""
        found = self.index.of(self.nest.axes["lane"])
        if found != stride:
            raise unmapped("the lane stride of an ALU operand", found)

    def stride(self, axis: str, ranges: Ranges) -> int:
        """Words along an axis; 0 where the axis has one step."""
        var = self.nest.axes[axis]
        if ranges[var][1] - ranges[var][0] == 1:
            return 0
        stride = self.home.stride(self.index.of(var))
        if stride % self.word or stride < 0:
            raise unmapped(f"the stride of an ALU operand along {axis}", stride)
        return stride // self.word

    def start(self, env: Env, ranges: Ranges, memory: MemoryMap) -> int:
        """Word of the first element."""
        at = self.index.bind(env)
        if at.atoms:
            raise unmapped("the address of an ALU operand", at.atoms)
        first: int = self.home.at(at.const + sum(at.of(v) * ranges[v][0] for v in self.nest.extents))
        if first % self.word:
            raise unmapped("an ALU operand inside a word", first)
        return memory.of(self.buffer).start + first // self.word


class AluNest:
    """A nest of the vector unit."""

    def __init__(self, nest: Nest, tree: TreeBuilder) -> None:
        self.nest, self.tree = nest, tree
        self.imm: int | None = None
        if set(nest.axes.values()) != set(nest.extents):
            raise unmapped("an ALU nest with unmarked loops", list(nest.extents))
        axes = list(nest.axes)
        self.reduced = [a for a in axes if a in ("ky", "kx")]
        self.mapped = [a for a in axes if a not in ("n", "lane", "ky", "kx")][::-1]
        if nest.extents[nest.axes["lane"]] != LANES or nest.extents[nest.axes["n"]] != 1:
            raise unmapped("the lanes of an ALU nest", nest.extents)
        store = nest.stores[-1]
        self.dst = Operand(nest, tree, store.buffer, store.index)
        self.dst.check_lane(1)
        self.b: Operand | None = None
        self.flags = 0
        if self.reduced:
            self._match_reduction()
        else:
            self._match_elementwise(nest.only_store())
        self.a.check_lane(1)
        if self.a.signed:
            self.flags |= _SIGNED_SOURCE
        if self.dst.signed:
            self.flags |= _SIGNED_RESULT

    def _operand(self, load: Any, word: int = LANES) -> Operand:
        return Operand(self.nest, self.tree, load.source, load.indices[0], word=word)

    def _match_reduction(self) -> None:
        """dst = identity at the first step; dst = max(dst, a) or dst + a."""
        if len(self.nest.stores) != 2:
            raise unmapped("the body of a reduction", [s.value for s in self.nest.stores])
        init, step = self.nest.stores
        axes = self.nest.axes
        reduced = {axes[a] for a in self.reduced if self.nest.extents[axes[a]] > 1}
        value = step.value
        if not isinstance(value, (tirx.Max, tirx.Add)):
            raise unmapped("the step of a reduction", value)
        self.op = AluOp.MAX if isinstance(value, tirx.Max) else AluOp.ADD
        identity = 0
        if self.op is AluOp.MAX:
            identity = int(tvm.tirx.min_value(str(step.buffer.dtype)).value)
        own = isinstance(value.a, ir.TensorLoad) and hash(value.a.source) == hash(step.buffer)
        if (
            set(init.first) != reduced
            or not isinstance(init.value, tirx.IntImm)
            or int(init.value.value) != identity
            or not own
            or not isinstance(value.b, ir.TensorLoad)
            or not linear(value.a.indices[0]) == linear(step.index) == linear(init.index)
        ):
            raise unmapped("a reduction", value)
        self.a = self._operand(value.b)
        if (self.a.mem is Mem.ACC) != (self.dst.mem is Mem.ACC) or self.a.signed != self.dst.signed:
            raise unmapped("a reduction over other types", value)

    def _match_elementwise(self, store: Store) -> None:
        value = store.value
        sources = loads(value)
        words = [x for x in sources if self.tree.home(x.source).mem is Mem.QP]
        data = _distinct([x for x in sources if self.tree.home(x.source).mem is not Mem.QP])
        if words:
            self._match_requantisation(store, _distinct(words), data)
            return
        if len(data) == 1 and self.dst.mem is Mem.ACC and self._match_widening(value):
            return
        if self.dst.mem is not Mem.ACC and self._match_bytes(value):
            return
        if type(value) not in _BINARY or len(data) != 2 or self.dst.mem is not Mem.ACC:
            raise unmapped("an ALU operation", value)
        if not all(isinstance(x, ir.TensorLoad) for x in (value.a, value.b)):
            raise unmapped("an ALU operation", value)
        self.op, self.a, self.b = _BINARY[type(value)], self._operand(value.a), self._operand(value.b)
        self.b.check_lane(1)
        if self.a.mem is not Mem.ACC or self.b.mem is not Mem.ACC:
            raise unmapped("an operation on two values outside ACC", value)

    def _match_bytes(self, value: Any) -> bool:
        """8 bit to 8 bit: a copy, or table[byte of x]."""
        if not isinstance(value, ir.TensorLoad):
            return False
        self.op, source = AluOp.MOV, value
        if self.tree.home(value.source).mem is Mem.LUT:
            index, inner = value.indices[0], loads(value.indices[0])
            index = index.value if isinstance(index, tirx.Cast) else index
            want = inner[0].astype("int32") & tirx.const(_TABLE - 1, "int32") if inner else None
            if want is None or not tvm_ffi.structural_equal(want, index):
                raise unmapped("the index of a table", value)
            self.op, source = AluOp.LUT, inner[0]
            self.b = Operand(self.nest, self.tree, value.source, tirx.const(0, "int64"), word=_TABLE)
        self.a = self._operand(source)
        if self.a.mem not in (Mem.INP, Mem.OUT) or (self.b is None and self.a.signed != self.dst.signed):
            raise unmapped("a copy of bytes", value)
        return True

    def _match_widening(self, value: Any) -> bool:
        """int32(x) - zero point of 8-bit values on chip."""
        zero = 0
        if isinstance(value, (tirx.Sub, tirx.Add)) and isinstance(value.b, tirx.IntImm):
            zero = int(value.b.value) * (1 if isinstance(value, tirx.Sub) else -1)
            value = value.a
        if not isinstance(value, tirx.Cast) or not isinstance(value.value, ir.TensorLoad):
            return False
        self.a = self._operand(value.value)
        self.op, self.imm = (AluOp.SUB, zero) if zero else (AluOp.MOV, None)
        return self.a.mem in (Mem.INP, Mem.OUT)

    def _match_requantisation(self, store: Store, words: list[Any], data: list[Any]) -> None:
        """REQ or REQ32: the expression must be the one that the instruction computes."""
        if len(data) != 1 or len(words) != 2:
            raise unmapped("a requantisation", store.value)
        words.sort(key=lambda x: linear(x.indices[0]).const)
        (a,), (m0, packed) = data, words
        first, second = (self._operand(x, 4) for x in words)
        if second.index.const != first.index.const + 1 or second.index.coef != first.index.coef:
            raise unmapped("the words of a requantisation", store.value)
        dtype = str(store.buffer.dtype)
        if self.dst.mem is Mem.ACC:
            self.op, want = AluOp.REQ32, scale_words(a, m0, packed).astype("int32")
        else:
            self.op, want = AluOp.REQ, requantize_words(a, m0, packed, dtype)
        simplify = tvm.sym.Analyzer().simplify
        if not tvm_ffi.structural_equal(simplify(want), simplify(store.value)):
            raise unmapped("an expression that is not the requantisation", store.value)
        first.index.const -= 1
        lane = first.index.of(self.nest.axes["lane"])
        if lane == 4:
            self.flags |= _WORD_PER_LANE
        elif lane != 0:
            raise unmapped("the words of a requantisation", store.value)
        self.a, self.b = self._operand(a), first

    def emit(self, env: Env, memory: MemoryMap, stream: Stream) -> None:
        """Emit the ALU instructions of one iteration."""
        ranges = self.nest.ranges(env)
        if ranges is None:
            return
        if self.reduced:
            self._emit_reduction(env, ranges, memory, stream)
        else:
            self._emit(self.op, env, ranges, self.mapped, memory, stream, self.a, self.b)

    def _emit_reduction(self, env: Env, ranges: Ranges, memory: MemoryMap, stream: Stream) -> None:
        """One pass a window position; or, where there are fewer results, the window as inner loops."""
        axes = self.nest.axes
        ky, kx = (axes[a] for a in ("ky", "kx"))
        n_oy, n_ox = (ranges[axes[a]][1] - ranges[axes[a]][0] for a in ("oy", "ox"))
        n_ky, n_kx = ranges[ky][1], ranges[kx][1]
        if n_oy * n_ox + 1 < n_ky * n_kx and self.op is AluOp.ADD:
            self._emit_window(env, ranges, memory, stream)
            return
        for y in range(n_ky):
            for x in range(n_kx):
                at = ranges | {ky: (y, y + 1), kx: (x, x + 1)}
                if y == x == 0:
                    self._emit(AluOp.MOV, env, at, self.mapped, memory, stream, self.a, None)
                else:
                    self._emit(self.op, env, at, self.mapped, memory, stream, self.dst, self.a)

    def _emit_window(self, env: Env, ranges: Ranges, memory: MemoryMap, stream: Stream) -> None:
        axes = self.nest.axes
        ky, kx = (axes[a] for a in ("ky", "kx"))
        start = ranges | {ky: (0, 1), kx: (0, 1)}
        # 0 * x, since nothing else writes a constant.
        self._emit(AluOp.MUL, env, start, self.mapped, memory, stream, self.a, None)
        blocks = next(a for a in self.mapped if a not in ("oy", "ox"))
        for y in range(*ranges[axes["oy"]]):
            for x in range(*ranges[axes["ox"]]):
                at = ranges | {axes["oy"]: (y, y + 1), axes["ox"]: (x, x + 1)}
                self._emit(self.op, env, at, ["kx", "ky", blocks], memory, stream, self.dst, self.a)

    def _emit(
        self,
        op: AluOp,
        env: Env,
        ranges: Ranges,
        order: list[str],
        memory: MemoryMap,
        stream: Stream,
        a: Operand,
        b: Operand | None,
    ) -> None:
        """One instruction; ``order`` names its axes, innermost first."""
        fields = {
            "flags": self.flags,
            "op": int(op),
            "a_mem": int(a.mem),
            "b_src": int(AluSrcB.NONE if b is None else _SOURCES_B[b.mem]),
            "dst_mem": int(self.dst.mem),
        }
        if op is AluOp.MUL and b is None:
            fields["b_src"] = int(AluSrcB.IMM)
        if self.imm is not None:
            fields |= {"b_src": int(AluSrcB.IMM), "imm": self.imm}
        extents = [ranges[self.nest.axes[axis]] for axis in order]
        for i in range(3):
            fields[f"n{i}"] = extents[i][1] - extents[i][0] if i < len(order) else 1
        touched: dict[str, Access] = {}
        for name, operand in (("dst", self.dst), ("a", a), ("b", b)):
            if operand is None:
                continue
            first = operand.start(env, ranges, memory)
            fields[name] = first
            last = first
            for i, axis in enumerate(order):
                stride = operand.stride(axis, ranges)
                fields[f"{name}_s{i}"] = stride
                last += stride * (fields[f"n{i}"] - 1)
            if operand.mem is Mem.QP and self.flags & _WORD_PER_LANE:
                last += LANES - 1
            touched[name] = Access(operand.mem, first, last + 1)
        dst = touched.pop("dst")
        stream.emit("ALU", fields, touched.values(), [dst])


def _distinct(nodes: list[Any]) -> list[Any]:
    """Nodes that differ in structure, in order."""
    out: list[Any] = []
    for node in nodes:
        if not any(tvm_ffi.structural_equal(node, seen) for seen in out):
            out.append(node)
    return out
