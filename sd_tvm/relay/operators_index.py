"""Indices, sorting and sums along an axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sd_tvm._tvm import relax
from sd_tvm.relay.attrs import Attr, dtype, flag, integer, ref, text
from sd_tvm.relay.site import Expr, Operator, Site


def _take(s: Site) -> Expr:
    if s.attr("batch_dims"):
        raise s.fail(f"batch_dims {s.attr('batch_dims')}", "0")
    mode = s.attr("mode")
    if mode not in ("clip", "wrap", "fast"):
        raise s.fail(f"mode {mode!r}", "clip, wrap or fast")
    axis = s.attr("axis")
    if axis is None:
        flat = s.reshape(s[0], (-1,)) if s.maybe_constant(0) is not None else relax.op.reshape(s[0], (-1,))
        return relax.op.take(s.emit(flat) if s.maybe_constant(flat) is None else flat, s[1], 0, mode)
    return relax.op.take(s[0], s[1], s.axis(), mode)


def _gather(s: Site) -> Expr:
    return relax.op.gather_elements(s[0], s[1], s.axis())


def _gather_nd(s: Site) -> Expr:
    # Relay's coordinates are the first axis of the indices, those of Relax the last
    rank = len(s.shape(1))
    batch = s.ints("batch_dims")[0]
    indices = s.cast(s.transpose(s[1], [*range(1, rank), 0]), "int64")
    return relax.op.gather_nd(s[0], indices, batch)


def _one_hot(s: Site) -> Expr:
    kind = s.attr("dtype") or s.dtype(1)
    on, off = (s.constant(k, "a value").item() for k in (1, 2))
    indices, depth, rank = s.cast(s[0], "int64"), s.attr("depth"), len(s.shape(0))
    axis = s.attr("axis")
    at = rank if axis == -1 else axis
    shape = s.shape(0)
    column = s.reshape(indices, [*shape[:at], 1, *shape[at:]])
    count = s.const(list(range(depth)), "int64")
    count = s.reshape(count, [depth if d == at else 1 for d in range(rank + 1)])
    return relax.op.where(relax.op.equal(column, count), s.const(on, kind), s.const(off, kind))


def _argsort(s: Site) -> Expr:
    order = relax.op.argsort(s[0], s.axis(), not s.attr("is_ascend"), "int32")
    return s.cast(s.emit(order), s.attr("dtype") or "int32")


def _sort(s: Site) -> Expr:
    return relax.op.sort(s[0], s.axis(), not s.attr("is_ascend"))


def _topk(s: Site) -> Any:
    kind = s.attr("dtype") or "int32"
    (k,) = s.ints("k")
    axis = s.axis()
    k = s.shape(0)[axis] if k < 1 else k
    both = s.emit(relax.op.topk(s[0], k, axis, "both", not s.attr("is_ascend"), "int32"))
    values = s.emit(relax.TupleGetItem(both, 0))
    indices = s.cast(s.emit(relax.TupleGetItem(both, 1)), kind)
    return {"both": (values, indices), "values": values, "indices": indices}[s.attr("ret_type")]


def _cumsum(s: Site) -> Expr:
    axis = None if s.attr("axis") is None else s.axis()
    return relax.op.cumsum(s[0], axis, s.attr("dtype") or None, bool(s.attr("exclusive")))


def _advanced(s: Site) -> Expr:
    """Indexing with arrays on the first axes."""
    data, *indices = s.tensors()
    if any(not s.dtype(i).startswith("int") for i in indices):
        raise s.fail("a mask as index", "integers", "a mask gives a dynamic shape: multiply by it instead")
    shape = np.broadcast_shapes(*(s.shape(i) for i in indices))
    parts = []
    for index, n in zip(indices, s.shape(data), strict=False):
        index = s.cast(index, "int64")
        below = s.emit(relax.op.less(index, s.const(0, "int64")))
        index = s.emit(relax.op.where(below, relax.op.add(index, s.const(n, "int64")), index))
        parts.append(s.reshape(s.emit(relax.op.broadcast_to(index, shape)), (*shape, 1)))
    return relax.op.gather_nd(data, s.emit(relax.op.concat(parts, -1)) if len(parts) > 1 else parts[0])


_REDUCTIONS = ("update", "add", "mul", "min", "max")


def _reduction(s: Site, name: str) -> str:
    found = str(s.attr(name))
    if found not in _REDUCTIONS:
        raise s.fail(f"{name} {found!r}", ", ".join(_REDUCTIONS))
    return found


def _scatter(reduction: str = "") -> Callable[[Site], Expr]:
    def build(s: Site) -> Expr:
        how = reduction or _reduction(s, "reduction")
        return relax.op.scatter_elements(s[0], s.cast(s[1], "int64"), s[2], s.axis(), how)

    return build


def _scatter_nd(s: Site) -> Expr:
    # Relay's coordinates are the first axis of the indices, those of Relax the last
    indices = s.cast(s.transpose(s[1], [*range(1, len(s.shape(1))), 0]), "int64")
    return relax.op.scatter_nd(s[0], indices, s[2], _reduction(s, "mode"))


_SORT: dict[str, Attr] = {"axis": integer(-1), "is_ascend": flag(True), "dtype": dtype()}
ROWS: tuple[Operator, ...] = (
    Operator("take", _take, {"batch_dims": ref(0), "axis": ref(None), "mode": text("clip")}),
    Operator("gather", _gather, {"axis": ref()}),
    Operator("gather_nd", _gather_nd, {"batch_dims": ref(0), "index_rank": ref(None)}),
    Operator("one_hot", _one_hot, {"depth": integer(1), "axis": integer(-1), "dtype": dtype()}),
    Operator("argsort", _argsort, _SORT),
    Operator("sort", _sort, _SORT),
    Operator(
        "topk",
        _topk,
        {
            "k": ref(1),
            "axis": integer(-1),
            "ret_type": text("both"),
            "is_ascend": flag(False),
            "dtype": dtype(),
        },
    ),
    Operator("cumsum", _cumsum, {"axis": ref(None), "dtype": dtype(), "exclusive": ref(0)}),
    Operator("adv_index", _advanced, {}),
    Operator("scatter_elements", _scatter(), {"axis": ref(0), "reduction": text("update")}),
    Operator("scatter", _scatter("update"), {"axis": ref(0)}),
    Operator("scatter_add", _scatter("add"), {"axis": ref(0)}),
    Operator("scatter_nd", _scatter_nd, {"mode": text("update")}),
)
