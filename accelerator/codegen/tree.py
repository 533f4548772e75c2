"""The lowered function as a small tree: outer loops, buffers, nests that become instructions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sd_tvm._tvm import ir, tirx
from sd_tvm.accelerator.codegen.binding import Home
from sd_tvm.accelerator.codegen.expr import (
    Env,
    Key,
    Linear,
    Ranges,
    at_least_zero,
    conjunction,
    narrow,
    unmapped,
)
from sd_tvm.accelerator.codegen.scopes import memory_of
from sd_tvm.schedules.accel import marks
from sd_tvm.schedules.accel.pipeline import ORDER, STAGE


@dataclass(frozen=True)
class Store:
    """One store of a nest. ``first`` holds the variables that must be zero (reduction start)."""

    buffer: Any
    index: Any
    value: Any
    first: tuple[Key, ...] = ()


@dataclass
class Nest:
    """A marked loop nest.

    Attributes
    ----------
    intrin
        Mark of the nest.
    extents
        Extent of each own loop, outermost first.
    axes
        Loop variable of each marked axis.
    guards
        Linear forms that are >= 0 where the body runs.
    stores
        The body.
    """

    intrin: str
    extents: dict[Key, int] = field(default_factory=dict)
    axes: dict[str, Key] = field(default_factory=dict)
    guards: list[Linear] = field(default_factory=list)
    stores: list[Store] = field(default_factory=list)

    def ranges(self, env: Env) -> Ranges | None:
        """Range of each own loop in one iteration of the outer loops, None if nothing runs."""
        out: Ranges = {v: (0, n) for v, n in self.extents.items()}
        for guard in self.guards:
            if not narrow(out, guard, env):
                return None
        return out

    def only_store(self) -> Store:
        """The store of a body that has one.

        Raises
        ------
        CodegenError
            If it has several, or starts a reduction.
        """
        if len(self.stores) != 1 or self.stores[0].first:
            raise unmapped(f"the body of a {self.intrin} nest", [s.value for s in self.stores])
        return self.stores[0]


@dataclass
class Loop:
    """An outer loop, which the code generator iterates.

    Attributes
    ----------
    var, extent, body
        As in TensorIR.
    stages
        Pipeline stage of each statement of the body, buffers aside; empty: no pipeline.
    """

    var: Key
    extent: int
    body: list[Any]
    stages: tuple[int, ...] = ()


@dataclass
class Alloc:
    """A buffer that starts to live here."""

    buffer: Any


def _body(stmt: Any) -> list[Any]:
    return list(stmt.seq) if isinstance(stmt, tirx.SeqStmt) else [stmt]


def _extent(loop: Any) -> int:
    if not isinstance(loop.extent, tirx.IntImm) or int(loop.min) != 0:
        raise unmapped("a loop", f"{loop.loop_var} from {loop.min}, {loop.extent} times")
    return int(loop.extent)


def _stages(loop: Any, body: list[Any]) -> tuple[int, ...]:
    """The software pipeline of a loop."""
    if STAGE not in loop.annotations:
        return ()
    stages = tuple(int(s) for s in loop.annotations[STAGE])
    order = [int(i) for i in loop.annotations.get(ORDER, range(len(stages)))]
    statements = sum(not isinstance(child, Alloc) for child in body)
    if len(stages) != statements or order != list(range(statements)):
        raise unmapped(f"a pipeline of {statements} statements", f"stages {stages}, order {order}")
    return stages


class TreeBuilder:
    """Builds the tree of a lowered function; collects the views of its parameters."""

    def __init__(self, func: Any, homes: Sequence[Home] = (), packed: int | None = None) -> None:
        self.func = func  # keeps alive what the keys stand for
        self.params = list(func.params)
        #: Parameter with 4 channels a pixel.
        self.packed = packed
        #: Index of the operand that a (view of a) parameter belongs to.
        self.segments: dict[Key, int] = {hash(p): i for i, p in enumerate(self.params)}
        self.homes = [*homes, *[Home()] * (len(self.params) - len(homes))]
        self.root = self._statements(func.body)

    def home(self, buffer: Any) -> Home:
        """Place of a buffer: that of its parameter, or the memory of its scope."""
        param = self.segments.get(hash(buffer))
        return Home(memory_of(buffer)) if param is None else self.homes[param]

    def _statements(self, stmt: Any) -> list[Any]:
        out: list[Any] = []
        for s in _body(stmt):
            if isinstance(s, tirx.DeclBuffer):
                self._view(s)
            elif isinstance(s, tirx.AllocBuffer):
                out.append(Alloc(s.buffer))
            elif isinstance(s, tirx.For) and marks.INTRIN in s.annotations:
                nest = Nest(str(s.annotations[marks.INTRIN]))
                self._nest(s, nest, ())
                out.append(nest)
            elif isinstance(s, tirx.For):
                body = self._statements(s.body)
                out.append(Loop(hash(s.loop_var), _extent(s), body, _stages(s, body)))
            else:
                raise unmapped("a statement outside the marked nests", type(s).__name__)
        return out

    def _view(self, decl: Any) -> None:
        data = decl.data
        source = data.args[0] if isinstance(data, ir.Call) and len(data.args) == 1 else None
        if source is None or hash(source) not in self.segments:
            raise unmapped("a view of something that is no operand", decl.buffer)
        self.segments[hash(decl.buffer)] = self.segments[hash(source)]

    def _nest(self, stmt: Any, nest: Nest, first: tuple[Key, ...]) -> None:
        for s in _body(stmt):
            if isinstance(s, tirx.For):
                nest.extents[hash(s.loop_var)] = _extent(s)
                if marks.AXIS in s.annotations:
                    nest.axes[str(s.annotations[marks.AXIS])] = hash(s.loop_var)
                self._nest(s.body, nest, first)
            elif isinstance(s, tirx.IfThenElse) and s.else_case is None:
                starts = self._start(s.condition, nest)
                if starts is None:
                    if len(_body(stmt)) > 1:
                        raise unmapped("a guard that covers half a body", s.condition)
                    nest.guards.extend(at_least_zero(s.condition))
                    self._nest(s.then_case, nest, first)
                else:
                    self._nest(s.then_case, nest, starts)
            elif isinstance(s, tirx.BufferStore) and len(s.indices) == 1:
                nest.stores.append(Store(s.buffer, s.indices[0], s.value, first))
            else:
                raise unmapped("a statement in a marked nest", type(s).__name__)

    @staticmethod
    def _start(condition: Any, nest: Nest) -> tuple[Key, ...] | None:
        """Variables that a condition ``a == 0 and b == 0`` names, None if it is another one."""
        found = []
        for term in conjunction(condition):
            if not isinstance(term, tirx.EQ) or hash(term.a) not in nest.extents or int(term.b) != 0:
                return None
            found.append(hash(term.a))
        return tuple(found)
