"""Relay's JSON (``tvm.ir.save_json`` of TVM 0.7 to 0.19) as a graph.

The file is a list of nodes that refer to each other by number. Only what an expression needs is looked at;
every reference is checked, so that a damaged file ends in an error that names the node.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from sd_tvm.errors import UnsupportedModelError
from sd_tvm.relay import messages
from sd_tvm.relay.arrays import read_tensor
from sd_tvm.relay.attrs import Attr
from sd_tvm.relay.graph import Array, Call, Constant, GetItem, Graph, Node, TensorType, Tuple, Type, Var
from sd_tvm.relay.table import OPERATORS, attributes_of

_EXPRESSIONS = ("relay.Call", "relay.Tuple", "relay.TupleGetItem", "relay.Var", "relay.Constant", "relay.Let")
#: What a body may also hold, and what it is called in messages.
_CONTROL = {
    "relay.If": "a branch (If)",
    "relay.Match": "a match",
    "relay.RefCreate": "a reference",
    "relay.RefRead": "a reference",
    "relay.RefWrite": "a reference",
    "relay.Constructor": "a constructor of a data type",
}
_DYNAMIC = ("tir.Any", "Any", "tir.SizeVar", "tir.Var")


def read_json(text: str) -> Graph:
    """The function ``main`` of a saved module.

    Raises
    ------
    UnsupportedModelError
        The text is cut short or no saved Relay module; an unknown operator or attribute; a dynamic shape;
        control flow; several functions.
    UnsupportedDTypeError
        A tensor type that NumPy does not have.
    """
    return _Reader(_document(text)).read()


def _document(text: str) -> Mapping[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise messages.damaged(
            "the JSON", f"{str(error)[:120]} (of {len(text)})", "a whole JSON document"
        ) from error
    if isinstance(data, dict) and "root_index" in data:
        raise UnsupportedModelError(
            "the JSON was written by a TVM without Relay (0.20 or later)",
            expected=messages.JSON,
            fix="if it is a Relax module, pass tvm.ir.load_json of it to sd_tvm.load_model",
        )
    if not isinstance(data, dict) or not {"root", "nodes"} <= set(data):
        raise messages.damaged(
            "the JSON", "it has no 'root' and 'nodes'", "a module saved by TVM 0.7 to 0.19"
        )
    return data


class _Reader:
    def __init__(self, data: Mapping[str, Any]) -> None:
        self.root = data["root"]
        nodes, tensors = data["nodes"], data.get("b64ndarrays", [])
        if not isinstance(nodes, list) or not isinstance(tensors, list):
            raise messages.damaged("the JSON", "'nodes' or 'b64ndarrays' is no list", "lists")
        self.nodes: list[Any] = nodes
        self.tensors: list[Any] = tensors
        info = data.get("attrs")
        self.version = str(info.get("tvm_version", "")) if isinstance(info, Mapping) else ""
        self.bound: dict[int, int] = {}  # variable of a let -> its value

    # -- nodes ------------------------------------------------------------------------------------------

    def index(self, value: Any, where: str) -> int:
        """A reference, checked."""
        try:
            i = int(value)
        except (TypeError, ValueError):
            i = -1
        if not 0 <= i < len(self.nodes):
            raise messages.damaged(
                where, f"it refers to node {value!r:.20}", f"one of {len(self.nodes)} nodes"
            )
        return i

    def kind(self, i: int) -> str:
        node = self.nodes[i]
        key = node.get("type_key") if isinstance(node, Mapping) else None
        if not isinstance(key, str):
            raise messages.damaged(f"node {i}", "it has no type_key", "a node of Relay")
        return key

    def attr(self, i: int, name: str, default: str | None = None) -> str:
        fields = self.nodes[i].get("attrs", {})
        value = fields.get(name, default) if isinstance(fields, Mapping) else None
        if not isinstance(value, str):
            raise messages.damaged(f"node {i}", f"a {self.kind(i)} without {name!r}", "a whole node")
        return value

    def link(self, i: int, name: str, default: str | None = None) -> int:
        return self.index(self.attr(i, name, default), f"node {i}")

    def items(self, i: int, name: str, default: str | None = None) -> list[int]:
        """Nodes of an array that an attribute refers to."""
        at = self.link(i, name, default)
        if not self.kind(at):
            return []
        if self.kind(at) != "Array":
            raise messages.damaged(f"node {i}", f"{name!r} is a {self.kind(at)}", "an Array")
        return self.data(at)

    def data(self, at: int) -> list[int]:
        found = self.nodes[at].get("data", [])
        if not isinstance(found, list):
            raise messages.damaged(f"node {at}", "its data is no list", "a list of nodes")
        return [self.index(x, f"node {at}") for x in found]

    def string(self, i: int) -> str:
        value = self.nodes[i].get("repr_str", "")
        if not isinstance(value, str):
            raise messages.damaged(f"node {i}", "its text is no text", "a string")
        return value

    def value(self, i: int, depth: int = 0) -> Any:
        """Number, string, tuple or None that a node holds."""
        key = self.kind(i)
        if key == "":
            return None
        if key in _DYNAMIC:
            raise messages.dynamic(f"node {i}")
        if key in ("IntImm", "FloatImm"):
            raw = self.attr(i, "value")
            try:
                return int(raw) if key == "IntImm" else float(raw)
            except ValueError as error:
                raise messages.damaged(f"node {i}", f"the number {raw!r:.20}", "a number") from error
        if key == "runtime.String":
            return self.string(i)
        if key == "Array" and depth < 4:
            return tuple(self.value(x, depth + 1) for x in self.data(i))
        raise messages.damaged(f"node {i}", f"a {key} as a value", "a number, a string or a list of them")

    # -- types ------------------------------------------------------------------------------------------

    def type(self, i: int, where: str, depth: int = 0) -> Type:
        key = self.kind(i)
        if key == "relay.TensorType":
            dims = [self.kind(d) for d in self.items(i, "shape")]
            if any(d in _DYNAMIC for d in dims):
                raise messages.dynamic(where)
            shape = tuple(self.value(d) for d in self.items(i, "shape"))
            if not all(type(d) is int and d >= 0 for d in shape):
                raise messages.damaged(f"node {i}", f"the shape {shape}", "numbers")
            return TensorType(shape, plain_dtype(self.attr(i, "dtype")))
        if key == "TupleType" and depth < 8:
            return tuple(self.type(x, where, depth + 1) for x in self.items(i, "fields"))
        return None

    # -- the function -----------------------------------------------------------------------------------

    def read(self) -> Graph:
        at = self.index(self.root, "the root")
        if self.kind(at) == "IRModule":
            at = self.main(at)
        if self.kind(at) != "relay.Function":
            raise messages.damaged(f"node {at}", f"a {self.kind(at)!r}", "a Relay module")
        for i, node in enumerate(self.nodes):
            if isinstance(node, Mapping) and node.get("type_key") == "relay.Let":
                self.bound[self.link(i, "var")] = self.link(i, "value")
        made: dict[int, Node] = {}
        params = self.items(at, "params")
        for i in params:
            made[i] = self.variable(i)
        body = self.link(at, "body")
        self.expressions(body, made)
        inputs = tuple(n for n in (made[i] for i in params) if isinstance(n, Var))
        return Graph(inputs, made[body], self.version)

    def listed(self) -> dict[str, list[int]]:
        """Nodes of a text's metadata, by the name that the text calls them."""
        at = self.index(self.root, "the root")
        keys = self.nodes[at].get("keys", []) if self.kind(at) == "Map" else []
        if not isinstance(keys, list):
            raise messages.damaged(f"node {at}", "its keys are no list", "a whole node")
        return {str(key): self.data(i) for key, i in zip(keys, self.data(at), strict=False)}

    def constant(self, i: int) -> Array:
        if self.kind(i) != "relay.Constant":
            raise messages.damaged(f"node {i}", f"a {self.kind(i)}", "a relay.Constant")
        at = self.attr(i, "data")
        data = self.tensors[int(at)] if at.isdigit() and int(at) < len(self.tensors) else None
        try:
            raw = base64.b64decode(data, validate=True) if isinstance(data, str) else None
        except (binascii.Error, ValueError):
            raw = None
        if raw is None:
            raise messages.damaged(f"node {i}", f"a constant in tensor {at!r:.20}", "a tensor in base64")
        return read_tensor(raw, f"the constant of node {i}")

    def main(self, module: int) -> int:
        """The node of the only function."""
        at = self.link(module, "functions")
        pairs = self.data(at)
        functions = {}
        for gv, f in zip(pairs[::2], pairs[1::2], strict=False):
            functions[self.string(self.link(gv, "name_hint"))] = f
        if not functions:
            raise messages.damaged(f"node {module}", "a module without functions", "a function 'main'")
        if len(functions) != 1:
            raise messages.several_functions(sorted(functions))
        return next(iter(functions.values()))

    def variable(self, i: int) -> Var:
        if self.kind(i) != "relay.Var":
            raise messages.damaged(f"node {i}", f"a parameter that is a {self.kind(i)}", "a relay.Var")
        name = self.string(self.link(self.link(i, "vid"), "name_hint"))
        where = f"the input {name!r} (node {i})"
        kind = self.type(self.link(i, "_checked_type_", "0"), where)
        if kind is None:
            kind = self.type(self.link(i, "type_annotation", "0"), where)
        if isinstance(kind, tuple):
            raise UnsupportedModelError(f"{where} is a tuple", expected="tensors as inputs")
        return Var(where, name, kind)

    def expressions(self, body: int, made: dict[int, Node]) -> None:
        """Make ``body`` and all that it needs, operands first."""
        opened: set[int] = set()
        stack = [(body, False)]
        while stack:
            i, ready = stack.pop()
            if i in made:
                continue
            if ready:
                made[i] = self.expression(i, made)
                continue
            if i in opened:
                raise messages.damaged(f"node {i}", "it needs itself", "a graph without cycles")
            opened.add(i)
            stack.append((i, True))
            stack.extend((x, False) for x in reversed(self.needs(i)) if x not in made)

    def needs(self, i: int) -> list[int]:
        key = self.kind(i)
        if key == "relay.Call":
            self.operator(i)  # what is no operator is refused before its operands are
            return self.items(i, "args")
        if key == "relay.Tuple":
            return self.items(i, "fields")
        if key == "relay.TupleGetItem":
            return [self.link(i, "tuple_value")]
        if key == "relay.Let":
            return [self.link(i, "body")]
        if key == "relay.Var" and i in self.bound:
            return [self.bound[i]]
        return []

    def operator(self, i: int) -> str:
        """Name of the operator of a call, known to the table."""
        op = self.link(i, "op")
        key = self.kind(op)
        if key == "Op":
            name = self.string(op)
            if name not in OPERATORS:
                raise messages.unknown_operator(f"node {i}", name)
            return name
        if key == "relay.Function":
            raise messages.inner_function(f"node {i}")
        raise messages.control_flow(f"node {i}", f"a call of a {key}")

    def expression(self, i: int, made: Mapping[int, Node]) -> Node:
        key = self.kind(i)
        where = f"node {i}"
        if key == "relay.Call":
            return self.call(i, made)
        if key == "relay.Constant":
            return Constant(where, self.constant(i))
        if key == "relay.Tuple":
            return Tuple(where, tuple(made[x] for x in self.items(i, "fields")))
        if key == "relay.TupleGetItem":
            index = self.attr(i, "index")
            if not index.isdigit():
                raise messages.damaged(where, f"the index {index!r:.20}", "a number")
            return GetItem(where, made[self.link(i, "tuple_value")], int(index))
        if key == "relay.Let":
            return made[self.link(i, "body")]
        if key == "relay.Var":
            if i in self.bound:
                return made[self.bound[i]]
            raise messages.damaged(where, "a variable that is no parameter", "a closed function")
        if key in _CONTROL:
            raise messages.control_flow(where, _CONTROL[key])
        if key == "relay.Function":
            raise messages.inner_function(where)
        raise messages.damaged(where, f"a {key!r} as an expression", f"one of {', '.join(_EXPRESSIONS)}")

    def call(self, i: int, made: Mapping[int, Node]) -> Call:
        name = self.operator(i)
        where = f"node {i}"
        attrs = self.attributes(self.link(i, "attrs", "0"), name, where)
        kind = self.type(self.link(i, "_checked_type_", "0"), f"{where}: {name}")
        args = tuple(made[x] for x in self.items(i, "args"))
        return Call(where, name, args, attrs, kind, self.span(i))

    def attributes(self, at: int, op: str, where: str) -> dict[str, Any]:
        """Attributes in node ``at`` of a call of ``op``."""
        given = self.nodes[at].get("attrs", {}) if self.kind(at) else {}
        if not isinstance(given, Mapping):
            raise messages.damaged(f"node {at}", "its attributes are no mapping", "a whole node")
        return attributes_of(
            OPERATORS[op],
            {k: v for k, v in given.items() if isinstance(k, str)},
            lambda key, attr, raw: self.attribute(f"node {at}", key, attr, raw),
            where,
        )

    def attribute(self, where: str, key: str, attr: Attr | None, raw: Any) -> Any:
        """Value of an attribute; None for one that says nothing, if it is not in the table."""
        if not isinstance(raw, str):
            raise messages.damaged(where, f"the attribute {key!r} is {raw!r:.20}", "text")
        if attr is None:
            return None if raw in ("", "0", "-1") else raw
        if attr.kind == "expr":
            return None
        if attr.kind == "ref":
            return self.value(self.index(raw, where))
        if attr.kind == "dtype":
            return plain_dtype(raw)
        if attr.kind == "str":
            i = int(raw) if raw.isdigit() and int(raw) < len(self.nodes) else 0
            return self.string(i) if self.kind(i) == "runtime.String" else raw
        try:
            value = float(raw) if attr.kind == "float" else int(raw)
        except ValueError as error:
            raise messages.damaged(where, f"the attribute {key!r} is {raw!r:.20}", "a number") from error
        return bool(value) if attr.kind == "bool" else value

    def span(self, i: int) -> str:
        """Name that a front end of Relay recorded, or nothing; it is never worth an error."""
        raw = self.attr(i, "span", "0")
        at = int(raw) if raw.isdigit() and int(raw) < len(self.nodes) else 0
        if not isinstance(self.nodes[at], Mapping) or self.nodes[at].get("type_key") != "Span":
            return ""
        source = self.attr(at, "source_name", "0")
        j = int(source) if source.isdigit() and int(source) < len(self.nodes) else 0
        return self.string(j) if isinstance(self.nodes[j], Mapping) else ""


