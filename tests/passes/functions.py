"""Functions of one value: how a graph spells them, and what they are, one number at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from passes.nets import Net

from sd_tvm._tvm import relax

op = relax.op
Expr = Any
Spell = Callable[[Net, Expr], Expr]


def number(value: float) -> Expr:
    return relax.const(value, "float32")


def f32(value: float) -> float:
    """The number that a float32 constant really is."""
    return float(relax.const(value, "float32").value.numpy())


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _calls(*steps: Callable[..., Expr]) -> Spell:
    """Each step gets x and the values before it."""

    def spell(net: Net, x: Expr) -> Expr:
        values = [x]
        for i, step in enumerate(steps):
            values.append(net.call(step(*values), f"f{i}"))
        return values[-1]

    return spell


ROOT = f32(math.sqrt(2))
#: name -> (spelling, the function of a float, how many operators)
FUNCTIONS: dict[str, tuple[Spell, Callable[[float], float], int]] = {
    "sigmoid": (_calls(op.sigmoid), sigmoid, 1),
    "tanh": (_calls(op.tanh), math.tanh, 1),
    "exp": (_calls(op.exp), math.exp, 1),
    "erf": (_calls(op.erf), math.erf, 1),
    "square": (_calls(op.square), lambda x: x * x, 1),
    "abs": (_calls(op.abs), abs, 1),
    "negative": (_calls(op.negative), lambda x: -x, 1),
    "silu": (_calls(op.nn.silu), lambda x: x * sigmoid(x), 1),
    "gelu": (_calls(op.nn.gelu), lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2))), 1),
    "gelu_tanh": (
        _calls(op.nn.gelu_tanh),
        lambda x: 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        1,
    ),
    "leaky": (_calls(lambda x: op.nn.leakyrelu(x, 0.125)), lambda x: x if x > 0 else 0.125 * x, 1),
    "softplus": (_calls(op.nn.softplus), lambda x: math.log1p(math.exp(-abs(x))) + max(x, 0.0), 1),
    "selu": (
        _calls(op.nn.selu),
        lambda x: 1.0507009873554805 * (x if x > 0 else 1.6732632423543772 * math.expm1(x)),
        1,
    ),
    "x sigmoid(x)": (_calls(op.sigmoid, lambda x, s: op.multiply(x, s)), lambda x: x * sigmoid(x), 2),
    "hard-sigmoid": (
        _calls(
            lambda x: op.multiply(x, number(0.25)),
            lambda _, s: op.add(s, number(0.5)),
            lambda *v: op.clip(v[-1], relax.prim_value(0.0), relax.prim_value(1.0)),
        ),
        lambda x: min(max(0.25 * x + 0.5, 0.0), 1.0),
        3,
    ),
    "hard-swish": (
        _calls(
            lambda x: op.add(x, number(3.0)),
            lambda _, s: op.clip(s, relax.prim_value(0.0), relax.prim_value(6.0)),
            lambda x, _, c: op.multiply(x, c),
            lambda *v: op.divide(v[-1], number(6.0)),
        ),
        lambda x: x * min(max(x + 3, 0.0), 6.0) / 6,
        4,
    ),
    "gelu of erf": (
        _calls(
            lambda x: op.divide(x, number(math.sqrt(2))),
            lambda _, s: op.erf(s),
            lambda *v: op.add(v[-1], number(1.0)),
            lambda x, *v: op.multiply(x, v[-1]),
            lambda *v: op.multiply(v[-1], number(0.5)),
        ),
        lambda x: x * (math.erf(x / ROOT) + 1) * 0.5,
        5,
    ),
    "mish": (
        _calls(op.nn.softplus, lambda _, s: op.tanh(s), lambda x, _, t: op.multiply(x, t)),
        lambda x: x * math.tanh(math.log1p(math.exp(-abs(x))) + max(x, 0.0)),
        3,
    ),
    "where": (
        _calls(
            lambda x: op.greater(x, number(0.0)),
            lambda x, _: op.multiply(x, number(0.25)),
            lambda x, mask, y: op.where(mask, x, y),
        ),
        lambda x: x if x > 0 else 0.25 * x,
        3,
    ),
    "elu of relus": (
        _calls(
            op.exp,
            lambda _, e: op.subtract(number(1.0), e),
            lambda *v: op.nn.relu(v[-1]),
            lambda *v: op.multiply(v[-1], number(-1.0)),
            lambda x, *_: op.nn.relu(x),
            lambda *v: op.add(v[-1], v[-2]),
        ),
        lambda x: x if x > 0 else math.expm1(x),
        6,
    ),
    "softsign": (
        _calls(op.abs, lambda _, a: op.add(a, number(1.0)), lambda x, *v: op.divide(x, v[-1])),
        lambda x: x / (1 + abs(x)),
        3,
    ),
}
