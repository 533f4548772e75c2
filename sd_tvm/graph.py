"""The neutral graph of a model: plain data that a ``.sd`` file stores, without TVM.

A node is one operator. Its ``inputs`` name graph inputs, earlier nodes or constants (keys of the tensors
stored beside the graph); its ``attrs`` are the operator's attributes as JSON values. Keys that start with
``$`` say what plain attributes cannot:

``$args``
    Operands in order, where they are not just the inputs in order: ``{"value": i}`` (inputs[i]), ``{"weight":
    true}`` (the layer's stored weight), ``{"tuple": [...]}``, ``{"shape": [...]}``, ``{"int"|"float": v,
    "dtype": d}``, ``{"string": s}``, ``{"literal": {"shape", "dtype", "data"}}``.
``$types``
    ``[[shape, dtype], ...]`` of a result that is a tuple; ``shape`` and ``dtype`` are then the first's.
``$index``
    Which field a ``tuple.get`` node takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sd_tvm.errors import FormatError

#: Operator of a node that takes one field of a tuple.
TUPLE_GET = "tuple.get"


@dataclass(frozen=True)
class GraphInput:
    """An input of the model."""

    name: str
    shape: list[int]
    dtype: str


@dataclass(frozen=True)
class GraphNode:
    """One operator; its name is also its value's."""

    name: str
    op: str
    inputs: list[str]
    shape: list[int]
    dtype: str
    attrs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Graph:
    """Inputs, nodes in topological order, and names of the outputs (several: the model returns a tuple)."""

    inputs: list[GraphInput]
    nodes: list[GraphNode]
    outputs: list[str]

    def to_json(self) -> dict[str, Any]:
        """JSON data: what :class:`sd_tvm.format.StoredModel` holds as ``graph``."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Graph:
        """Inverse of :meth:`to_json`; verifies the structure.

        Raises
        ------
        FormatError
            Names the node or key that is wrong.
        """
        from sd_tvm.format.graph_check import check_graph

        check_graph(data)
        graph = cls(
            [GraphInput(**i) for i in data["inputs"]],
            [GraphNode(**n) for n in data["nodes"]],
            list(data["outputs"]),
        )
        graph._check_attrs()
        return graph

    def validate(self) -> None:
        """Verify names, order, shapes and the ``$`` keys.

        Raises
        ------
        FormatError
            Names the node or key that is wrong.
        """
        Graph.from_json(self.to_json())

    def constants(self) -> list[str]:
        """Names of the constants that the nodes use, in order."""
        values = {i.name for i in self.inputs} | {n.name for n in self.nodes}
        return list(dict.fromkeys(i for n in self.nodes for i in n.inputs if i not in values))

    def _check_attrs(self) -> None:
        for node in self.nodes:
            args = node.attrs.get("$args", [])
            if not isinstance(args, list):
                raise _wrong(node, f"$args is {args!r:.60}", "a list")
            for arg in args:
                _check_arg(node, arg, depth=0)
            index = node.attrs.get("$index", 0)
            if (node.op == TUPLE_GET) != ("$index" in node.attrs) or type(index) is not int or index < 0:
                raise _wrong(node, f"$index is {index!r:.60}", f"an index, for {TUPLE_GET} only")
            for kind in _list(node, "$types"):
                if not (isinstance(kind, list | tuple) and len(kind) == 2 and isinstance(kind[1], str)):
                    raise _wrong(node, f"$types has {kind!r:.60}", "pairs of shape and dtype")
                if not isinstance(kind[0], list | tuple) or any(type(d) is not int or d < 0 for d in kind[0]):
                    raise _wrong(node, f"$types has {kind!r:.60}", "pairs of shape and dtype")


_ARG_KEYS: tuple[frozenset[str], ...] = (
    frozenset({"value"}),
    frozenset({"weight"}),
    frozenset({"tuple"}),
    frozenset({"shape"}),
    frozenset({"int", "dtype"}),
    frozenset({"float", "dtype"}),
    frozenset({"string"}),
    frozenset({"literal"}),
)
_MAX_DEPTH = 4


def _wrong(node: GraphNode, found: str, expected: str) -> FormatError:
    return FormatError(
        f"graph node {node.name!r}: {found}",
        expected=expected,
        fix="export the model again with this version",
    )


def _list(node: GraphNode, key: str) -> list[Any]:
    value = node.attrs.get(key, [])
    if not isinstance(value, list):
        raise _wrong(node, f"{key} is {value!r:.60}", "a list")
    return value


def _check_arg(node: GraphNode, arg: Any, depth: int) -> None:
    """An entry of ``$args`` has a known form and points at an existing input."""
    if not isinstance(arg, Mapping) or frozenset(arg) not in _ARG_KEYS or depth > _MAX_DEPTH:
        raise _wrong(node, f"$args has {arg!r:.60}", "one of the forms that the documentation lists")
    value = next(iter(arg.values()))
    if "value" in arg:
        if type(value) is not int or not 0 <= value < len(node.inputs):
            raise _wrong(node, f"$args refers to input {value!r:.20} of {len(node.inputs)}", "an index")
    elif "tuple" in arg:
        if not isinstance(value, list):
            raise _wrong(node, f"$args has {arg!r:.60}", "a list of operands")
        for item in value:
            _check_arg(node, item, depth + 1)
    elif "shape" in arg:
        if not isinstance(value, list) or any(type(d) is not int for d in value):
            raise _wrong(node, f"$args has {arg!r:.60}", "a list of integers")
    elif "literal" in arg:
        if not isinstance(value, Mapping) or set(value) != {"shape", "dtype", "data"}:
            raise _wrong(node, f"$args has {arg!r:.60}", "a literal with shape, dtype and data")
    elif "weight" in arg and value is not True:
        raise _wrong(node, f"$args has {arg!r:.60}", '{"weight": true}')
