"""Functions that compute every element by itself, in vectors, for any processor.

TVM's default is one element at a time, with the divisions that reshapes leave in the indices. Here all stages
are inlined into the last one, its inner axis is cut into vectors, and indices are simplified with what the
loops then say. No value is computed otherwise than before.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from typing import Any

from sd_tvm._tvm import (
    ir,
    ir_builder,
    s_tir,
    structural_equal,
    structural_map,
    structural_walk,
    te,
    tirx,
    tvm,
)
from sd_tvm.schedules.cpu.plain import IF, called_name, fenced, is_known, is_plain, only_moves
from sd_tvm.schedules.cpu.vec import Buffer, Expr, flat, i64, t
from sd_tvm.schedules.ops.tir import with_attrs

#: Elements of a vector: the first that an axis is a multiple of, else the first that it is as long as.
_LANES = (16, 8)
#: Loads of the one expression that is left; beyond, stages share so much that they better stay apart.
_LOADS = 64
#: TVM's iteration type of an axis that is no sum.
_SPATIAL = 0
#: Operands of a copy.
_COPY = 2
#: Functions that TVM does not vectorise although LLVM has them for vectors.
_OF_LLVM = {"tirx.nearbyint": "llvm.nearbyint"}

Axes = tuple[tuple[Any, int], ...]
Lines = tuple[tuple[Buffer, Buffer], ...]


def vectorize_injective(func: Any) -> Any | None:
    """The same function in vectors: same operands and attributes, same values to the bit.

    Parameters
    ----------
    func
        ``PrimFunc`` of TE stages with static shapes and one result.

    Returns
    -------
    tvm.tirx.PrimFunc or None
        None if a stage sums up or is no plain assignment, if :mod:`sd_tvm.schedules.cpu.plain` does not know
        what it computes, or nothing in the function can be a vector.
    """
    stage = _only_stage(func)
    if stage is None:
        return None
    copied = _copied(stage)
    if copied is not None:
        return with_attrs(_reshape(copied, stage), func)
    parts = _vectors(stage, whole=True) or _vectors(_one_axis(stage)) or _vectors(stage)
    return None if parts is None else _emit(func, parts)


@dataclass(frozen=True)
class _Stage:
    """``out[at] = value`` for all values of ``axes``, pairs of a variable and its extent.

    Indices are flat: ``lines`` are pairs of an operand and the one axis that stands for it, as ``out`` does.
    """

    axes: Axes
    lines: Lines
    out: Buffer
    at: Expr
    value: Expr

    def put(self, places: dict[Any, Expr], axes: Axes) -> _Stage:
        """The stage over other axes, which give the present ones their values."""
        at, value = (_placed(e, places) for e in (self.at, self.value))
        return _simple(_Stage(axes, self.lines, self.out, at, value))

    def loads(self) -> list[Any]:
        """Loads of the value; those of indices too."""
        return _found(self.value, ir.TensorLoad)


@dataclass(frozen=True)
class _Part:
    """A stage whose last axis is a vector, or (``is_vector`` False) one that runs one by one."""

    stage: _Stage
    is_vector: bool


def _found(node: Any, kind: Any, order: str = "post") -> list[Any]:
    """Nodes of a type, as often as they stand there."""
    out: list[Any] = []
    structural_walk(node, (kind, out.append), order=order)
    return out


def _placed(expr: Expr, places: dict[Any, Expr]) -> Expr:
    """An expression with others in the place of variables."""
    return structural_map(expr, (ir.Var, lambda v: places.get(v, v)))


def _only_stage(func: Any) -> _Stage | None:
    """The stage that is left when all others are inlined; None if there is not exactly one."""
    if not isinstance(func.body, s_tir.stmt.SBlockRealize) or not all(_is_dense(p) for p in func.params):
        return None
    if not is_plain(func):
        return None
    _, *realized = _found(func.body, s_tir.stmt.SBlockRealize, "pre")
    blocks = [r.block for r in realized]
    if not all(_is_assignment(b) for b in blocks) or len(_found(func.body, tirx.BufferStore)) != len(blocks):
        return None
    results = [b for b in blocks if any(b.body.buffer.same_as(p) for p in func.params)]
    if len(results) != 1 or any(_is_shared(b, results[0]) for b in blocks):
        return None
    value = _inlined(blocks, results[0])
    if value is None or any(
        load.source.same_as(results[0].body.buffer) for load in _found(value, ir.TensorLoad)
    ):
        return None
    lines = tuple((p, tirx.decl_buffer((i64(_size(p)),), p.dtype, p.name)) for p in func.params)
    value = structural_map(value, (ir.TensorLoad, lambda load: _flat_load(load, lines)))
    out, axes = results[0].body.buffer, _axes(results[0])
    at = _flat_index(out, results[0].body.indices)
    return _simple(_Stage(axes, lines, _line(out, lines), at, value))


def _inlined(blocks: Sequence[Any], last: Any) -> Expr | None:
    """Value of a block, computed from the operands alone; None if a block before it cannot be inlined."""
    done: list[tuple[Buffer, Any, Expr]] = []
    for block in blocks:
        buffer, axes, value = block.body.buffer, _axes(block), block.body.value
        if not is_known(value):
            return None
        moves = only_moves(value)
        lost: list[Any] = []

        def load(node: Any, moves: bool = moves, lost: list[Any] = lost) -> Any:
            for known, at, computed in done:
                if node.source.same_as(known):
                    apart = computed if moves else fenced(computed)
                    if apart is None:
                        lost.append(node)
                        return node
                    return _placed(apart, {v: i for (v, _), i in zip(at, node.indices, strict=True)})
            return node

        value = structural_map(value, (ir.TensorLoad, load))
        if lost or len(_found(value, ir.TensorLoad)) > _LOADS:
            return None
        if block.same_as(last):
            return value
        whole = [extent for _, extent in axes] == [int(n) for n in buffer.shape]
        if not whole or not all(v.same_as(i) for (v, _), i in zip(axes, block.body.indices, strict=True)):
            return None
        done.append((buffer, axes, value))
    return None


def _axes(block: Any) -> Axes:
    return tuple((axis.var, int(axis.dom.extent)) for axis in block.iter_vars)


def _is_dense(param: Any) -> bool:
    """Whether an operand is a dense tensor of a static shape that has elements."""
    if not isinstance(param.ty, tirx.BufferType) or len(param.strides) or not _is_number(param.elem_offset):
        return False
    return all(_is_number(n) and int(n) for n in param.shape) and int(param.elem_offset) == 0


def _is_number(expr: Expr) -> bool:
    return isinstance(expr, tirx.IntImm)


def _is_assignment(block: Any) -> bool:
    """Whether a block writes each element once, from 0 on along every axis."""
    return (
        isinstance(block.body, tirx.BufferStore)
        and block.init is None
        and not block.match_buffers
        and all(
            axis.iter_type == _SPATIAL
            and _is_number(axis.dom.min)
            and _is_number(axis.dom.extent)
            and int(axis.dom.min) == 0
            for axis in block.iter_vars
        )
    )


def _is_shared(block: Any, last: Any) -> bool:
    """Whether many elements of the result need one of a block that calls a function for it."""
    calls = [c for c in _found(block.body.value, ir.Call) if called_name(c) != IF]
    return bool(calls) and _size(block.body.buffer) < _size(last.body.buffer)


def _size(buffer: Buffer) -> int:
    return prod(int(n) for n in buffer.shape)


def _flat_index(buffer: Buffer, indices: Sequence[Expr]) -> Expr:
    at: Expr = i64(0)
    for index, extent in zip(indices, buffer.shape, strict=True):
        at = at * extent + index.astype("int64")
    return at


def _line(buffer: Buffer, lines: Lines) -> Buffer:
    """The one axis that stands for an operand."""
    return next(line for param, line in lines if param.same_as(buffer))


def _flat_load(load: Any, lines: Lines) -> Any:
    return _line(load.source, lines)[_flat_index(load.source, load.indices)]


def _simple(stage: _Stage) -> _Stage:
    """The stage with its indices and conditions simplified for the ranges of its axes; numbers stay alone."""
    know = tvm.sym.Analyzer()
    for var, extent in stage.axes:
        know.bind(var, ir.Range(i64(0), i64(extent)))

    def load(node: Any) -> Any:
        return node.source[know.simplify(node.indices[0])]

    def branch(call: Any) -> Any:
        if called_name(call) != IF:
            return call
        condition, then, other = call.args
        condition = know.simplify(condition)
        if _is_number(condition):
            return then if int(condition) else other
        return tirx.if_then_else(condition, then, other)

    value = structural_map(stage.value, ((ir.TensorLoad, load), (ir.Call, branch)))
    return _Stage(stage.axes, stage.lines, stage.out, know.simplify(stage.at), value)


def _one_axis(stage: _Stage) -> _Stage:
    """The stage with all its axes counted through by one."""
    total = prod(extent for _, extent in stage.axes)
    at, below, places = _axis("at"), total, {}
    for var, extent in stage.axes:
        below //= extent
        places[var] = tirx.floormod(tirx.floordiv(at, i64(below)), i64(extent))
    return stage.put(places, ((at, total),))


def _axis(name: str) -> Any:
    return tirx.Var(name, "int64")


def _vectors(stage: _Stage, *, whole: bool = False) -> list[_Part] | None:
    """Parts of a stage along its inner axis, what is no vector last; None if lanes are not evenly apart.

    ``whole``: only if the axis is a multiple of a vector.
    """
    inner = next((i for i in reversed(range(len(stage.axes))) if stage.axes[i][1] > 1), None)
    if inner is None:
        return None
    var, extent = stage.axes[inner]
    lanes = next((n for n in _LANES if extent % n == 0), None)
    if lanes is None:
        lanes = None if whole else next((n for n in _LANES if extent >= n), None)
    if lanes is None:
        return None
    outer, vector, lane = (*stage.axes[:inner], *stage.axes[inner + 1 :]), _axis("vector"), _axis("lane")
    axes = (*outer, (vector, extent // lanes), (lane, lanes))
    parts = _peeled(stage.put({var: vector * i64(lanes) + lane}, axes))
    done = extent // lanes * lanes
    if parts is not None and done < extent:
        tail = stage.put({var: lane + i64(done)}, (*outer, (lane, extent - done)))
        parts.append(_Part(tail, is_vector=False))
    return parts


def _peeled(stage: _Stage) -> list[_Part] | None:
    """One part, or two if conditions change only at the end of an outer axis (lanes beyond channels)."""
    if _is_regular(stage):
        return [_Part(stage, is_vector=True)]
    for i, (var, extent) in enumerate(stage.axes[:-1]):
        if extent == 1:
            continue
        first = (*stage.axes[:i], (var, extent - 1), *stage.axes[i + 1 :])
        most = stage.put({}, first)
        if _is_regular(most):
            rest = stage.put({var: i64(extent - 1)}, (*stage.axes[:i], *stage.axes[i + 1 :]))
            return [_Part(most, is_vector=True), _Part(rest, is_vector=False)]
    return None


def _is_regular(stage: _Stage) -> bool:
    """Whether indices grow evenly along the last axis, by one in the result, and conditions do not change."""
    lane, lanes = stage.axes[-1]
    know = tvm.sym.Analyzer()
    for var, extent in (*stage.axes[:-1], (lane, lanes - 1)):
        know.bind(var, ir.Range(i64(0), i64(extent)))

    def step(index: Expr) -> Expr:
        return know.simplify(_placed(index, {lane: lane + i64(1)}) - index)

    if not all(_is_number(step(load.indices[0])) for load in stage.loads()):
        return False
    by = step(stage.at)
    conditions = [c.args[0] for c in _found(stage.value, ir.Call) if called_name(c) == IF]
    changes = any(v.same_as(lane) for c in conditions for v in _found(c, ir.Var))
    return _is_number(by) and int(by) == 1 and not changes


def _emit(func: Any, parts: Sequence[_Part]) -> Any:
    """PrimFunc of the parts, one after the other."""
    with ir_builder.IRBuilder() as frame, t.prim_func(s_tir=True):
        t.func_name("main")
        operands = [t.arg(p.name, t.Buffer(p.shape, p.dtype)) for p in func.params]
        with t.sblock("root"):  # which TVM expects of a function of one operand
            lines = [flat(o, _size(o), o.dtype) for o in operands]
            for part in parts:
                _loops(part, lines)
    return with_attrs(frame.get(), func)


def _copied(stage: _Stage) -> Buffer | None:
    """The operand of which the result is a copy; None if it is none."""
    value = stage.value
    if not isinstance(value, ir.TensorLoad) or str(value.source.dtype) != str(stage.out.dtype):
        return None
    operands = [param for param, line in stage.lines if line.same_as(value.source)]
    same = _size(value.source) == _size(stage.out) and structural_equal(value.indices[0], stage.at)
    return operands[0] if same and len(stage.lines) == _COPY else None


def _reshape(operand: Buffer, stage: _Stage) -> Any:
    """The copy as one stage, which TVM sees to be a view of its operand, so that nothing is moved."""
    (out,) = (param for param, line in stage.lines if line.same_as(stage.out))
    x = te.placeholder(operand.shape, operand.dtype, name="x")

    def body(*at: Expr) -> Expr:
        left, places = _flat_index(out, at), []
        for extent in reversed(x.shape):
            places.append(tirx.floormod(left, extent))
            left = tirx.floordiv(left, extent)
        return x[tuple(reversed(places))]

    return te.create_prim_func([x, te.compute(out.shape, body, name="reshape")])


def _loops(part: _Part, lines: Sequence[Buffer]) -> None:
    stage = part.stage
    real = tuple((line, lines[i]) for i, (_, line) in enumerate(stage.lines))
    places: dict[Any, Expr] = {}
    with ExitStack() as nest:
        for i, (var, extent) in enumerate(stage.axes):
            vector = part.is_vector and i == len(stage.axes) - 1
            loop = t.vectorized if vector else t.serial
            places[var] = i64(0) if extent == 1 else nest.enter_context(loop(i64(extent)))
        at, value = (_placed(e, places) for e in (stage.at, stage.value))
        value = structural_map(
            value, ((ir.TensorLoad, lambda n: _line(n.source, real)[n.indices[0]]), (ir.Call, _of_llvm))
        )
        t.buffer_store(_line(stage.out, real), value, [at])


def _of_llvm(call: Any) -> Any:
    """LLVM's own name for what TVM would compute one lane after the other."""
    name = _OF_LLVM.get(called_name(call))
    return call if name is None else tirx.call_llvm_pure_intrin(str(call.ty.dtype), name, *call.args)
