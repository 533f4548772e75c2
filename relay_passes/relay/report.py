"""What became of every operator of a Relay module."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class NodeRow:
    """One operator.

    Attributes
    ----------
    node
        Number of the call in the module, in post order, or the name of a node in a region.
    op
        Its operator.
    target
        As in :data:`sd_tvm.relay_passes.report.TARGETS`; ``relay``: TVM's own code.
    reason
        Why; empty when there is nothing to say.
    region
        Function that it became part of, empty for ``relay``.
    """

    node: str
    op: str
    target: str
    reason: str = ""
    region: str = ""


_last: list[NodeRow] = []


def last_report() -> list[NodeRow]:
    """Rows of the last module that was partitioned in this process."""
    return list(_last)


def publish(rows: Iterable[NodeRow]) -> None:
    """Make rows the last report; weighted operators that were not offloaded are warned of."""
    _last[:] = rows
    for row in _last:
        if row.target == "relay" and row.op in ("nn.conv2d", "nn.dense"):
            _LOG.warning("%s (call %s) is not offloaded: %s", row.op, row.node, row.reason)
