"""The operators of Relay that are imported: one table, in families.

A row says what an operator's attributes are (both readers ask), and how it is written in Relax (the importer
asks). ``tests/relay_import`` has a case for every row, and fails if a row has none. To add an operator, add a
row to its family and a case.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sd_tvm.errors import UnsupportedModelError
from sd_tvm.relay import (
    operators_conv,
    operators_elementwise,
    operators_image,
    operators_index,
    operators_norm,
    operators_pool,
    operators_qnn,
    operators_reduce,
    operators_shape,
    operators_vision,
)
from sd_tvm.relay.attrs import REQUIRED, Attr
from sd_tvm.relay.site import Operator

FAMILIES: dict[str, tuple[Operator, ...]] = {
    "convolutions and matrix products": operators_conv.ROWS,
    "pooling": operators_pool.ROWS,
    "normalisation": operators_norm.ROWS,
    "elementwise": operators_elementwise.ROWS,
    "reductions": operators_reduce.ROWS,
    "shapes": operators_shape.ROWS,
    "indices": operators_index.ROWS,
    "images": operators_image.ROWS,
    "boxes": operators_vision.ROWS,
    "qnn": operators_qnn.ROWS,
}

OPERATORS: dict[str, Operator] = {row.op: row for rows in FAMILIES.values() for row in rows}


def markdown() -> str:
    """The operators as a table, for ``docs/from-relay.md``."""
    lines = ["| family | operators |", "|---|---|"]
    for family, rows in FAMILIES.items():
        lines.append(f"| {family} | {', '.join(f'`{row.op}`' for row in rows)} |")
    return "\n".join(lines) + "\n"


def attributes_of(
    row: Operator, given: Mapping[str, Any], decode: Callable[[str, Attr | None, Any], Any], where: str
) -> dict[str, Any]:
    """Attributes of a call: those that the file gives, decoded, and defaults for the others.

    Raises
    ------
    UnsupportedModelError
        If one is missing that has no default, or one that is not in the table says something.
    """
    attrs: dict[str, Any] = {}
    for name, raw in given.items():
        attr = row.attrs.get(name)
        value = decode(name, attr, raw)
        if attr is not None:
            attrs[name] = value
        elif value not in (None, "", 0, False):
            raise UnsupportedModelError(
                f"{where}: {row.op} has the attribute {name}={value!r:.40}",
                expected=f"attributes {', '.join(row.attrs) or '(none)'}",
                fix="if a vendor's Relay added it, save the module with one of apache-tvm",
            )
    for name, attr in row.attrs.items():
        if name not in attrs:
            if attr.default is REQUIRED:
                raise UnsupportedModelError(
                    f"{where}: {row.op} without the attribute {name!r}",
                    expected=f"attributes {', '.join(row.attrs)}",
                    fix="save the module with the TVM that made it",
                )
            attrs[name] = attr.default
    return attrs
