"""Tokens of Relay's text form."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sd_tvm.errors import UnsupportedModelError
from sd_tvm.relay import messages


@dataclass(frozen=True)
class Token:
    """A piece of text.

    Attributes
    ----------
    kind
        ``variable`` (``%x``), ``global`` (``@main``), ``number``, ``string``, ``name``, ``type`` (the type in
        a comment), ``end`` or the punctuation itself.
    text
        The piece, without quotes or comment marks.
    line
        Where it is, from 1.
    span
        Of a type: the name of the source model's node that stands beside it.
    """

    kind: str
    text: str
    line: int
    span: str = ""


_NUMBER = r"-?(?:\d+(?:\.\d*)?(?:e[-+]?\d+)?|inf|nan)(?:f|f16|f32|f64|i8|i16|i32|i64|u8|u16|u32|u64|h)?"
_TOKENS = re.compile(
    rf"""
    (?P<space>\s+)
  | (?P<comment>/\*.*?\*/)
  | (?P<string>"(?:[^"\\]|\\.)*")
  | (?P<variable>%[^\s,;(){{}}=]+)
  | (?P<global>@[\w.]+)
  | (?P<number>{_NUMBER})(?![\w.])
  | (?P<name>[A-Za-z_][\w.]*)
  | (?P<mark>->|=>|[-()\[\]{{}}<>:;,.=?*\#!&|])
    """,
    re.VERBOSE | re.DOTALL,
)
_TYPE = re.compile(r"/\*\s*ty=(.*?)(?:\s+span=(\S*?)(?::\d+)*)?\s*\*/", re.DOTALL)


def tokens(text: str, first_line: int = 1) -> list[Token]:
    """Tokens of a text; comments are dropped, but for those that give a type.

    Raises
    ------
    UnsupportedModelError
        At something that is no Relay.
    """
    found, at, line = [], 0, first_line
    while at < len(text):
        match = _TOKENS.match(text, at)
        if match is None:
            raise messages.damaged(
                f"line {line}", f"{text[at : at + 20]!r}", "the text of mod.astext(), all of it"
            )
        kind, piece = str(match.lastgroup), match.group()
        if kind == "comment":
            declared = _TYPE.fullmatch(piece)
            if declared:
                found.append(Token("type", declared.group(1), line, declared.group(2) or ""))
        elif kind == "string":
            found.append(Token(kind, piece[1:-1], line))
        elif kind == "mark":
            found.append(Token(piece, piece, line))
        elif kind != "space":
            found.append(Token(kind, piece, line))
        line += piece.count("\n")
        at = match.end()
    found.append(Token("end", "", line))
    return found


class Stream:
    """Tokens one after the other."""

    def __init__(self, items: list[Token]) -> None:
        self.items, self.at = items, 0

    @property
    def next(self) -> Token:
        """The token that comes, which stays."""
        return self.items[min(self.at, len(self.items) - 1)]

    def take(self, kind: str = "", text: str = "") -> Token:
        """The token that comes.

        Raises
        ------
        UnsupportedModelError
            If it is of another kind or reads otherwise.
        """
        token = self.next
        if (kind and token.kind != kind) or (text and token.text != text):
            raise self.wrong(text or kind)
        self.at += 1
        return token

    def accept(self, kind: str, text: str = "") -> Token | None:
        """The token that comes if it is of that kind, else None."""
        token = self.next
        if token.kind != kind or (text and token.text != text):
            return None
        self.at += 1
        return token

    def wrong(self, expected: str) -> UnsupportedModelError:
        """The error for the token that comes."""
        token = self.next
        if token.kind == "end":
            return messages.damaged(f"line {token.line}", "the text ends", f"{expected!r}: it was cut short")
        return messages.damaged(f"line {token.line}", f"{token.text!r:.40}", repr(expected))
