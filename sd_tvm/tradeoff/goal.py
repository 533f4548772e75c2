"""Budgets as users write them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from sd_tvm.errors import BudgetError

#: Quantities that a budget may limit, with what they mean.
QUANTITIES = {
    "size": "how many times smaller than float32 the whole file is at least, for example 7.0",
    "cycles": "clock cycles of one example on the accelerator at most",
    "energy": "microjoules of one example on the accelerator at most",
    "max_drop": "points (per cent) of held-out calibration examples whose answer may differ from float32's; "
    "the smallest such file is made; comes alone",
}
#: Femtojoules of a microjoule.
FJ = 10**9


@dataclass(frozen=True)
class Budget:
    """A checked budget; None: no limit. Units as in :data:`QUANTITIES`."""

    size: float | None = None
    cycles: float | None = None
    energy: float | None = None
    max_drop: float | None = None

    @property
    def on_accelerator(self) -> bool:
        """Whether the accelerator's model is needed."""
        return self.cycles is not None or self.energy is not None

    @classmethod
    def parse(cls, data: Any) -> Budget:
        """Budget from a mapping like ``{"size": 7.0}``.

        Raises
        ------
        BudgetError
            For anything else.
        """
        expected = "; ".join(f"{key}: {text}" for key, text in QUANTITIES.items())
        if not isinstance(data, Mapping):
            raise BudgetError(
                f"a budget of type {type(data).__name__}", expected=expected, fix='pass budget={"size": 7.0}'
            )
        unknown = [str(key) for key in data if key not in QUANTITIES]
        if unknown or not data:
            raise BudgetError(
                f"unknown budget {', '.join(map(repr, unknown))}" if unknown else "an empty budget",
                expected=expected,
                fix="budget by one of these",
            )
        for name, value in data.items():
            low = 0.0 if name == "max_drop" else math.ulp(0.0)
            if isinstance(value, bool) or not isinstance(value, int | float | np.number):
                raise BudgetError(f"{name} {value!r}", expected=expected)
            if not math.isfinite(value) or value < low:
                raise BudgetError(f"{name} {value!r}", expected=f"a finite number > 0; {expected}")
        found = cls(**{name: float(value) for name, value in data.items()})
        if found.max_drop is not None and len(data) > 1:
            raise BudgetError(
                f"max_drop together with {', '.join(sorted(set(data) - {'max_drop'}))}",
                expected=f"max_drop alone; {expected}",
                fix="leave out one of them",
            )
        return found

    def __str__(self) -> str:
        """Text like ``size 7``."""
        given = [(f.name, getattr(self, f.name)) for f in fields(self)]
        return ", ".join(f"{name} {value:g}" for name, value in given if value is not None)
