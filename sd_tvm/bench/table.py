"""What ``sd-tvm bench`` prints."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def show(document: dict[str, Any], out: Console) -> None:
    """Print a table of contestants, who did not run, and the machine."""
    over = {r["peer"]: r for r in document["ratios"]}
    table = Table(title="Microseconds a call")
    for column in ("", "best", "median", "spread", "times ours"):
        table.add_column(column, justify="left" if not column else "right")
    for c in document["contestants"]:
        v, ratio = c["warm"], over.get(c["name"])
        said = "" if ratio is None else f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"
        table.add_row(
            c["name"],
            f"{v['best']:,.0f}",
            f"{v['median']:,.0f}",
            f"{v['low']:,.0f} to {v['high']:,.0f}",
            said,
        )
    out.print(table)
    for name, why in document["missing"].items():
        out.print(escape(f"{name}: not run, {why}"))
    m = document["machine"]
    out.print(
        escape(
            f"{document['turns']} turns, threads {document['threads']}, {m['cpu']}, "
            f"{m['logical cpus']} logical CPUs, {', '.join(m['features'])}, "
            f"load {m['load at start']:.1f} to {m['load at end']:.1f}"
        )
    )
    wanted = ", ".join(f"{k} {v}" for k, v in sorted(document["versions"].items()))
    out.print(escape(f"{document['date']}; {wanted}"))
    for c in document["contestants"]:
        if "note" in c:
            out.print(escape(f"{c['name']}: {c['note']}; weights {c['weight_bytes']:,} bytes"))
