"""Events priced in Python are what the simulator charges, at every corner of the table."""

from __future__ import annotations

import random

import pytest
from timing.asm import program
from timing.random_programs import generate

from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.config.events import CORNERS, EVENTS, NOMINAL, energy_of, event_prices
from sd_tvm.accelerator.timing import time_program

PARALLEL = [n for n in AcceleratorConfig.names() if AcceleratorConfig.load(n).array.mac == "parallel"]
REBUILDING = [n for n in PARALLEL if AcceleratorConfig.load(n).rebuilds]


def test_corners() -> None:
    assert next(iter(CORNERS)) == NOMINAL
    assert len(CORNERS) == 1 + 2**3
    assert CORNERS["dram=low sram=high logic=low"] == {"dram": "low", "sram": "high", "logic": "low"}


@pytest.mark.parametrize("name", REBUILDING)
def test_prices_are_those_of_the_simulator(name: str) -> None:
    config = AcceleratorConfig.load(name)
    prices = event_prices(config)
    codes = [program(generate(random.Random(seed), 40)) for seed in range(5)]
    for corner, choice in CORNERS.items():
        for code in codes:
            stats = time_program(code, config.to_text(choice))
            assert set(stats["events"]) == set(EVENTS)
            assert energy_of(stats["events"], prices[corner]) == stats["energy_total_fj"]
            parts = dict.fromkeys(stats["energy_fj"], 0)
            for event, count in stats["events"].items():
                parts[EVENTS[event][1]] += count * prices[corner][event]
            assert parts == stats["energy_fj"]


def test_an_event_without_a_price_is_an_error() -> None:
    with pytest.raises(KeyError):
        energy_of({"teleportations": 1}, event_prices(AcceleratorConfig.load())[NOMINAL])
