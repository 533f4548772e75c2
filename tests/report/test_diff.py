"""Comparison of two reports."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from sd_tvm.cli.app import app
from sd_tvm.report import LayerRow, Report, report_to_json, write_json
from sd_tvm.report.diff import Change, config_table, diff_reports, diff_to_json, layer_table, total_table

ROW = LayerRow(
    name="stem",
    kind="conv",
    shape="",
    weights=10,
    weight_bytes=100,
    macs=1000,
    dram_read=30,
    dram_write=12,
    cycles=2**60,
    peak_macs=5,
    energy_fj={"mac": 2**61, "acc": 4},
)
A = Report(
    "a", layers=(ROW, replace(ROW, name="x"), replace(ROW, name="x", cycles=7), replace(ROW, name="old"))
)
B = Report(
    "b",
    layers=(
        replace(ROW, cycles=2**59, dram_read=72),
        replace(ROW, name="new"),
        replace(ROW, name="x"),
        replace(ROW, name="x", cycles=14),
    ),
    config={"clock_mhz": 200},
)


def test_layers_are_matched_by_name_and_call() -> None:
    found = diff_reports(A, B)
    assert [layer.name for layer in found.layers] == ["stem", "x", "x #2"]
    assert (found.only_before, found.only_after) == (("old",), ("new",))
    stem, x, x2 = ({c.name: c for c in layer.numbers} for layer in found.layers)
    assert stem["cycles"] == Change("cycles", 2**60, 2**59)
    assert stem["cycles"].ratio == 0.5
    assert stem["dram_bytes"] == Change("dram_bytes", 42, 84)
    assert not any(c.changed for c in x.values())
    assert x2["cycles"].ratio == 2


def test_totals_are_those_of_the_reports() -> None:
    totals = {c.name: c for c in diff_reports(A, B).totals}
    for name, value in A.sums().items():
        assert totals[name].before == value
        assert totals[name].after == B.sums()[name]
    assert totals["layers"].before == totals["layers"].after == 4


def test_a_report_does_not_differ_from_itself() -> None:
    found = diff_reports(A, A)
    assert not any(c.changed for c in found.totals)
    assert not any(layer.changed for layer in found.layers)
    assert found.only_before == found.only_after == ()
    assert found.config == {}


def test_swapping_gives_inverse_ratios() -> None:
    there, back = diff_reports(A, B), diff_reports(B, A)
    assert there.only_before == back.only_after
    for one, two in zip(there.totals, back.totals, strict=True):
        assert (one.before, one.after) == (two.after, two.before)
        if one.ratio and two.ratio:
            assert one.ratio * two.ratio == pytest.approx(1)


def test_functional_against_timed() -> None:
    functional = Report("f", layers=(replace(ROW, cycles=None, peak_macs=None, energy_fj=None),))
    totals = {c.name: c for c in diff_reports(functional, A).totals}
    assert totals["cycles"].before is None
    assert totals["cycles"].ratio is None
    assert totals["energy_fj.mac"].before is None
    text = Console(file=io.StringIO(), width=200, record=True)
    text.print(total_table(diff_reports(functional, A)), layer_table(diff_reports(functional, A)))
    assert "–" in text.export_text()


def test_ratio_of_zero() -> None:
    assert Change("n", 0, 5).ratio is None
    assert Change("n", 5, 0).ratio == 0


def test_json() -> None:
    data = json.loads(diff_to_json(diff_reports(A, B)))
    assert data["schema_version"] == 1
    assert data["layers"][0]["name"] == "stem"
    assert data["layers"][0]["cycles"] == {"before": 2**60, "after": 2**59, "ratio": 0.5}
    assert data["config"] == {"clock_mhz": {"before": None, "after": 200}}
    assert diff_to_json(diff_reports(A, B)) == diff_to_json(diff_reports(A, B))


def test_tables() -> None:
    found = diff_reports(A, B)
    console = Console(file=io.StringIO(), width=200, record=True)
    console.print(total_table(found), layer_table(found), config_table(found))
    text = console.export_text()
    assert "0.500x" in text
    assert f"{2**60:,} -> {2**59:,}" in text
    assert "clock_mhz" in text


def invoke(*args: object) -> Result:
    return CliRunner().invoke(app, ["diff", *map(str, args)])


def test_command(tmp_path: Path) -> None:
    a, b = write_json(A, tmp_path / "a.json"), write_json(B, tmp_path / "b.json")
    result = invoke(a, b)
    assert result.exit_code == 0
    assert "2 of 3 common layers changed" in result.stdout
    assert "old" in result.stdout
    assert "new" in result.stdout
    assert invoke(a, b, "--json").stdout == diff_to_json(diff_reports(A, B))
    assert "0 of 4 common layers changed" in invoke(a, a).stdout


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    a = write_json(A, tmp_path / "a.json")
    other = tmp_path / "b.json"
    other.write_text(report_to_json(B).replace('"schema_version": 1', '"schema_version": 2', 1))
    for pair in ((a, other), (other, a)):
        result = invoke(*pair)
        assert result.exit_code == 2
        assert "report of schema version 2" in result.stderr
        assert "schema version 1" in result.stderr
    assert invoke(a, tmp_path / "none.json").exit_code == 2
