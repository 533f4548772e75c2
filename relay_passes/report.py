"""What became of every node of a graph: rows of data, kept in a module attribute, printed as a table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rich.table import Table

#: Module attribute with the rows as JSON.
REPORT_ATTR = "sd.report"

Target = Literal["integer", "sd_accel", "cpu-integer", "cpu"]
#: Meaning of the targets, in the order of tables.
TARGETS: dict[Target, str] = {
    "sd_accel": "instructions of the accelerator",
    "integer": "an integer layer that is not placed yet",
    "cpu-integer": "the same integer layer, compiled for the CPU",
    "cpu": "float32 on the CPU",
}


@dataclass(frozen=True)
class NodeReport:
    """What became of one Relax call.

    Attributes
    ----------
    node
        Name of the variable it was bound to.
    source_name
        Name of the layer in the user's model, else the variable's.
    op
        Operator, e.g. ``relax.nn.conv2d``.
    target
        One of :data:`TARGETS`.
    reason
        Why; empty when there is nothing to say.
    layer
        Integer layer (PrimFunc) that computes it, empty for ``cpu``.
    """

    node: str
    source_name: str
    op: str
    target: Target
    reason: str = ""
    layer: str = ""


def node_reports(mod: Any) -> list[NodeReport]:
    """Rows of a module that went through ``Partition`` (empty otherwise), in graph order."""
    if mod.attrs is None or REPORT_ATTR not in mod.attrs:
        return []
    return [NodeReport(**row) for row in json.loads(str(mod.attrs[REPORT_ATTR]))]


def with_reports(mod: Any, rows: Iterable[NodeReport]) -> Any:
    """Module that carries these rows."""
    return mod.with_attr(REPORT_ATTR, json.dumps([asdict(row) for row in rows], sort_keys=True))


def place(mod: Any, target: Target, layers: Mapping[str, str]) -> Any:
    """Module whose rows say that these integer layers went to ``target``.

    Parameters
    ----------
    mod
        A partitioned module.
    target
        Where the layers went.
    layers
        Layer name -> reason (may be empty), appended to that of the layer's first row; the others say
        that they are fused into it.
    """
    rows, seen = [], set[str]()
    for row in node_reports(mod):
        if row.layer in layers:
            said = row.layer in seen
            seen.add(row.layer)
            reason = row.reason if said else "; ".join(r for r in (row.reason, layers[row.layer]) if r)
            row = replace(row, target=target, reason=reason)
        rows.append(row)
    return with_reports(mod, rows)


def report_table(rows: Iterable[NodeReport], *, title: str = "Where every node runs") -> Table:
    """The rows as a rich table: node, operator, target, reason."""
    from rich.table import Table

    table = Table(title=title)
    for column in ("node", "operator", "target", "layer", "reason"):
        table.add_column(column, overflow="fold")
    for row in rows:
        op = row.op.removeprefix("relax.").removeprefix("nn.")
        table.add_row(row.source_name, op, row.target, row.layer, row.reason)
    return table
