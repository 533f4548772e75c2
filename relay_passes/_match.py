"""Which bindings of a graph become one integer layer, and in which of the modes.

A group is a head (convolution, dense, addition, pooling, activation) and the bias and activations that
follow it and that nothing else reads. Every other binding is a group of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sd_tvm._tvm import relax
from sd_tvm.relay_passes import _layout
from sd_tvm.relay_passes._integer import NO_BOUNDS, Bounds
from sd_tvm.relay_passes._layout import Layout
from sd_tvm.relay_passes._rewrite import Expr, _vars_in, constant, is_call, static_shape
from sd_tvm.relay_passes.legality import Node, Role, check, clip_bounds
from sd_tvm.weights.tensor import Weight

Mode = Literal["keep", "cpu", "view", "q8", "i32", "dynamic"]
#: keep: no call, or a weight; cpu: float32; view: no code; q8: 8 bit in and out; i32: 8 bit in, the host
#: scales the int32 sums; dynamic: as i32, the input's scale is computed at run time.
INTEGER: tuple[Mode, ...] = ("q8", "i32", "dynamic")

_WITH_TAIL: tuple[Role, ...] = ("conv", "dense", "add", "activation", "pool")


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
    weight
        (layer name, weight) of a convolution or dense layer.
    mode, reason
        How it runs, and why not better.
    layouts, layout
        How each input and the result lie in memory, settled with the mode.
    """

    members: list[tuple[Expr, Expr]]
    role: Role | None = None
    bias: npt.NDArray[np.float32] | None = None
    bounds: Bounds = NO_BOUNDS
    weight: tuple[str, Weight] | None = None
    mode: Mode = "keep"
    reason: str = ""
    inputs: list[Expr] = field(default_factory=list)
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
        for var, value in self.bindings:
            if var not in taken:
                group = self._group(var, value)
                taken.update(v for v, _ in group.members)
                at_tail[group.tail] = group
        return [at_tail[var] for var, _ in self.bindings if var in at_tail]

    def _group(self, var: Expr, value: Expr) -> Group:
        if not isinstance(value, relax.Call) or var in self.weights or self._is_constant(var):
            return Group([(var, value)])
        weight = self.weights.get(value.args[1]) if len(value.args) > 1 else None
        row, reason = check(Node(value, var, weight is not None))
        if row is None or reason:
            return Group([(var, value)], row.role if row else None, mode="cpu", reason=reason)
        n_inputs = 2 if row.role == "add" else 1
        group = Group([(var, value)], row.role, weight=weight, mode="q8", inputs=list(value.args[:n_inputs]))
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
            row, reason = check(Node(value, var))
            if row is None or row.role != "activation" or reason:
                return
            low, high = clip_bounds(value)
            clipped = (min(max(group.bounds[0], low), high), min(max(group.bounds[1], low), high))
            group.bounds = clipped
            group.members.append((var, value))


def choose_modes(groups: Iterable[Group], calibrated: set[str]) -> None:
    """Settle the mode of every group of a block.

    Parameters
    ----------
    groups
        In order; those that may be integer have mode ``q8``.
    calibrated
        Names of the variables whose range is known.
    """
    ordered = list(groups)
    wishes = layout_wishes(ordered)
    quantised: dict[Expr, Layout] = {}
    for group in ordered:
        if group.mode == "q8":
            plan_layout(group, quantised, wishes)
            _choose(group, quantised, calibrated)
            if group.mode in ("q8", "view") and group.layout is not None:
                quantised[group.tail] = group.layout
                for var, layout in zip(group.inputs, group.layouts, strict=True):
                    quantised.setdefault(var, layout)
    needed: set[Expr] = set()  # read in 8 bit, or by a float32 operator
    for group in reversed(ordered):
        if group.mode == "view" and group.tail not in needed:
            group.mode, group.reason = "cpu", "reads a float32 result"
        elif group.mode != "keep":
            linear = group.role in ("conv", "dense") and group.bounds == NO_BOUNDS
            if group.mode == "q8" and linear and group.tail not in needed:
                group.mode, group.reason = "i32", "a result of the graph: the host scales its int32 sums"
            needed.update(v for _, value in group.members for v in _vars_in(value))


