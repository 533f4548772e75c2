"""Reports: exact sums, reproducible bytes, a page that stands alone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sd_tvm.errors import FormatError
from sd_tvm.report import (
    SCHEMA_VERSION,
    EnergyConstant,
    LayerRow,
    Metric,
    Rejection,
    Report,
    read_json,
    report_from_json,
    report_to_json,
    units,
    write_html,
    write_json,
)
from sd_tvm.report.page import render_page


def row(i: int, kind: str = "conv", *, timed: bool = True) -> LayerRow:
    return LayerRow(
        name=f"blocks.{i}.{kind}",
        kind=kind,
        shape=f"{16 * i}x14x14 -> 32x14x14, 1x1",
        form="two-term 16:16 filter",
        weights=1000 * i,
        weight_bytes=531 * i,
        macs=1_000_003 * i,
        macs_dense=2_000_003 * i,
        instructions=17 + i,
        dram_read=4096 * i,
        dram_write=1024 * i,
        cycles=10_001 * i if timed else None,
        peak_macs=10_001 * 1024 * i if timed else None,
        energy_fj={"dram": 123_456_789 * i, "array": 7_654_321 * i, "alu": i} if timed else None,
        busy={"ld": 7 * i} if timed else None,
        stall={"sem": 3 * i} if timed else None,
    )


def sample(*, timed: bool = True) -> Report:
    layers = tuple(row(i, ("conv", "depthwise", "add")[i % 3], timed=timed) for i in range(1, 9))
    return Report(
        title="a <test> & more",
        metrics=(Metric("top-1", 18, "of 20"), Metric("compression", 7.123456, "x"), Metric("mode", "timed")),
        layers=layers,
        rejected=(Rejection("softmax", "relax.nn.softmax", "cpu", "no integer form"),),
        config={"name": "unit", "clock_mhz": 1000},
        constants=(EnergyConstant("dram", 12.5, "pJ/bit", "28 nm", "published", "a paper"),),
        versions={"sd-tvm": "0.1.0"},
        notes=("a note",),
        totals={"cycles": sum(r.cycles or 0 for r in layers)} if timed else {},
    )


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)
        self.links += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]


@pytest.mark.parametrize("timed", [True, False])
def test_json_round_trip(tmp_path: Path, timed: bool) -> None:
    report = sample(timed=timed)
    path = write_json(report, tmp_path / "r.json")
    assert read_json(path) == report
    assert report_to_json(report_from_json(path.read_text())) == path.read_text()


def test_json_layout() -> None:
    data = json.loads(report_to_json(sample()))
    assert list(data)[:2] == ["schema_version", "title"]
    assert data["schema_version"] == SCHEMA_VERSION == 1
    assert data["metrics"][1] == {"name": "compression", "value": 7.123456, "unit": "x"}
    first = data["layers"][0]
    assert first["energy_total_fj"] == sum(first["energy_fj"].values())
    assert first["bits_per_weight"] == pytest.approx(531 * 8 / 1000)
    assert first["utilisation"] == pytest.approx(first["macs"] / first["peak_macs"], abs=1e-6)


@given(st.lists(st.integers(0, 2**62), min_size=1, max_size=20))
def test_sums_are_exact(values: list[int]) -> None:
    layers = tuple(replace(row(1), cycles=v, energy_fj={"a": v, "b": v // 3}) for v in values)
    sums = Report("t", layers=layers).sums()
    assert sums["cycles"] == sum(values)
    assert sums["energy_total_fj"] == sum(v + v // 3 for v in values)


def test_wrong_totals_are_refused(tmp_path: Path) -> None:
    report = sample()
    wrong = replace(report, totals={"cycles": report.totals["cycles"] + 1})
    with pytest.raises(FormatError, match="add up to"):
        report_to_json(wrong)
    with pytest.raises(FormatError, match="add up to"):
        write_html(wrong, tmp_path / "r.html")
    text = report_to_json(report).replace(f'"cycles": {report.layers[0].cycles},', '"cycles": 1,', 1)
    with pytest.raises(FormatError, match="add up to"):
        report_from_json(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"schema_version": 1}',
        '{"schema_version": 99}',
        report_to_json(sample())[:-40],
    ],
)
def test_not_a_report(text: str) -> None:
    with pytest.raises(FormatError):
        report_from_json(text)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="cannot read"):
        read_json(tmp_path / "none.json")


@pytest.mark.parametrize("timed", [True, False])
def test_page_stands_alone(timed: bool) -> None:
    text = render_page(sample(timed=timed))
    page = _Page()
    page.feed(text)
    assert page.open == []
    assert all(link.startswith("#") for link in page.links)
    assert not re.search(r"url\((?!#)|<script|@import", text)
    assert "a &lt;test&gt; &amp; more" in text
    assert "no integer form" in text
    assert "a paper" in text
    assert ("cycles</th>" in text) == timed


def test_page_shows_numbers() -> None:
    report = sample()
    text = render_page(report)
    assert f"{report.sums()['cycles']:,}" in text
    assert "7.123x" in text
    for layer in report.layers:
        assert f"{layer.cycles:,}" in text


def test_same_bytes_in_fresh_processes(tmp_path: Path) -> None:
    source = write_json(sample(), tmp_path / "r.json")
    program = (
        "import sys\nfrom sd_tvm.report import read_json, write_html, write_json\n"
        "r = read_json(sys.argv[1])\nwrite_html(r, sys.argv[2] + '.html')\n"
        "write_json(r, sys.argv[2] + '.json')"
    )
    for seed in ("0", "1"):
        subprocess.run(
            [sys.executable, "-c", program, str(source), str(tmp_path / seed)],
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path), "MPLCONFIGDIR": str(tmp_path)},
        )
    for suffix in (".html", ".json"):
        assert (tmp_path / f"0{suffix}").read_bytes() == (tmp_path / f"1{suffix}").read_bytes()


def test_date_only_when_given() -> None:
    assert "2030-01-02" in render_page(sample(), date="2030-01-02")
    assert not re.search(r"\b20\d\d-\d\d-\d\d", render_page(sample()))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 fJ"),
        (999, "999 fJ"),
        (1500, "1.5 pJ"),
        (2.5e9, "2.5 µJ"),
        (1.234e12, "1.23 mJ"),
        (5e18, "5,000 J"),
    ],
)
def test_energy_text(value: float, text: str) -> None:
    assert units.energy(value) == text


def test_other_units() -> None:
    assert units.seconds(0.00123) == "1.23 ms"
    assert units.nbytes(2_610_000) == "2.61 MB"
    assert units.count(385e6) == "385 M"
    assert units.percent(None) == "–"
    assert units.percent(0.5) == "50.0%"
