"""In which mode every group runs, and how its inputs and its result lie in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sd_tvm.relay_passes import _layout
from sd_tvm.relay_passes._integer import NO_BOUNDS
from sd_tvm.relay_passes._layout import Layout
from sd_tvm.relay_passes._match import Group
from sd_tvm.relay_passes._rewrite import Expr, _vars_in, static_shape
from sd_tvm.relay_passes.legality import Role

#: Roles whose layers read and write (N, C, H, W) and no other order of axes.
_SPATIAL: tuple[Role, ...] = ("conv", "pool", "concat", "resize", "interleave")
#: Roles that are worth it only if an operand is in 8 bits already.
_AFTER_INTEGER: tuple[Role, ...] = ("lut", "mul", "concat", "resize", "interleave")
#: Operators whose result has the scale and zero point of their operand.
KEEP_SCALE = ("relax.nn.max_pool2d", "relax.image.resize2d")


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
            if group.mode in ("q8", "view", "move") and group.layout is not None:
                quantised[group.tail] = group.layout
                for var, layout in zip(group.inputs, group.layouts, strict=True):
                    quantised.setdefault(var, layout)
    made = {group.tail for group in ordered if group.mode in ("q8", "view", "move")}
    needed: set[Expr] = set()  # read in 8 bit, or by a float32 operator
    as_float: set[Expr] = set()  # read by a float32 operator
    for group in reversed(ordered):
        views = group.mode in ("view", "move")
        if views and group.tail not in needed:
            group.mode, group.reason = "cpu", "reads a float32 result"
        elif views and group.inputs[0] not in made and group.tail in as_float:
            group.mode, group.reason = "cpu", "reads a float32 value"
            made.discard(group.tail)
        if group.mode != "keep":
            linear = group.role in ("conv", "dense") and group.bounds == NO_BOUNDS
            if group.mode == "q8" and linear and group.tail not in needed:
                group.mode, group.reason = "i32", "a result of the graph: the host scales its int32 sums"
            read = [v for _, value in group.members for v in _vars_in(value)]
            needed.update(read)
            if group.mode in ("cpu", "dynamic"):
                as_float.update(read)


def _choose(group: Group, quantised: Mapping[Expr, Layout], calibrated: set[str]) -> None:
    def known(var: Expr) -> bool:
        return var in quantised or getattr(var, "name", None) in calibrated

    missing = [v for v in group.inputs if not known(v)]
    keeps = group.head.op.name in KEEP_SCALE or group.role == "interleave"
    result_known = str(group.tail.name) in calibrated or keeps
    if group.role == "view":
        before, after = static_shape(group.inputs[0]), static_shape(group.tail)
        if missing or (group.layout is None and group.inputs[0] not in quantised):
            group.mode, group.reason = "cpu", "reads a float32 value"
        elif group.layout is None:
            group.mode, group.reason = "cpu", f"{before} -> {after} moves data"
        elif group.inputs[0] in quantised and group.layouts[0] != quantised[group.inputs[0]]:
            group.mode = "move"
            group.reason = f"{before} -> {after} moves data: the host orders its 8-bit values anew"
        else:
            group.mode = "view"
    elif group.role in ("conv", "dense"):
        if missing:
            group.mode = "dynamic"
            group.reason = "no calibration: the input's scale is computed at run time"
        elif not result_known:
            group.mode, group.reason = "i32", "no calibration of the result: the host scales int32 sums"
    elif group.role in _AFTER_INTEGER and not any(v in quantised for v in group.inputs):
        group.mode, group.reason = "cpu", "reads float32 values only: nothing is gained by 8 bits"
    elif missing or not result_known:
        names = [str(v.name) for v in missing] or [str(group.tail.name)]
        group.mode, group.reason = "cpu", f"no calibration of {', '.join(names)}"


def _follows_inputs(group: Group) -> bool:
    """Whether a layer works element by element: any layout will do if all its operands share it."""
    shape = static_shape(group.tail)
    return group.role not in (*_SPATIAL, "dense", "matmul", "view") and all(
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
            elif group.role == "matmul":
                wishes[var] = _layout.matrices(shape)
            elif group.role == "view":
                before = _before_view(group, wishes)
                if before is not None:
                    wishes[var] = before
            elif not _follows_inputs(group):
                wishes[var] = _layout.channels_first(shape)
            elif group.tail in wishes:
                wishes[var] = wishes[group.tail]
    return wishes


def _before_view(group: Group, wishes: Mapping[Expr, Layout]) -> Layout | None:
    """Layout of a view's input that gives its result the layout wished for, None if there is none."""
    if group.tail not in wishes:
        return None
    shape, result, call = static_shape(group.inputs[0]) or (), static_shape(group.tail) or (), group.head
    if call.op.name != "relax.permute_dims":
        return _layout.reshaped(wishes[group.tail], result, shape)
    order = _order(call, len(shape))
    return _layout.permuted(wishes[group.tail], [order.index(a) for a in range(len(shape))])


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
            if group.layout is None:  # a reshape
                want = wishes.get(group.tail, _layout.channels_first(result))
                before = _layout.reshaped(want, result, shapes[0])
                if before is not None:
                    group.layouts, group.layout = [before], want
        else:
            before = _before_view(group, wishes)
            if before is not None:
                group.layouts, group.layout = [before], wishes[group.tail]
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
    elif group.role == "matmul":
        group.layouts = [_layout.matrices(shape) for shape in shapes]
        group.layout = _layout.matrices(result)
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
    return _layout.permuted(layout, _order(call, len(before)))


def _order(call: Expr, rank: int) -> list[int]:
    """Axes of a permutation."""
    axes = call.attrs.axes
    return [int(a) for a in axes] if axes is not None else list(range(rank))[::-1]