def plain_dtype(text: str) -> str:
    """Data type as NumPy writes it; empty for none."""
    return {"uint1": "bool", "void": "", "handle": "", "None": ""}.get(text, text)


class Metadata:
    """The ``#[metadata]`` part of Relay's text: what the text calls ``meta[relay.Constant][0]``.

    Parameters
    ----------
    text
        The part; empty for none.

    Raises
    ------
    UnsupportedModelError
        If it is damaged.
    """

    def __init__(self, text: str = "") -> None:
        empty = {"root": 0, "nodes": [{"type_key": ""}]}
        self._reader = _Reader(_document(text) if text else empty)
        self._nodes = self._reader.listed()
        self.version = self._reader.version

    def _node(self, key: str, index: int, where: str) -> int:
        nodes = self._nodes.get(key, [])
        if not 0 <= index < len(nodes):
            raise messages.damaged(where, f"meta[{key}][{index}] of {len(nodes)}", "one that the text holds")
        return nodes[index]

    def constant(self, index: int, where: str) -> Array:
        """A constant, by its number."""
        return self._reader.constant(self._node("relay.Constant", index, where))

    def attributes(self, key: str, index: int, op: str, where: str) -> dict[str, Any]:
        """Attributes of a call of ``op`` that the text does not write out."""
        return self._reader.attributes(self._node(key, index, where), op, where)
