"""Depth to space as Relax operators: what transposed convolutions end with, written and recognised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sd_tvm._tvm import relax
from sd_tvm.layers import LANES, InterleaveLayer
from sd_tvm.numerics.qparams import QParams
from sd_tvm.relay_passes._integer import Integer
from sd_tvm.relay_passes._rewrite import Expr, is_call, static_shape

_ORDER = [0, 3, 4, 1, 5, 2]


@dataclass(frozen=True)
class Interleave:
    """Members of a depth to space (variable, value), and what it does."""

    members: list[tuple[Expr, Expr]]
    channels: int
    factor: tuple[int, int]
    crop: tuple[int, int]
    out_hw: tuple[int, int]

    def layer(self, name: str, shape: tuple[int, int, int, int], x: QParams) -> Integer:
        """The integer layer on an (N, phases * blocks * 16, T, U) value."""
        return Integer(
            InterleaveLayer(
                name=name,
                batch=shape[0],
                channels=self.channels,
                in_hw=(shape[2], shape[3]),
                factor=self.factor,
                crop=self.crop,
                out_hw=self.out_hw,
                in_dtype=x.dtype,
            ),
            [],
        )


def write(
    emit: Callable[[Expr, str], Expr],
    x: Expr,
    factor: tuple[int, int],
    crop: tuple[int, int],
    shape: tuple[int, ...],
    name: str,
) -> Expr:
    """Last call of a depth to space; the calls before it are emitted.

    Parameters
    ----------
    emit
        Binds a value to a new variable of a name.
    x
        (N, fy * fx * M16, T, U), phases outside, M16 a multiple of 16.
    factor, crop
        (fy, fx), and the rows and columns to leave out before the first.
    shape
        (N, M, OH, OW) of the result.
    name
        Beginning of the names of new variables.
    """
    n, c, t, u = static_shape(x) or ()
    (fy, fx), m = factor, c // (factor[0] * factor[1])
    apart = emit(relax.op.reshape(x, (n, fy, fx, m, t, u)), f"{name}_apart")
    turned = emit(relax.op.permute_dims(apart, _ORDER), f"{name}_turned")
    whole = relax.op.reshape(turned, (n, m, t * fy, u * fx))
    if shape == (n, m, t * fy, u * fx):
        return whole
    end = [shape[1], crop[0] + shape[2], crop[1] + shape[3]]
    return relax.op.strided_slice(emit(whole, f"{name}_whole"), [1, 2, 3], [0, *crop], end)


def match(
    var: Expr, value: Expr, uses: Mapping[Expr, int], consumer: Mapping[Expr, tuple[Expr, Expr]]
) -> Interleave | None:
    """The depth to space that begins with a binding, None if none does or its words would be cut."""
    if not is_call(value, "relax.reshape"):
        return None
    before, apart = static_shape(value.args[0]), static_shape(var)
    if before is None or apart is None or len(before) != 4 or len(apart) != 6:
        return None
    n, fy, fx, m, t, u = apart
    if before != (n, fy * fx * m, t, u) or m % LANES:
        return None
    members = [(var, value)]

    def follow(op: str) -> Expr | None:
        tail = members[-1][0]
        if uses.get(tail, 0) != 1 or tail not in consumer:
            return None
        found = consumer[tail]
        return found if is_call(found[1], op) else None

    turned = follow("relax.permute_dims")
    if turned is None or [int(a) for a in turned[1].attrs.axes or ()] != _ORDER:
        return None
    members.append(turned)
    whole = follow("relax.reshape")
    if whole is None or static_shape(whole[0]) != (n, m, t * fy, u * fx):
        return None
    members.append(whole)
    channels, crop, hw = m, (0, 0), (t * fy, u * fx)
    cut = follow("relax.strided_slice")
    begin = None if cut is None else _begin(cut[1])
    if cut is not None and begin is not None and begin[0] < fy and begin[1] < fx:
        shape = static_shape(cut[0]) or ()
        members.append(cut)
        channels, crop, hw = shape[1], begin, (shape[2], shape[3])
    return Interleave(members, channels, (fy, fx), crop, hw)


def _begin(call: Expr) -> tuple[int, int] | None:
    """First row and column of a slice of channels (from the first), rows and columns; None for others."""
    if len(call.args) > 4:  # strides
        return None
    axes, begin = ([int(v.value) for v in arg.fields] for arg in call.args[1:3])
    if axes != [1, 2, 3] or begin[0] != 0 or min(begin) < 0:
        return None
    return begin[1], begin[2]
