"""Measuring on the CPU: what is said of times, turns, roofs, and ``sd-tvm bench``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from cli import tiny
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import sd_tvm
from sd_tvm.bench.contestant import Contestant, gather
from sd_tvm.bench.model import PEERS, bench
from sd_tvm.bench.spread import ratios, spread
from sd_tvm.bench.turns import Flush, take_turns
from sd_tvm.cli.app import app
from sd_tvm.errors import OptionError

_rounds = st.lists(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=9), min_size=1, max_size=4)


@given(_rounds)
def test_range_holds_quartiles_and_the_median_of_every_round(rounds: list[list[float]]) -> None:
    found = spread(rounds)
    values = np.sort(np.concatenate(rounds))
    quarter = len(values) // 4
    inside = [np.median(turns) for turns in rounds] + [values[quarter], values[-1 - quarter]]
    assert found["low"] == min(inside)
    assert found["high"] == max(inside)
    assert found["low"] <= found["median"] <= found["high"]
    assert found["best"] == values[0]
    assert found["median"] == pytest.approx(np.median(values))


@given(_rounds)
def test_ratios_are_turn_by_turn(rounds: list[list[float]]) -> None:
    twice = [[2 * v for v in turns] for turns in rounds]
    assert ratios(rounds, twice) == pytest.approx({"low": 2, "median": 2, "high": 2})


def test_everybody_has_as_many_turns_and_the_order_alternates() -> None:
    order: list[str] = []
    contestants = [Contestant(n, "ours", lambda n=n: order.append(n)) for n in "ab"]
    flushed: list[int] = []

    class _Flush(Flush):
        def __init__(self) -> None:
            pass

        def __call__(self) -> None:
            flushed.append(len(order))

    for _ in range(2):
        assert take_turns(contestants, 4, _Flush()) == 4
    for c in contestants:
        assert [len(turns) for turns in c.cold] == [len(turns) for turns in c.warm] == [4, 4]
        assert set(c.row()) == {"name", "kind", "weight_bytes", "cold", "warm"}
    assert len(flushed) == 16
    assert "".join(order[:18]) == "ab" + "aaaabbbb" + "bbbbaaaa"


def test_turns_end_with_their_time_but_not_before_the_third() -> None:
    contestant = Contestant("a", "ours", lambda: None)
    assert take_turns([contestant], 100, seconds=0) == 3


def test_who_cannot_run_says_why() -> None:
    def fail() -> Contestant:
        raise ImportError("no such library\nsecond line")

    found, missing = gather({"a": lambda: Contestant("a", "fp32", int), "b": fail})
    assert [c.name for c in found] == ["a"]
    assert missing == {"b": "ImportError: no such library"}


def test_bench_of_a_model_beside_torch(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    result = CliRunner().invoke(
        app, ["bench", "cli.tiny:model", "--peers", "torch", "--turns", "3", "--json", str(out)]
    )
    assert result.exit_code == 0, result.output + repr(result.exception)
    assert "torch fp32" in result.stdout
    assert "threads 1" in result.stdout
    document = json.loads(out.read_text())
    assert document["turns"] == 3
    assert [c["name"] for c in document["contestants"]] == ["sd-tvm", "torch fp32"]
    assert document["missing"] == {}
    (ratio,) = document["ratios"]
    assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"]
    ours = document["contestants"][0]
    assert 0 < ours["warm"]["best"] <= ours["warm"]["median"]
    assert ours["weight_bytes"] > 0


def test_bench_of_a_file_needs_the_float_model_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    path = tmp_path / "tiny.sd"
    sd_tvm.compress(*tiny.model(), calibration=tiny.data()).save(path)
    alone = bench(str(path), turns=3)
    assert set(alone["missing"]) == set(PEERS)
    assert all("--reference MODEL" in why for why in alone["missing"].values())
    beside = bench(str(path), reference="cli.tiny:model", peers=("torch", "onnxruntime"), turns=3)
    assert [r["peer"] for r in beside["ratios"]] == ["torch fp32"]
    assert "onnxruntime" in beside["missing"]["onnxruntime"]


@pytest.mark.parametrize(("option", "value"), [("--peers", "torch,tflite"), ("--json", "nowhere/x.json")])
def test_options_that_match_nothing_are_errors(option: str, value: str) -> None:
    result = CliRunner().invoke(app, ["bench", "cli.tiny:model", option, value])
    assert result.exit_code == 2
    assert value.split(",")[-1].split("/")[0] in result.output


def test_no_turns_is_an_error() -> None:
    with pytest.raises(OptionError, match="0 turns"):
        bench("cli.tiny:model", turns=0)
