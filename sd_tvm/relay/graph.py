"""A Relay function as plain data: what both readers (JSON and text) make, and all that the importer sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class TensorType:
    """Static shape and data type of a tensor."""

    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


#: A tensor, the types of a tuple, or None where the file does not say.
Type = TensorType | tuple["Type", ...] | None  # type: ignore[misc,unused-ignore]


@dataclass(frozen=True, eq=False)
class Node:
    """An expression.

    Attributes
    ----------
    where
        Where it stands in the file, for messages: ``node 66`` or ``line 12, %3``.
    """

    where: str


@dataclass(frozen=True, eq=False)
class Var(Node):
    """A parameter of the function."""

    name: str
    type: TensorType | None


@dataclass(frozen=True, eq=False)
class Constant(Node):
    """A tensor that the file holds."""

    array: Array


@dataclass(frozen=True, eq=False)
class Tuple(Node):
    """Several expressions as one."""

    fields: tuple[Node, ...]


@dataclass(frozen=True, eq=False)
class GetItem(Node):
    """One field of a tuple."""

    value: Node
    index: int


@dataclass(frozen=True, eq=False)
class Call(Node):
    """A call of an operator.

    Attributes
    ----------
    op
        Relay's name: ``nn.conv2d``.
    args
        Operands.
    attrs
        Decoded attributes, defaults included.
    type
        Type of the result as Relay inferred it, None if the file does not say.
    span
        Name of the source model's node, empty if the front end of Relay recorded none.
    """

    op: str
    args: tuple[Node, ...]
    attrs: Mapping[str, Any]
    type: Type = None
    span: str = ""

    def __str__(self) -> str:
        result = f" -> {self.type}" if isinstance(self.type, TensorType) else ""
        name = f" of {self.span!r}" if self.span else ""
        return f"{self.where}: {self.op}{name}{result}"


@dataclass(frozen=True)
class Graph:
    """The function ``main``.

    Attributes
    ----------
    params
        Inputs, and weights that are no constants.
    body
        Result.
    version
        TVM that wrote the file, ``0.16.dev0``; empty if it does not say.
    """

    params: tuple[Var, ...]
    body: Node
    version: str = ""


def operands(node: Node) -> tuple[Node, ...]:
    """The expressions that a node needs."""
    if isinstance(node, Call):
        return node.args
    if isinstance(node, Tuple):
        return node.fields
    return (node.value,) if isinstance(node, GetItem) else ()


def in_order(body: Node) -> list[Node]:
    """All nodes that ``body`` needs, itself included, operands first; no recursion, graphs are deep."""
    done: set[int] = set()
    order: list[Node] = []
    stack: list[tuple[Node, bool]] = [(body, False)]
    while stack:
        node, ready = stack.pop()
        if id(node) in done:
            continue
        if ready:
            done.add(id(node))
            order.append(node)
            continue
        stack.append((node, True))
        stack.extend((child, False) for child in reversed(operands(node)) if id(child) not in done)
    return order


def rewrite(graph: Graph, leaf: Callable[[Node], Node]) -> Graph:
    """The graph with every variable and constant replaced by ``leaf`` of it."""
    new: dict[int, Node] = {}
    for node in in_order(graph.body):
        if isinstance(node, Call):
            args = tuple(new[id(a)] for a in node.args)
            new[id(node)] = Call(node.where, node.op, args, node.attrs, node.type, node.span)
        elif isinstance(node, Tuple):
            new[id(node)] = Tuple(node.where, tuple(new[id(f)] for f in node.fields))
        elif isinstance(node, GetItem):
            new[id(node)] = GetItem(node.where, new[id(node.value)], node.index)
        else:
            new[id(node)] = leaf(node)
    return Graph(graph.params, new[id(graph.body)], graph.version)


@dataclass
class Names:
    """Unique names, in order."""

    taken: dict[str, int] = field(default_factory=dict)

    def of(self, name: str) -> str:
        """``name``, with a number if it was given out before: ``x``, ``x_1``, ..."""
        count = self.taken.get(name, 0)
        self.taken[name] = count + 1
        return name if count == 0 else f"{name}_{count}"

    def numbered(self, name: str) -> str:
        """``name`` with a number from 0: ``conv2d_0`` is no name that TVM gives a kernel."""
        count = self.taken.get(name, 0)
        self.taken[name] = count + 1
        return f"{name}_{count}"


def scalar(value: float | int | bool, dtype: str) -> Array:
    """Array of rank 0."""
    return np.asarray(value, dtype=dtype)
