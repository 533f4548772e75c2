"""Structure of the neutral graph in a file: names resolve, nodes are in order, nothing dangles.

    {"inputs": [{"name", "shape", "dtype"}, ...],
     "nodes": [{"name", "op", "inputs", "attrs", "shape", "dtype"}, ...],
     "outputs": [name, ...]}

A node's name is also the name of its value. Its inputs are graph inputs, earlier nodes, or constants
(keys of ``tensors``). A node with ``{"weight": true}`` among its ``$args`` is a layer: its weight is stored
under the node's name. :mod:`sd_tvm.graph` defines the ``$`` attributes and verifies them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sd_tvm.errors import FormatError

_GRAPH_KEYS = {"inputs": list, "nodes": list, "outputs": list}
_INPUT_KEYS = {"name": str, "shape": list, "dtype": str}
_NODE_KEYS = {**_INPUT_KEYS, "op": str, "inputs": list, "attrs": dict}
_FIX = "export the model again with this version"


@dataclass(frozen=True)
class GraphNames:
    """Names of a verified graph: values (inputs and nodes), layers with a stored weight, constants."""

    values: frozenset[str]
    layers: frozenset[str]
    constants: frozenset[str]


def check_graph(graph: Any) -> GraphNames:
    """Verify the structure of a graph.

    Raises
    ------
    FormatError
        Names the node or the key that is wrong.
    """
    _keys(graph, _GRAPH_KEYS, "graph")
    values: set[str] = set()
    constants: set[str] = set()
    for i, item in enumerate(graph["inputs"]):
        _keys(item, _INPUT_KEYS, f"graph.inputs[{i}]")
        _shape(item, f"graph input {item['name']!r}")
        _define(item["name"], values, "graph input")
    node_names = _node_names(graph["nodes"])
    for node in graph["nodes"]:
        where = f"graph node {node['name']!r}"
        _shape(node, where)
        for name in node["inputs"]:
            if not isinstance(name, str):
                raise FormatError(f"{where}: input {name!r}", expected="a name", fix=_FIX)
            if name in values:
                continue
            if name in node_names:
                raise FormatError(
                    f"{where} uses {name!r}, which is not computed before it (a cycle, or wrong order)",
                    expected="nodes in topological order",
                    fix=_FIX,
                )
            constants.add(name)
        _define(node["name"], values, "graph node")
    for name in graph["outputs"]:
        if not isinstance(name, str) or name not in values:
            raise FormatError(f"graph output {name!r} is no value of the graph", fix=_FIX)
    if not graph["outputs"]:
        raise FormatError("graph: no outputs", fix=_FIX)
    layers = frozenset(node["name"] for node in graph["nodes"] if _takes_weight(node))
    return GraphNames(frozenset(values), layers, frozenset(constants))


def _takes_weight(node: Mapping[str, Any]) -> bool:
    args = node["attrs"].get("$args")
    return isinstance(args, list) and any(isinstance(a, Mapping) and "weight" in a for a in args)


def _node_names(nodes: list[Any]) -> set[str]:
    for i, node in enumerate(nodes):
        _keys(node, _NODE_KEYS, f"graph.nodes[{i}]")
    return {node["name"] for node in nodes}


def _define(name: str, values: set[str], what: str) -> None:
    if not name or name in values:
        raise FormatError(f"{what} {name!r}: the name is empty or taken", fix=_FIX)
    values.add(name)


def _keys(item: Any, keys: Mapping[str, type], where: str) -> None:
    if not isinstance(item, Mapping):
        raise FormatError(f"{where}: {type(item).__name__} instead of an object", fix=_FIX)
    if set(item) != set(keys):
        wrong = sorted(set(item) ^ set(keys), key=str)
        raise FormatError(
            f"{where}: keys {wrong} are missing or unknown", expected=f"exactly {sorted(keys)}", fix=_FIX
        )
    for key, kind in keys.items():
        if not isinstance(item[key], kind):
            raise FormatError(f"{where}.{key}: {type(item[key]).__name__}", expected=kind.__name__, fix=_FIX)


def _shape(item: Mapping[str, Any], where: str) -> None:
    if not all(type(n) is int and n >= 1 for n in item["shape"]):
        raise FormatError(f"{where}: shape {item['shape']!r}", expected="positive integers", fix=_FIX)
