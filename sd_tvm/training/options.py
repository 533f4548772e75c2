"""How retraining goes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from sd_tvm.errors import OptionError
from sd_tvm.weights.tensor import ROWS_KEPT

Mode = Literal["straight-through", "project"]
MODES: tuple[Mode, ...] = ("straight-through", "project")


@dataclass(frozen=True)
class Options:
    """Options of :func:`sd_tvm.training.attach`.

    Attributes
    ----------
    mode
        ``straight-through``: the model always computes with compressed weights; the float masters move, and
        the codes follow them. ``project``: in training the model computes with the free float weights, and
        at the end of every epoch :meth:`Handle.end_epoch` sets them to their projection (the published way,
        SmartExchange, arXiv 2005.03403: retrain, decompose again).
    every
        Steps from one search of the codes to the next; ``straight-through`` only.
    rows
        Rows kept of every 16, by epoch: (16, 8, 8, 4) prunes in three moves. 16, 8, 4 or 2, never more than
        before. A layer keeps at least what its recipe says; after the last entry exactly that. Empty: the
        recipe's from the start. For N:16 patterns.
    hold_bases
        Epoch from which on bases and scales stay; every epoch before fits them anew. None: all do.
    pull
        Part of a dropped weight that is added to its gradient, so that dropped weights fade (SR-STE, Zhou et
        al. 2021, arXiv 2102.04010). 0: they stay in the race.
    """

    mode: Mode = "straight-through"
    every: int = 1
    rows: tuple[int, ...] = ()
    hold_bases: int | None = None
    pull: float = 2e-4

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise _bad("mode", self.mode, f"one of {', '.join(MODES)}")
        if not _is_count(self.every) or self.every < 1:
            raise _bad("every", self.every, "a number of steps, at least 1")
        sizes = sorted(ROWS_KEPT.values())
        if not isinstance(self.rows, tuple) or any(n not in sizes for n in self.rows):
            raise _bad("rows", self.rows, f"a tuple of {sizes}, one an epoch")
        if list(self.rows) != sorted(self.rows, reverse=True):
            raise _bad("rows", self.rows, "never more rows than in the epoch before")
        if self.hold_bases is not None and (not _is_count(self.hold_bases) or self.hold_bases < 0):
            raise _bad("hold_bases", self.hold_bases, "an epoch, counted from 0, or None")
        if not isinstance(self.pull, float | int) or not math.isfinite(self.pull) or self.pull < 0:
            raise _bad("pull", self.pull, "a finite number, at least 0")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _bad(name: str, value: object, expected: str) -> OptionError:
    return OptionError(f"{name} = {value!r}", expected=expected, fix="correct the option")
