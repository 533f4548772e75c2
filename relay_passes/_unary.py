"""Functions of one value: which bindings become one table, and the table.

x * sigmoid(x), x * clip(x + 3, 0, 6) / 6, 0.5 x (1 + erf(x / sqrt 2)), a lone tanh: whatever is computed
element by element from one value and numbers is one table of 256 entries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from sd_tvm._tvm import ir, relax
from sd_tvm.calibration.ops import evaluate
from sd_tvm.errors import NumericsError
from sd_tvm.numerics.qparams import INTEGERS, QParams
from sd_tvm.relay_passes._elementwise import COMBINING, UNARY
from sd_tvm.relay_passes._rewrite import Expr, constant, static_shape

Bindings = Sequence[tuple[Expr, Expr]]

#: Operators that join a table, but are cheaper as the clip of another layer if nothing else is there.
_CLIPS = ("relax.nn.relu", "relax.nn.relu6", "relax.clip")
_PARTS = frozenset((*UNARY, *COMBINING, *_CLIPS))
#: Bindings after the first that are searched for more of the same function.
_WINDOW = 64


def number_of(expr: Expr, values: Mapping[Expr, Expr]) -> npt.NDArray[np.float64] | None:
    """Value of a constant whose elements are all equal, float64 (), else None."""
    array = constant(expr)
    seen = 0
    while array is None and isinstance(expr, ir.Var) and expr in values and seen < 4:
        expr, seen = values[expr], seen + 1
        if isinstance(expr, relax.Call) and expr.op.name == "relax.reshape":
            expr = expr.args[0]
        array = constant(expr)
    if array is None or array.size == 0 or (array != array.flat[0]).any():
        return None
    return np.asarray(array.flat[0], np.float64)


def _sources(value: Expr, values: Mapping[Expr, Expr]) -> set[Expr] | None:
    """Variables that a part of a table reads; None for anything else."""
    if not isinstance(value, relax.Call) or not isinstance(value.op, ir.Op) or value.op.name not in _PARTS:
        return None
    found = set()
    for arg in value.args:
        if not isinstance(arg.ty, relax.TensorType) or number_of(arg, values) is not None:
            continue
        if not isinstance(arg, ir.Var):
            return None
        found.add(arg)
    return found


def match_function(
    bindings: Bindings, start: int, uses: Mapping[Expr, int], values: Mapping[Expr, Expr]
) -> tuple[Expr, list[tuple[Expr, Expr]]] | None:
    """Largest function of one value whose first binding is ``bindings[start]``.

    Parameters
    ----------
    bindings
        Of one block, in order.
    start
        Index of the first one.
    uses
        Variable -> number of uses in the whole function.
    values
        Variable -> value.

    Returns
    -------
    (variable, list of bindings) or None
        The value it is a function of, and its bindings in order, the result last.
    """
    first, value = bindings[start]
    sources = _sources(value, values)
    if sources is None or len(sources) != 1:
        return None
    (source,) = sources
    shape = static_shape(source)
    if shape is None or str(source.ty.dtype) != "float32" or static_shape(first) != shape:
        return None
    if len(shape) < 2:  # neither images nor channels: legality says so
        return None
    inside: dict[Expr, tuple[Expr, set[Expr]]] = {first: (value, sources)}
    for var, other in bindings[start + 1 : start + _WINDOW]:
        read = _sources(other, values)
        if read and static_shape(var) == shape and all(v in inside or v.same_as(source) for v in read):
            inside[var] = (other, read)
    for tail in reversed(inside):
        members = _ancestors(tail, inside)
        if first in members and str(tail.ty.dtype) == "float32" and _closed(members, tail, inside, uses):
            found = [(v, inside[v][0]) for v in inside if v in members]
            return None if all(v.op.name in _CLIPS for _, v in found) else (source, found)
    return None


def _ancestors(tail: Expr, inside: Mapping[Expr, tuple[Expr, set[Expr]]]) -> set[Expr]:
    out, stack = set(), [tail]
    while stack:
        var = stack.pop()
        if var in inside and var not in out:
            out.add(var)
            stack.extend(inside[var][1])
    return out


def _closed(
    members: set[Expr], tail: Expr, inside: Mapping[Expr, tuple[Expr, set[Expr]]], uses: Mapping[Expr, int]
) -> bool:
    """Whether nobody outside reads a value inside."""
    read: dict[Expr, int] = {}
    for var in members:
        for arg in inside[var][0].args:
            if isinstance(arg, ir.Var) and arg in members:
                read[arg] = read.get(arg, 0) + 1
    return all(var.same_as(tail) or read.get(var, 0) == uses.get(var, 0) for var in members)


def function_name(members: Bindings) -> str:
    """Operators of a function, in order, for reports."""
    names = [str(value.op.name).removeprefix("relax.").removeprefix("nn.") for _, value in members]
    return ", ".join(names)


def make_table(
    members: Bindings,
    source: Expr,
    values: Mapping[Expr, Expr],
    x: QParams,
    out: QParams,
    name: str = "table",
) -> npt.NDArray[np.uint8] | npt.NDArray[np.int8]:
    """Table of a function: entry i is the result for the byte i (docs/numerics.md).

    Parameters
    ----------
    members, source
        What :func:`match_function` returned.
    values
        Variable -> value, for constants.
    x, out
        Quantisation of argument and result.

    Raises
    ------
    NumericsError
        If the function has no value somewhere in the argument's range.
    """
    q = np.arange(256, dtype=np.uint8).view(x.dtype).astype(np.int64)
    env: dict[Expr, npt.NDArray[np.float64]] = {source: (q - x.zero_point) * np.float64(x.scale)}
    for var, value in members:
        args = [_operand(a, env, values) for a in value.args]
        env[var] = evaluate(value, args)
    y = np.broadcast_to(env[members[-1][0]], (256,))
    if np.isnan(y).any():
        at = env[source][np.isnan(y)][0]
        raise NumericsError(
            f"{name}: {function_name(members)} of {at:.4g} is not a number",
            expected="a function that is defined on the whole calibrated range",
            fix="leave it in float32, or calibrate with data in its domain",
        )
    low, high = INTEGERS[out.dtype]
    with np.errstate(over="ignore"):
        level = np.rint(y / np.float64(out.scale)) + out.zero_point
    return np.asarray(np.clip(level, low, high).astype(out.dtype))


def _operand(arg: Expr, env: Mapping[Expr, npt.NDArray[np.float64]], values: Mapping[Expr, Expr]) -> object:
    if isinstance(arg, ir.Var) and arg in env:
        return env[arg]
    number = number_of(arg, values) if isinstance(arg.ty, relax.TensorType) else None
    return arg if number is None else number
