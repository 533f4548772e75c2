"""Index expressions of flat TensorIR: linear forms, bounds from guards, exact evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sd_tvm._tvm import ir, tirx
from sd_tvm.errors import CodegenError

Expr = Any
#: A loop variable or a buffer: the hash of its node, which is its identity and cheap to compare.
Key = int
Env = Mapping[Key, Any]

_BINARY: dict[Any, Callable[[Any, Any], Any]] = {
    tirx.Add: lambda a, b: a + b,
    tirx.Sub: lambda a, b: a - b,
    tirx.Mul: lambda a, b: a * b,
    tirx.FloorDiv: lambda a, b: a // b,
    tirx.FloorMod: lambda a, b: a % b,
    tirx.Min: np.minimum,
    tirx.Max: np.maximum,
    tirx.EQ: lambda a, b: a == b,
}


def unmapped(what: str, found: Any) -> CodegenError:
    """Error for TensorIR that is no instruction."""
    return CodegenError(
        f"{what}: {found}",
        expected="TensorIR that one accelerator instruction can express",
        fix="schedule the layer with sd_tvm.schedules.accel, or leave it to the CPU",
    )


@dataclass
class Linear:
    """const + sum of coef[v] * v + sum of factor * atom; atoms are what is not linear.

    Attributes
    ----------
    const
        Constant term.
    coef
        Coefficient of each loop variable.
    atoms
        (factor, expression) pairs.
    """

    const: int = 0
    coef: dict[Key, int] = field(default_factory=dict)
    atoms: list[tuple[int, Expr]] = field(default_factory=list)

    def of(self, var: Key) -> int:
        """Coefficient of a variable."""
        return self.coef.get(var, 0)

    def bind(self, env: Env) -> Linear:
        """Variables of ``env`` replaced by their values; atoms with other variables stay."""
        out = Linear(self.const, {}, [])
        for factor, atom in self.atoms:
            if variables(atom) <= env.keys():
                out.const += factor * int(evaluate(atom, env))
            else:
                out.atoms.append((factor, atom))
        for var, coef in self.coef.items():
            if var in env:
                out.const += coef * int(env[var])
            else:
                out.coef[var] = coef
        return out


def variables(expr: Expr) -> set[Key]:
    """Variables of an index expression; what is no such expression counts as one that nobody has."""
    kind = type(expr)
    if kind is tirx.Var:
        return {hash(expr)}
    if kind is tirx.IntImm:
        return set()
    if kind is tirx.Cast:
        return variables(expr.value)
    return variables(expr.a) | variables(expr.b) if kind in _BINARY else {hash(expr)}


def linear(expr: Expr) -> Linear:
    """Linear form of an integer expression."""
    out = Linear()
    _collect(expr, 1, out)
    out.coef = {v: c for v, c in out.coef.items() if c}
    return out


def _collect(expr: Expr, factor: int, out: Linear) -> None:
    kind = type(expr)
    if kind is tirx.IntImm:
        out.const += factor * int(expr.value)
    elif kind is tirx.Add:
        _collect(expr.a, factor, out)
        _collect(expr.b, factor, out)
    elif kind is tirx.Sub:
        _collect(expr.a, factor, out)
        _collect(expr.b, -factor, out)
    elif kind is tirx.Mul and type(expr.b) is tirx.IntImm:
        _collect(expr.a, factor * int(expr.b.value), out)
    elif kind is tirx.Mul and type(expr.a) is tirx.IntImm:
        _collect(expr.b, factor * int(expr.a.value), out)
    elif kind is tirx.Var:
        var = hash(expr)
        out.coef[var] = out.coef.get(var, 0) + factor
    else:
        out.atoms.append((factor, expr))


def evaluate(expr: Expr, env: Env) -> Any:
    """Value of an integer expression; variables may be integers or NumPy arrays.

    Raises
    ------
    CodegenError
        If it holds anything but integer arithmetic on the variables of ``env``.
    """
    kind = type(expr)
    if kind is tirx.IntImm:
        return int(expr.value)
    if kind is tirx.Var:
        var = hash(expr)
        if var not in env:
            raise unmapped("a free variable", expr)
        return env[var]
    if kind is tirx.Cast:
        return evaluate(expr.value, env)
    if kind is tirx.Select:
        parts = (expr.condition, expr.true_value, expr.false_value)
        return np.where(*(evaluate(part, env) for part in parts))
    operation = _BINARY.get(kind)
    if operation is None:
        raise unmapped("an index", expr)
    return operation(evaluate(expr.a, env), evaluate(expr.b, env))


def conjunction(expr: Expr) -> list[Expr]:
    """Terms of a chain of ``and``."""
    if type(expr) is tirx.And:
        return [*conjunction(expr.a), *conjunction(expr.b)]
    return [expr]


def at_least_zero(expr: Expr) -> list[Linear]:
    """Linear forms that are all >= 0 exactly where a chain of comparisons holds.

    Raises
    ------
    CodegenError
        If it is no conjunction of comparisons of linear forms.
    """
    out: list[Linear] = []
    for term in conjunction(expr):
        kind = type(term)
        if kind in (tirx.LE, tirx.EQ):
            out.append(linear(term.b - term.a))
        if kind in (tirx.GE, tirx.EQ):
            out.append(linear(term.a - term.b))
        if kind is tirx.LT:
            out.append(linear(term.b - term.a - 1))
        if kind is tirx.GT:
            out.append(linear(term.a - term.b - 1))
        if kind not in (tirx.LE, tirx.EQ, tirx.GE, tirx.LT, tirx.GT) or out[-1].atoms:
            raise unmapped("a condition", term)
    return out


Ranges = dict[Key, tuple[int, int]]


def narrow(ranges: Ranges, condition: Linear, env: Env) -> bool:
    """Cut ranges [lo, hi) to where a linear form is >= 0.

    Parameters
    ----------
    ranges
        Ranges of the inner variables, changed in place.
    condition
        Form that involves at most one of them.
    env
        Values of the outer variables.

    Returns
    -------
    bool
        False when nothing is left.

    Raises
    ------
    CodegenError
        If several inner variables are involved: the set would be no box.
    """
    bound = condition.bind(env)
    # A variable that has one value only is a constant.
    for var in [v for v in bound.coef if v in ranges and ranges[v][1] - ranges[v][0] == 1]:
        bound.const += bound.coef.pop(var) * ranges[var][0]
    if not bound.coef:
        return bound.const >= 0
    if len(bound.coef) > 1:
        raise unmapped("a condition on several axes", dict(bound.coef))
    ((var, coef),) = bound.coef.items()
    if var not in ranges:
        raise unmapped("a condition on an unknown variable", var)
    lo, hi = ranges[var]
    if coef > 0:
        lo = max(lo, -(bound.const // coef))
    else:
        hi = min(hi, bound.const // -coef + 1)
    ranges[var] = (lo, hi)
    return lo < hi


def loads(expr: Expr) -> list[Expr]:
    """Buffer loads of an expression, outermost first, repeated ones once each time."""
    found: list[Expr] = []
    stack = [expr]
    while stack:
        node = stack.pop()
        kind = type(node)
        if kind is ir.TensorLoad:
            found.append(node)
            stack.extend(node.indices)
        elif kind is ir.Call:
            stack.extend(a for a in node.args)
        elif kind is tirx.Cast:
            stack.append(node.value)
        elif kind is tirx.Select:
            stack.extend((node.condition, node.true_value, node.false_value))
        elif hasattr(node, "a"):
            stack.extend((node.a, node.b))
    return found
