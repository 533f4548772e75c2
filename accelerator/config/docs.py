"""Fills the tables of ``docs/accelerator.md``: ``python -m sd_tvm.accelerator.config.docs PAGE``.

The page holds marker comments ``<!-- begin NAME -->`` and ``<!-- end NAME -->``; what lies between them is
written here, from the configurations and the energy table themselves.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from sd_tvm.accelerator.config.energy import REQUIRED
from sd_tvm.accelerator.config.model import AcceleratorConfig
from sd_tvm.errors import ConfigError


def _configurations() -> str:
    configs = [AcceleratorConfig.load(name) for name in AcceleratorConfig.names()]
    keys = list(dict.fromkeys(key for c in configs for key in _flat(c)))
    rows = [("", *(f"`{c.name}`" for c in configs))]
    rows += [(f"`{key}`", *(_flat(c)[key] for c in configs)) for key in keys]
    rows.append(("peak MAC a cycle", *(str(c.peak_macs_per_cycle) for c in configs)))
    return _table(rows)


def _flat(config: AcceleratorConfig) -> dict[str, str]:
    out: dict[str, str] = {}
    for key, value in config.model_dump(mode="json").items():
        if isinstance(value, dict):
            out |= {f"{key}.{k}": str(v) for k, v in value.items()}
        elif key not in ("schema_version", "name", "description"):
            out[key] = str(value)
    return out


def _energy() -> str:
    table = AcceleratorConfig.load().energy_table()
    rows = [("entry", "value", "low", "high", "unit", "bits", "node", "grade", "what it pays", "source")]
    for name, (_, meaning) in REQUIRED.items():
        e = table.entries[name]
        node = "" if e.node_nm is None else f"{e.node_nm} nm"
        numbers = (f"{e.value:g}", f"{e.low:g}", f"{e.high:g}")
        rows.append((f"`{name}`", *numbers, e.unit, str(e.bits), node, e.grade, meaning, e.source))
    return _table(rows)


def _prices() -> str:
    configs = [AcceleratorConfig.load(name) for name in AcceleratorConfig.names()]
    prices = [c.energy_fj() for c in configs]
    rows = [("fJ an event", *(f"`{c.name}`" for c in configs))]
    rows += [(f"`{event}`", *(str(p[event]) for p in prices)) for event in prices[0]]
    return _table(rows)


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines)


SECTIONS: dict[str, Callable[[], str]] = {
    "configurations": _configurations,
    "energy": _energy,
    "prices": _prices,
}


def fill(page: str) -> str:
    """Page with its generated parts written anew.

    Raises
    ------
    ConfigError
        If a marker is missing.
    """
    for name, section in SECTIONS.items():
        pattern = rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)"
        text = section()
        page, count = re.subn(pattern, lambda m, t=text: f"{m[1]}{t}\n{m[2]}", page, flags=re.DOTALL)  # type: ignore[misc]
        if count != 1:
            raise ConfigError(
                f"the page has {count} parts {name!r}",
                expected=f"one <!-- begin {name} --> ... <!-- end {name} -->",
                fix="restore the markers",
            )
    return page


def main(arguments: Sequence[str]) -> int:
    """Fill the page that is named."""
    path = Path(arguments[0])
    path.write_text(fill(path.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
