"""Budgets on a network of three layers: against all assignments, byte for byte, and refused."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path
from typing import Any

import pytest
from tradeoff import small
from typer.testing import CliRunner

import sd_tvm
from sd_tvm.cli.app import app
from sd_tvm.compression import _calibrated, _store
from sd_tvm.errors import BudgetError
from sd_tvm.format import dumps
from sd_tvm.frontends import load_model
from sd_tvm.recipe import Form, Recipe, Rule
from sd_tvm.relay_passes.pipeline import simplify
from sd_tvm.tradeoff import OPTIONS
from sd_tvm.tradeoff.budget import _RESERVE, Budget, _Planner
from sd_tvm.tradeoff.measure import measure

SLACK = 64  # bytes


@pytest.fixture(scope="module")
def parts() -> tuple[Any, sd_tvm.SensitivityReport]:
    mod = load_model(*small.model())
    for step in simplify():
        mod = step(mod)
    mod = _calibrated(mod, small.data(), Recipe.default(), lambda *_: None)
    return mod, measure(mod, small.data(), OPTIONS)


def test_least_error_of_all_files_that_fit(parts: tuple[Any, sd_tvm.SensitivityReport]) -> None:
    mod, report = parts
    planner = _Planner(mod, report, Budget(1.0), _store)
    files = []
    for choice in itertools.product(*(range(len(usable)) for usable in planner.usable)):
        error = sum(
            layer.options[usable[j]].error
            for layer, usable, j in zip(report.layers, planner.usable, choice, strict=True)
        )
        files.append((len(dumps(planner._stored(choice).stored)), error))
    assert len(files) >= 27
    sizes = sorted({size for size, _ in files})
    best = max(error for nbytes, error in files if nbytes == sizes[0])
    for size in sizes[:: max(1, len(sizes) // 8)]:
        limited = _Planner(mod, report, Budget(planner.fp32_bytes / (size + _RESERVE)), _store)
        choice = limited.first()
        assert limited._stored(choice).nbytes <= size
        found = sum(points[j][1] for points, j in zip(limited.points, choice, strict=True))
        # Sizes of the compressed text differ a little, which the search does not see.
        wanted = min((error for nbytes, error in files if nbytes <= size - SLACK), default=best)
        assert found <= wanted * (1 + 1e-12)
    with pytest.raises(BudgetError) as caught:
        _Planner(mod, report, Budget(planner.fp32_bytes / (sizes[0] + _RESERVE - 1)), _store).first()
    assert caught.value.best == pytest.approx(planner.fp32_bytes / (sizes[0] + _RESERVE))


@pytest.fixture(scope="module")
def compressed() -> sd_tvm.CompressedModel:
    return sd_tvm.compress("tradeoff.small:model", calibration=small.data(), budget={"size": 4.5})


def test_the_file_meets_the_budget(compressed: sd_tvm.CompressedModel, tmp_path: Path) -> None:
    assert compressed.fp32_bytes / compressed.save(tmp_path / "a.sd") >= 4.5
    again = sd_tvm.load(tmp_path / "a.sd")
    assert again.recipe == compressed.recipe
    assert again.recipe is not None
    assert [rule.name for rule in again.recipe.rules] == ["first", "second", "dense"]
    assert {row["option"] for row in again.report} <= set(OPTIONS)
    assert len({row["option"] for row in again.report}) > 1
    for row in again.report:
        assert row["relative_output_error"] >= 0
        assert (again.weights[row["node"]].__class__.__name__ == "RawWeight") == (row["option"] == "int8")


def test_the_stored_recipe_gives_the_same_weights(compressed: sd_tvm.CompressedModel) -> None:
    again = sd_tvm.compress("tradeoff.small:model", calibration=small.data(), recipe=compressed.recipe)
    for name, weight in compressed.weights.items():
        assert (weight.integer() == again.weights[name].integer()).all()
        assert (weight.scale == again.weights[name].scale).all()


def test_same_bytes_again_and_from_the_command_line(
    compressed: sd_tvm.CompressedModel, tmp_path: Path
) -> None:
    compressed.save(tmp_path / "a.sd")
    arguments = ["compress", "tradeoff.small:model", "-o", str(tmp_path / "b.sd")]
    arguments += ["--calibration", "tradeoff.small:data", "--budget", "size=4.5"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "a.sd").read_bytes() == (tmp_path / "b.sd").read_bytes()
    net, example = small.model()
    twice = sd_tvm.compress(net, example, calibration=list(small.data()), budget={"size": 4.5})
    twice.save(tmp_path / "c.sd")
    assert (tmp_path / "a.sd").read_bytes() == (tmp_path / "c.sd").read_bytes()


@pytest.mark.parametrize(
    ("budget", "text"),
    [
        ({"weight": 7}, "weight"),
        ({"size": 7, "cycles": 3}, "cycles"),
        ({}, "empty"),
        ({"size": 0}, "size 0"),
        ({"size": float("nan")}, "nan"),
        ({"size": float("inf")}, "inf"),
        ({"size": True}, "True"),
        ({"size": "7"}, "'7'"),
        (7.0, "float"),
    ],
)
def test_refused_budgets(budget: Any, text: str) -> None:
    with pytest.raises(BudgetError, match=text) as caught:
        sd_tvm.compress("tradeoff.small:model", calibration=small.data(2), budget=budget)
    assert "size" in caught.value.expected
    assert caught.value.best is None


def test_refused_combinations() -> None:
    with pytest.raises(BudgetError, match="recipe"):
        sd_tvm.compress(
            "tradeoff.small:model", calibration=small.data(2), recipe="default", budget={"size": 4}
        )
    with pytest.raises(BudgetError, match="calibration"):
        sd_tvm.compress("tradeoff.small:model", budget={"size": 4})


def test_a_budget_out_of_reach_says_what_is_in_reach() -> None:
    with pytest.raises(BudgetError) as caught:
        sd_tvm.compress("tradeoff.small:model", calibration=small.data(4), budget={"size": 50})
    best = caught.value.best
    assert best is not None
    reached = sd_tvm.compress("tradeoff.small:model", calibration=small.data(4), budget={"size": best})
    assert reached.fp32_bytes / reached.nbytes >= best * (1 - 1e-9)


@pytest.mark.parametrize("text", ["size", "size=", "=7", "size=seven", "size=7,size=8", ""])
def test_malformed_budgets_on_the_command_line(text: str, tmp_path: Path) -> None:
    arguments = ["compress", "tradeoff.small:model", "-o", str(tmp_path / "a.sd"), "--budget", text]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "size=7" in result.stderr


def test_a_layer_that_got_no_smaller_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    rule = Rule(op="*", kind="sd", form=Form(basis="codebook", bases=64), even_if_larger=True)
    with caplog.at_level(logging.WARNING, logger="sd_tvm"):
        made = sd_tvm.compress("cli.tiny:model", recipe=Recipe(rules=(rule,)))
    rows = {row["node"]: row.get("warning", "") for row in made.report}
    assert "got no smaller" in rows["depthwise"]
    assert not rows["conv"]
    assert any(note.startswith("depthwise: ") for note in made.notes)
    assert "depthwise: SD form takes" in caplog.text
