"""Kinds of attributes: how each is written in JSON and in text, and its default.

Relay's text leaves an attribute out when it has its default, and its JSON writes numbers and references to
other nodes alike: ``"groups": "1"`` is one group, ``"channels": "45"`` is whatever node 45 holds. So a
reader has to know the kind of each attribute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

#: ``int``, ``bool``, ``float``, ``dtype`` and ``str`` stand in place (a string may also be a reference);
#: ``ref`` is a number, a list, a string or nothing in another node; ``expr`` repeats an operand, not read.
Kind = Literal["int", "bool", "float", "dtype", "str", "ref", "expr"]


class _Required:
    def __repr__(self) -> str:
        return "required"


#: Default of an attribute that has none.
REQUIRED = _Required()


@dataclass(frozen=True)
class Attr:
    """One attribute of an operator."""

    kind: Kind
    default: Any = REQUIRED


def integer(default: Any = REQUIRED) -> Attr:
    """A number in place."""
    return Attr("int", default)


def flag(default: bool) -> Attr:
    """A truth value in place."""
    return Attr("bool", default)


def number(default: Any = REQUIRED) -> Attr:
    """A floating-point number in place."""
    return Attr("float", default)


def text(default: str) -> Attr:
    """A string."""
    return Attr("str", default)


def dtype(default: Any = "") -> Attr:
    """A data type; empty where the operands decide."""
    return Attr("dtype", default)


def ref(default: Any = REQUIRED) -> Attr:
    """A number, list or string in another node."""
    return Attr("ref", default)


def expression() -> Attr:
    """An operand once more."""
    return Attr("expr", None)
