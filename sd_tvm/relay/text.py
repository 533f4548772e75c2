"""Relay's text (``mod.astext()``) as a graph.

The text leaves out attributes that have their defaults; the table of operators has those. It rounds
scalar constants to six digits, which is why the JSON is the better way.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from sd_tvm.errors import UnsupportedModelError
from sd_tvm.relay import messages
from sd_tvm.relay.attrs import Attr
from sd_tvm.relay.graph import Call, Constant, GetItem, Graph, Node, TensorType, Tuple, Type, Var
from sd_tvm.relay.jsonfile import Metadata, plain_dtype
from sd_tvm.relay.lexer import Stream, tokens
from sd_tvm.relay.table import OPERATORS, attributes_of

_METADATA = "#[metadata]"
_SUFFIXES = {
    "f": "float32",
    "f16": "float16",
    "h": "float16",
    "f32": "float32",
    "f64": "float64",
    **{f"{c}{b}": f"{name}{b}" for c, name in (("i", "int"), ("u", "uint")) for b in (8, 16, 32, 64)},
}
_LITERAL = re.compile(r"(-?(?:[\d.]+(?:e[-+]?\d+)?|inf|nan))([fiuh]\d*)?")
_CONTROL = {"if": "a branch (if)", "match": "a match", "ref": "a reference"}
_MAX_DEPTH = 60


def read_text(text: str) -> Graph:
    """The function ``main`` of a printed module.

    Raises
    ------
    UnsupportedModelError
        The text is cut short, lacks its constants, or is no Relay; an unknown operator or attribute; a
        dynamic shape; control flow; several functions.
    """
    head, mark, tail = text.partition(_METADATA)
    if not mark and "meta[" in head:
        raise UnsupportedModelError(
            "the text refers to constants (meta[...]) and does not hold them: str(mod) and print(mod) leave "
            "them out",
            expected=f"{messages.JSON}, or mod.astext() with its '{_METADATA}' part",
            fix="save the module with tvm.ir.save_json",
        )
    return _Parser(head, Metadata(tail)).module()


class _Parser:
    def __init__(self, text: str, metadata: Metadata) -> None:
        text = re.sub(r'#\[version\s*=\s*"[^"]*"\]', "", text, count=1)
        self.s = Stream(tokens(text))
        self.metadata = metadata
        self.known: dict[str, Node] = {}
        self.depth = 0
        self.rounded = 0

    # -- the module and its function --------------------------------------------------------------------

    def module(self) -> Graph:
        while self.s.next.text in ("type", "extern"):
            raise messages.control_flow(f"line {self.s.next.line}", "an algebraic data type")
        graph = self.function()
        if self.s.next.text == "def":
            names = ["main", *(t.text[1:] for t in self.s.items[self.s.at :] if t.kind == "global")]
            raise messages.several_functions(sorted(set(names)))
        self.s.take("end")
        if self.rounded:
            warnings.warn(
                f"{self.rounded} scalar constants of the text have six digits and may be rounded; "
                "the JSON of tvm.ir.save_json is exact",
                stacklevel=2,
            )
        return graph

    def function(self) -> Graph:
        if self.s.accept("name", "def"):
            self.s.take("global")
        elif not self.s.accept("name", "fn"):
            raise self.s.wrong("def @main")
        self.s.take("(")
        params = []
        while not self.s.accept(")"):
            token = self.s.next
            if token.kind != "variable":  # attributes of the function
                self.s.take("name")
                self.s.take("=")
                self.value()
            else:
                params.append(self.parameter())
            if not self.s.accept(","):
                self.s.take(")")
                break
        if self.s.accept("->"):  # the body says it again, node by node
            while self.s.next.kind not in ("{", "end"):
                self.s.take()
        self.s.take("{")
        body = self.block()
        self.s.take("}")
        return Graph(tuple(params), body, self.metadata.version)

    def parameter(self) -> Var:
        token = self.s.take("variable")
        name = token.text[1:].removesuffix(":")
        where = f"the input {name!r} (line {token.line})"
        kind = None
        if token.text.endswith(":") or self.s.accept(":"):
            kind = self.type(where)
        if isinstance(kind, tuple):
            raise UnsupportedModelError(f"{where} is a tuple", expected="tensors as inputs")
        self.s.accept("type")
        var = Var(where, name, kind)
        if name in self.known:
            raise messages.damaged(where, "a second input of this name", "inputs of different names")
        self.known[name] = var
        return var

    def block(self) -> Node:
        """Bindings, then the result."""
        while True:
            let = self.s.accept("name", "let")
            token = self.s.next
            follows = self.s.items[min(self.s.at + 1, len(self.s.items) - 1)]
            if token.kind != "variable" or (not let and follows.kind != "="):
                return self.expression()
            self.s.take("variable")
            name = token.text[1:].removesuffix(":")
            if let and (token.text.endswith(":") or self.s.accept(":")):
                self.type(f"line {token.line}")
            self.s.accept("type")
            self.s.take("=")
            self.known[name] = self.expression(f"line {token.line}, %{name}")
            self.s.take(";")

    # -- expressions ------------------------------------------------------------------------------------

    def expression(self, where: str = "") -> Node:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise messages.damaged(f"line {self.s.next.line}", "expressions too deep", "one call a line")
        node = self.primary(where or f"line {self.s.next.line}")
        self.depth -= 1
        return node

    def primary(self, where: str) -> Node:
        token = self.s.next
        if token.kind == "variable":
            self.s.take()
            node = self.variable(token.text[1:], where)
            self.declared(where)
            return node
        if token.kind == "number":
            self.s.take()
            return self.typed_scalar(token.text, where)
        if token.kind == "(":
            return self.group(where)
        if token.kind == "global":
            raise messages.several_functions(["main", token.text[1:]])
        if token.kind == "name":
            return self.named(where)
        raise self.s.wrong("an expression")

    def variable(self, name: str, where: str) -> Node:
        """A variable, or fields of it (``%3.0``); names may hold points too."""
        node = self.known.get(name)
        if node is not None:
            return node
        base, point, index = name.rpartition(".")
        if not point or not index.isdigit() or len(index) > 6 or name.count(".") > 20:
            raise messages.damaged(where, f"the variable %{name} before it is bound", "a bound variable")
        return GetItem(where, self.variable(base, where), int(index))

    def group(self, where: str) -> Node:
        self.s.take("(")
        fields: list[Node] = []
        comma = False
        while not self.s.accept(")"):
            fields.append(self.expression())
            comma = bool(self.s.accept(","))
            if not comma:
                self.s.take(")")
                break
        self.declared(where)
        return fields[0] if len(fields) == 1 and not comma else Tuple(where, tuple(fields))

    def named(self, where: str) -> Node:
        token = self.s.take("name")
        if token.text in _CONTROL:
            raise messages.control_flow(where, _CONTROL[token.text])
        if token.text == "fn":
            raise messages.inner_function(where)
        if token.text in ("True", "False"):
            self.declared(where)
            return Constant(where, np.asarray(token.text == "True"))
        if token.text == "meta":
            key, index = self.reference(where)
            if key != "relay.Constant":
                raise messages.damaged(where, f"a {key} as an expression", "a constant")
            return Constant(where, self.metadata.constant(index, where))
        if token.text not in OPERATORS:
            if self.s.next.kind == "(":
                raise messages.unknown_operator(where, token.text)
            raise messages.damaged(where, f"{token.text!r:.40}", "an expression")
        return self.call(token.text, where)

    def call(self, op: str, where: str) -> Node:
        self.s.take("(")
        args: list[Node] = []
        given: dict[str, Any] = {}
        attrs: dict[str, Any] | None = None
        while not self.s.accept(")"):
            follows = self.s.items[min(self.s.at + 1, len(self.s.items) - 1)]
            if self.s.next.kind == "name" and follows.kind == "=":
                name = self.s.take("name").text
                self.s.take("=")
                given[name] = self.value()
            elif self.s.next.text == "meta" and self.attributes_follow():
                self.s.take()
                key, index = self.reference(where)
                attrs = self.metadata.attributes(key, index, op, where)
            else:
                args.append(self.expression())
            if not self.s.accept(","):
                self.s.take(")")
                break
        if attrs is None:
            attrs = attributes_of(OPERATORS[op], given, lambda k, a, v: _attribute(where, k, a, v), where)
        span = self.s.next.span
        return Call(where, op, tuple(args), attrs, self.declared(f"{where}: {op}"), span)

    def attributes_follow(self) -> bool:
        """Whether ``meta`` comes and means attributes."""
        ahead = self.s.items[self.s.at + 2 : self.s.at + 3]
        return bool(ahead) and ahead[0].text.startswith("relay.attrs.")

    def reference(self, where: str) -> tuple[str, int]:
        """The rest of ``meta[relay.Constant][3]``."""
        self.s.take("[")
        key = self.s.take("name").text
        self.s.take("]")
        self.s.take("[")
        index = self.s.take("number").text
        self.s.take("]")
        self.declared(where)
        if not index.isdigit():
            raise messages.damaged(where, f"meta[{key}][{index}]", "a number")
        return key, int(index)

    def typed_scalar(self, literal: str, where: str) -> Node:
        number, dtype = _number(literal)
        declared = self.declared(where)
        if isinstance(declared, TensorType) and declared.shape == ():
            dtype = declared.dtype
        if isinstance(number, float):
            digits = re.sub(r"e.*|[^\d]", "", literal).lstrip("0")
            self.rounded += len(digits) == 6
        try:
            return Constant(where, np.asarray(number, dtype=dtype))
        except (OverflowError, TypeError, ValueError) as error:
            raise messages.damaged(where, f"the number {literal}", f"a number of type {dtype}") from error

    def declared(self, where: str) -> Type:
        """The type in the comment that comes, if one does."""
        token = self.s.accept("type")
        if token is None:
            return None
        outer, self.s = self.s, Stream(tokens(token.text, token.line))
        try:
            return self.type(where)
        finally:
            self.s = outer

    # -- attributes and types ---------------------------------------------------------------------------

    def value(self, depth: int = 0) -> Any:
        """An attribute."""
        token = self.s.next
        if token.kind in ("[", "(") and depth < 8:
            self.s.take()
            items = []
            close = "]" if token.kind == "[" else ")"
            while not self.s.accept(close):
                items.append(self.value(depth + 1))
                if not self.s.accept(","):
                    self.s.take(close)
                    break
            self.s.accept("type")
            return tuple(items)
        if token.kind == "name" and token.text == "meta":
            self.s.take()
            self.reference(f"line {token.line}")
            return None
        if token.kind in ("number", "string", "name"):
            self.s.take()
            self.s.accept("type")
            if token.kind == "number":
                return _number(token.text)[0]
            if token.kind == "name":
                return {"True": True, "False": False, "None": None}.get(token.text, token.text)
            return token.text
        raise self.s.wrong("a value")

    def type(self, where: str, depth: int = 0) -> Type:
        if self.s.accept("("):
            fields: list[Type] = []
            while not self.s.accept(")"):
                if depth > 8:
                    raise self.s.wrong("a type")
                fields.append(self.type(where, depth + 1))
                if not self.s.accept(","):
                    self.s.take(")")
                    break
            return tuple(fields)
        token = self.s.take("name")
        if token.text == "fn":
            raise messages.inner_function(where)
        if token.text != "Tensor":
            return TensorType((), plain_dtype(token.text))
        self.s.take("[")
        self.s.take("(")
        shape: list[int] = []
        while not self.s.accept(")"):
            if self.s.next.kind in ("?", "name", "variable"):
                raise messages.dynamic(where)
            number = self.s.take("number").text
            if not re.fullmatch(r"\d+(i64)?", number):
                raise messages.damaged(where, f"the dimension {number}", "a number")
            shape.append(int(number.removesuffix("i64")))
            if not self.s.accept(","):
                self.s.take(")")
                break
        self.s.take(",")
        dtype = self.s.take("name").text
        self.s.take("]")
        return TensorType(tuple(shape), plain_dtype(dtype))


def _number(literal: str) -> tuple[int | float, str]:
    """A literal and its type: ``3``, ``3i64``, ``0.5f``."""
    match = _LITERAL.fullmatch(literal)
    if match is None:
        raise messages.damaged("the text", f"the number {literal!r:.40}", "a number")
    number, suffix = match.groups()
    dtype = _SUFFIXES.get(suffix or "", "int32")
    whole = dtype.startswith(("int", "uint")) and re.fullmatch(r"-?\d+", number)
    return (int(number) if whole else float(number)), (dtype if whole or suffix else "float64")


def _attribute(where: str, key: str, attr: Attr | None, value: Any) -> Any:
    """An attribute in the type that the table says."""
    if attr is None or attr.kind in ("ref", "expr"):
        return value
    expected: Mapping[str, Any] = {
        "int": (int,),
        "bool": (bool, int),
        "float": (int, float),
        "dtype": (str, type(None)),
        "str": (str, type(None)),
    }
    if not isinstance(value, expected[attr.kind]):
        raise messages.damaged(where, f"the attribute {key}={value!r:.40}", f"a value of kind {attr.kind}")
    if attr.kind == "float":
        return float(value)
    if attr.kind == "dtype":
        return plain_dtype(value or "")
    return bool(value) if attr.kind == "bool" else value if value is not None else ""
