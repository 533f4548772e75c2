"""The ten invariants on random programs: a few seconds of each, or the full numbers (`make nightly`).

`SD_PROGRAMS` programs of each law (without it: `SD_LAW_SECONDS` seconds of each, 2 by default) from `SD_SEED`
(without it: a new one). Program i of a law follows from the seed, the law and i alone.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

import pytest
from timing.laws import LAWS

PROGRAMS = int(os.environ.get("SD_PROGRAMS", "0"))
SECONDS = float(os.environ.get("SD_LAW_SECONDS", "2"))
SEED = int(os.environ.get("SD_SEED", random.SystemRandom().randrange(10**6)))
AT_LEAST = 20


@pytest.mark.parametrize("name", LAWS)
def test_law(name: str, record_property: Callable[[str, object], None]) -> None:
    end = time.monotonic() + SECONDS
    checked = 0
    while checked < (PROGRAMS or AT_LEAST) or (not PROGRAMS and time.monotonic() < end):
        try:
            LAWS[name](random.Random(f"{SEED} {name} {checked}"))
        except Exception as error:
            where = f"law {name!r}, SD_SEED={SEED}, program {checked}"
            raise AssertionError(f"{where}: {type(error).__name__}: {error}") from error
        checked += 1
    record_property("seen", f"law {name}: {checked} programs, SD_SEED={SEED}")
