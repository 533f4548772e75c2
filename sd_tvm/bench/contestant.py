"""One library on one workload: how it is run, what was measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sd_tvm.bench.spread import spread

Maker = Callable[[], "Contestant"]


@dataclass
class Contestant:
    """One library on one workload.

    Attributes
    ----------
    name
        Library and number format.
    kind
        ``ours``, ``fp32``, ``int8``, ``int4`` or ``int2``.
    call
        Runs the workload once.
    weight_bytes
        Bytes of weights that a call reads, 0 if unknown.
    note
        What else a reader must know, e.g. the kernel.
    cold, warm
        Seconds of every turn, a list a round.
    """

    name: str
    kind: str
    call: Callable[[], object]
    weight_bytes: int = 0
    note: str = ""
    cold: list[list[float]] = field(default_factory=list)
    warm: list[list[float]] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """JSON of what was measured, microseconds."""
        out: dict[str, Any] = {"name": self.name, "kind": self.kind, "weight_bytes": self.weight_bytes}
        if self.note:
            out["note"] = self.note
        for mode, rounds in (("cold", self.cold), ("warm", self.warm)):
            if rounds:
                seen = spread([[1e6 * s for s in turns] for turns in rounds])
                out[mode] = {key: round(value, 1) for key, value in seen.items()}
        return out


def gather(makers: dict[str, Maker]) -> tuple[list[Contestant], dict[str, str]]:
    """Contestants of all makers that work, and why the others do not (any library may fail in any way)."""
    found, missing = [], {}
    for name, maker in makers.items():
        try:
            found.append(maker())
        except Exception as error:
            lines = str(error).splitlines()
            missing[name] = f"{type(error).__name__}: {lines[0][:300] if lines else ''}"
    return found, missing