def _choose(group: Group, quantised: Mapping[Expr, Layout], calibrated: set[str]) -> None:
    def known(var: Expr) -> bool:
        return var in quantised or getattr(var, "name", None) in calibrated

    missing = [v for v in group.inputs if not known(v)]
    result_known = str(group.tail.name) in calibrated or group.head.op.name == "relax.nn.max_pool2d"
    if group.role == "view":
        before, after = static_shape(group.inputs[0]), static_shape(group.tail)
        if group.inputs[0] not in quantised:
            group.mode, group.reason = "cpu", "reads a float32 value"
        elif group.layout is None:
            group.mode, group.reason = "cpu", f"{before} -> {after} moves data"
        else:
            group.mode = "view"
    elif group.role in ("conv", "dense"):
        if missing:
            group.mode = "dynamic"
            group.reason = "no calibration: the input's scale is computed at run time"
        elif not result_known:
            group.mode, group.reason = "i32", "no calibration of the result: the host scales int32 sums"
    elif missing or not result_known:
        names = [str(v.name) for v in missing] or [str(group.tail.name)]
        group.mode, group.reason = "cpu", f"no calibration of {', '.join(names)}"


#: Roles whose layers read and write (N, C, H, W) and no other order of axes.
_SPATIAL: tuple[Role, ...] = ("conv", "pool")


def _follows_inputs(group: Group) -> bool:
    """Whether a layer works element by element: any layout will do if all its operands share it."""
    shape = static_shape(group.tail)
    return group.role not in (*_SPATIAL, "dense", "view") and all(
        static_shape(v) == shape for v in group.inputs
    )


def layout_wishes(groups: Sequence[Group]) -> dict[Expr, Layout]:
    """Layout that the readers of each value would like best; the first reader decides."""
    wishes: dict[Expr, Layout] = {}
    for group in reversed(groups):
        if group.mode != "q8":
            continue
        for var in group.inputs:
            shape = static_shape(var) or ()
            if group.role == "dense":
                wishes[var] = _layout.channels_last(shape)
            elif group.role != "view" and not _follows_inputs(group):
                wishes[var] = _layout.channels_first(shape)
            elif group.role != "view" and group.tail in wishes:
                wishes[var] = wishes[group.tail]
    return wishes


def plan_layout(group: Group, known: Mapping[Expr, Layout], wishes: Mapping[Expr, Layout]) -> None:
    """Settle how the inputs and the result of a group lie in memory.

    Parameters
    ----------
    group
        Its ``layouts`` and ``layout`` are set; ``layout`` stays None for a view that moves data.
    known
        Layouts of the values that are in 8 bit already.
    wishes
        What :func:`layout_wishes` returned.
    """
    shapes = [static_shape(v) or () for v in group.inputs]
    result = static_shape(group.tail) or ()
    if group.role == "view":
        if group.inputs[0] in known:
            group.layouts = [known[group.inputs[0]]]
            group.layout = view_layout(group.head, group.layouts[0], shapes[0], result)
    elif group.role == "dense":
        want, have = _layout.channels_last(shapes[0]), known.get(group.inputs[0])
        last = tuple(a for a in (len(shapes[0]) - 1,) if shapes[0][a] != 1)
        if have is not None and have.channels == last:
            want = have
        elif have is not None and have.channels[-1:] == last:
            split = Layout((*have.batch, *have.channels[:-1]), last, have.pixels)
            want = split if _layout.same_memory(shapes[0], have, split) else want
        group.layouts = [want]
        out = tuple(a for a in (len(result) - 1,) if result[a] != 1)
        group.layout = Layout(want.batch, out, want.pixels)
    elif _follows_inputs(group):
        found = [known[v] for v in group.inputs if v in known]
        fallback = wishes.get(group.tail, _layout.channels_first(result))
        group.layout = found[0] if found else fallback
        group.layouts = [group.layout] * len(group.inputs)
    else:
        group.layouts = [_layout.channels_first(shape) for shape in shapes]
        group.layout = _layout.channels_first(result)


def view_layout(call: Expr, layout: Layout, before: tuple[int, ...], after: tuple[int, ...]) -> Layout | None:
    """Layout of the result of a reshape or permutation that moves nothing, else None."""
    if call.op.name != "relax.permute_dims":
        return _layout.reshaped(layout, before, after)
    axes = call.attrs.axes
    order = [int(a) for a in axes] if axes is not None else list(range(len(before)))[::-1]
    return _layout.permuted(layout, order)
