"""JSON with one text for one value: the canonical form, and a reader that accepts nothing odd."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from sd_tvm.errors import FormatError


def canonical(value: Any) -> str:
    """ASCII JSON with sorted keys and no whitespace; equal values give equal text.

    Raises
    ------
    FormatError
        If the value is not plain JSON data, or holds a number that is not finite.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise FormatError(
            f"not JSON data: {error}",
            expected="dictionaries with text keys, lists, text, finite numbers, booleans, null",
            fix="convert the value before storing it",
        ) from error


def parse(text: str, where: str) -> Any:
    """Parse JSON; duplicate keys, NaN, infinities and absurd nesting are refused.

    Parameters
    ----------
    text
        The JSON.
    where
        What it is, for messages.

    Raises
    ------
    FormatError
        Says where and why.
    """

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        out = dict(items)
        if len(out) != len(items):
            keys = [k for k, _ in items]
            twice = next(k for k in keys if keys.count(k) > 1)
            raise FormatError(f"{where}: duplicate key {twice!r}", fix=REWRITE)
        return out

    def constant(token: str) -> NoReturn:
        raise FormatError(f"{where}: {token} instead of a finite number", fix=REWRITE)

    try:
        return json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{where}: not JSON ({error})", fix=REWRITE) from error


#: What to do about a file that is simply damaged.
REWRITE = "copy the file again or write it again with `sd-tvm compress`"
