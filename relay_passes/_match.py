"""Which bindings of a graph become one integer layer, and in which of the modes.

A group is a head (convolution, dense, addition, pooling, activation) and the bias and activations that
follow it and that nothing else reads. Every other binding is a group of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sd_tvm._tvm import relax
from sd_tvm.relay_passes import _interleave
from sd_tvm.relay_passes._integer import NO_BOUNDS, Bounds
from sd_tvm.relay_passes._layout import Layout
from sd_tvm.relay_passes._rewrite import Expr, _vars_in, constant, is_call, static_shape
from sd_tvm.relay_passes._unary import make_table, match_function
from sd_tvm.relay_passes.legality import Node, Role, check, clip_bounds
from sd_tvm.weights.tensor import Weight

Mode = Literal["keep", "cpu", "view", "move", "q8", "i32", "dynamic"]
#: keep: no call, or a weight; cpu: float32; view: no code; move: a view whose 8-bit values the host orders
#: anew; q8: 8 bit in and out; i32: 8 bit in, the host
#: scales the int32 sums; dynamic: as i32, the input's scale is computed at run time.
INTEGER: tuple[Mode, ...] = ("q8", "i32", "dynamic")

_WITH_TAIL: tuple[Role, ...] = ("conv", "dense", "matmul", "add", "activation", "pool", "mul", "concat")
#: Roles all of whose operands are activations.
_ALL_OPERANDS: tuple[Role, ...] = ("add", "matmul", "mul", "concat")


@dataclass
class Group:
    """Consecutive bindings of one layer.

    Attributes
    ----------
    members
        (variable, value), head first.
    role
        Role of the head; None where it has none.
    bias
        float32 (M,), when the second member adds it.
    bounds
        Real range of the activations after it.
    gain
        Real factor of a product, when the members after the head multiply it.
    weight
        (layer name, weight) of a convolution or dense layer.
    interleave
        What a depth to space does.
    mode, reason
        How it runs, and why not better.
    table
        Table of a function of one value, given the quantisation of argument and result, and a name.
    layouts, layout
        How each input and the result lie in memory, settled with the mode.
    """

    members: list[tuple[Expr, Expr]]
    role: Role | None = None
    bias: npt.NDArray[np.float32] | None = None
    bounds: Bounds = NO_BOUNDS
    gain: float = 1.0
    weight: tuple[str, Weight] | None = None
    interleave: _interleave.Interleave | None = None
    mode: Mode = "keep"
    reason: str = ""
    inputs: list[Expr] = field(default_factory=list)
    table: Callable[..., npt.NDArray[Any]] | None = None
    layouts: list[Layout] = field(default_factory=list)
    layout: Layout | None = None

    @property
    def head(self) -> Expr:
        """The first call."""
        return self.members[0][1]

    @property
    def tail(self) -> Expr:
        """Variable of the result."""
        return self.members[-1][0]

    @property
    def n_linear(self) -> int:
        """Members before the activations: the head, and the bias."""
        return 1 if self.bias is None else 2


def bias_of(
    value: Expr, var: Expr, values: Mapping[Expr, Expr], axis: int = 1
) -> npt.NDArray[np.float32] | None:
    """float32 (M,) if ``value`` adds a constant a channel (along ``axis``) to ``var``, else None."""
    if not is_call(value, "relax.add"):
        return None
    a, b = value.args
    other = b if a.same_as(var) else a
    shape, array = static_shape(var), constant_of(other, values)
    if shape is None or array is None or array.dtype != np.float32 or array.ndim > len(shape):
        return None
    full = (1,) * (len(shape) - array.ndim) + array.shape
    axis %= len(shape)
    if any(n != 1 for i, n in enumerate(full) if i != axis) or full[axis] not in (1, shape[axis]):
        return None
    return np.ascontiguousarray(np.broadcast_to(array.reshape(-1), (shape[axis],)))


def factor_of(value: Expr, var: Expr) -> float | None:
    """Positive number that ``value`` multiplies ``var`` with, else None."""
    if not is_call(value, "relax.multiply", "relax.divide"):
        return None
    a, b = value.args
    if a.same_as(var):
        other = constant(b)
    else:
        other = constant(a) if is_call(value, "relax.multiply") and b.same_as(var) else None
    if other is None or other.size != 1 or not np.isfinite(other).all() or float(other.reshape(())) <= 0:
        return None
    number = float(other.reshape(()))
    return number if is_call(value, "relax.multiply") else 1.0 / number


def constant_of(expr: Expr, values: Mapping[Expr, Expr]) -> npt.NDArray[Any] | None:
    """Value of a constant, also behind a reshape."""
    value = values.get(expr, expr)
    if is_call(value, "relax.reshape"):
        array, shape = constant_of(value.args[0], values), static_shape(value)
        return None if array is None or shape is None else array.reshape(shape)
    return constant(value)


class Matcher:
    """Groups of the bindings of one block.

    Parameters
    ----------
    bindings
        (variable, value) in order; value None for what is no plain binding.
    uses
        Variable -> number of uses in the whole function.
    weights
        Variable -> (layer name, weight) of rebuilt weights, also behind reshapes.
    values
        Variable -> value, of every binding of the function.
    """

    def __init__(
        self,
        bindings: Sequence[tuple[Expr, Expr]],
        uses: Mapping[Expr, int],
        weights: Mapping[Expr, tuple[str, Weight]],
        values: Mapping[Expr, Expr],
    ) -> None:
        self.bindings = bindings
        self.uses = uses
        self.weights = weights
        self.values = values
        self.consumer: dict[Expr, tuple[Expr, Expr]] = {}
        for var, value in bindings:
            for used in _vars_in(value):
                self.consumer[used] = (var, value)

    def groups(self) -> list[Group]:
        """Groups in the order of their results."""
        taken: set[Expr] = set()
        at_tail: dict[Expr, Group] = {}
        for index, (var, value) in enumerate(self.bindings):
            if var not in taken:
                group = self._group(index, var, value)
                taken.update(v for v, _ in group.members)
                at_tail[group.tail] = group
        return [at_tail[var] for var, _ in self.bindings if var in at_tail]

    def _group(self, index: int, var: Expr, value: Expr) -> Group:
        if not isinstance(value, relax.Call) or var in self.weights or self._is_constant(var):
            return Group([(var, value)])
        function = match_function(self.bindings, index, self.uses, self.values)
        if function is not None:
            source, members = function
            table = partial(make_table, members, source, self.values)
            return Group(members, "lut", mode="q8", inputs=[source], table=table)
        phases = _interleave.match(var, value, self.uses, self.consumer)
        if phases is not None:
            inputs = [value.args[0]]
            return Group(phases.members, "interleave", mode="q8", inputs=inputs, interleave=phases)
        weight = self.weights.get(value.args[1]) if len(value.args) > 1 else None
        row, reason = check(Node(value, var, weight is not None))
        if row is None or reason:
            return Group([(var, value)], row.role if row else None, mode="cpu", reason=reason)
        inputs = Node(value, var).inputs if row.role in _ALL_OPERANDS else list(value.args[:1])
        if row.role == "lut":
            return Group([(var, value)], "lut", mode="cpu", reason="its operand is no variable")
        if row.role == "mul":  # the tensor with all pixels comes first
            inputs.sort(key=lambda v: -math.prod(static_shape(v) or ()))
        group = Group([(var, value)], row.role, weight=weight, mode="q8", inputs=inputs)
        if row.role == "activation":
            group.bounds = clip_bounds(value)
        if row.role in _WITH_TAIL and value.op.name != "relax.nn.max_pool2d":
            self._follow(group)
        return group

    def _is_constant(self, var: Expr) -> bool:
        return constant_of(var, self.values) is not None

    def _follow(self, group: Group) -> None:
        """Take the bias and activations that only this group feeds."""
        while self.uses.get(group.tail, 0) == 1 and group.tail in self.consumer:
            var, value = self.consumer[group.tail]
            if group.role in ("conv", "dense") and len(group.members) == 1:
                axis = -1 if group.role == "dense" else 1
                bias = bias_of(value, group.tail, self.values, axis)
                if bias is not None:
                    group.bias = bias
                    group.members.append((var, value))
                    continue
            if not isinstance(value, relax.Call):
                return
            factor = factor_of(value, group.tail) if group.role == "matmul" else None
            if factor is not None and group.bounds == NO_BOUNDS:
                group.gain *= factor
                group.members.append((var, value))
                continue
            row, reason = check(Node(value, var))
            if row is None or row.role != "activation" or reason:
                return
            low, high = clip_bounds(value)
            clipped = (min(max(group.bounds[0], low), high), min(max(group.bounds[1], low), high))
            group.bounds = clipped
            group.members.append((var, value))
