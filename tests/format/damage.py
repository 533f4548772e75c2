"""Kinds of damage to a ``.sd`` file, and what the refusal must say.

``@damage(pattern)`` registers a function ``(good bytes) -> bad bytes``; the sums of the bad file are right
unless the damage is about them, so that each check is met behind the sums.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from format.rawfile import RawFile, sign

Damage = Callable[[bytes], bytes]
DAMAGES: dict[str, tuple[Damage, str]] = {}


def damage(pattern: str) -> Callable[[Damage], Damage]:
    """Register a damage of whole bytes; the message must match the pattern."""

    def register(function: Damage) -> Damage:
        DAMAGES[function.__name__] = (function, pattern)
        return function

    return register


def edit(pattern: str) -> Callable[[Callable[[RawFile], None]], None]:
    """Register a damage of the parts of a file, with fresh sums."""

    def register(function: Callable[[RawFile], None]) -> None:
        def whole(data: bytes) -> bytes:
            raw = RawFile.split(data)
            function(raw)
            return raw.join()

        DAMAGES[function.__name__] = (whole, pattern)

    return register


def header(pattern: str) -> Callable[[Callable[[dict[str, Any]], Any]], None]:
    """Register a damage of the header's table; the data stay."""

    def register(function: Callable[[dict[str, Any]], Any]) -> None:
        def whole(data: bytes) -> bytes:
            n = int.from_bytes(data[:8], "little")
            table = json.loads(data[8 : 8 + n])
            table["__metadata__"]["sha256"] = "0" * 64
            return sign(function(table) or table, data[8 + n :])

        DAMAGES[function.__name__] = (whole, pattern)

    return register


def set_path(document: Any, path: str, value: Any) -> None:
    """document.a.b.c = value; digits index lists."""
    *parents, last = path.split("/")
    for key in parents:
        document = document[int(key) if key.isdigit() else key]
    document[int(last) if last.isdigit() else last] = value


def put(name: str, path: str, value: Any, pattern: str) -> None:
    """Register a change of one value of the model's JSON."""

    def function(raw: RawFile) -> None:
        set_path(raw.sd, path, value)

    function.__name__ = name
    edit(pattern)(function)
