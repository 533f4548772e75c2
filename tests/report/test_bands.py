"""Uncertainty of energies and of their ratios."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.config.events import event_prices
from sd_tvm.errors import FormatError
from sd_tvm.report import LayerRow, Report, report_from_json, report_to_csv, report_to_json
from sd_tvm.report.bands import Band, band, corner_energies, ratio_band, row_band, total_band
from sd_tvm.report.build import timing_metrics
from sd_tvm.report.diff import diff_reports, diff_to_json, total_table
from sd_tvm.report.page import metric_text, render_page
from sd_tvm.report.text import layer_tables, metric_table

#: Nominal, and two ends of two things: DRAM costs 10 [1, 100], a product 2 [1, 3].
PRICES = {
    "nominal": {"dram": 10, "mac": 2},
    "a": {"dram": 1, "mac": 1},
    "b": {"dram": 1, "mac": 3},
    "c": {"dram": 100, "mac": 1},
    "d": {"dram": 100, "mac": 3},
}


def report(title: str, dram: int, mac: int) -> Report:
    energy = {"dram_weights": 10 * dram, "mac": 2 * mac}
    row = LayerRow(
        "x", "conv", "", cycles=5, peak_macs=9, energy_fj=energy, events={"dram": dram, "mac": mac}
    )
    return Report(title, layers=(row, row), prices=PRICES)


def test_bands_by_hand() -> None:
    one = report("one", 3, 4)
    assert row_band(one.layers[0], PRICES) == Band(38, 7, 312)
    assert total_band(one) == Band(76, 14, 624)
    assert str(Band(76, 14, 624)) == "76 [14, 624]"


def test_ratio_is_formed_corner_by_corner() -> None:
    """Twice the DRAM bytes and the same products: what is shared cancels."""
    one, two = report("one", 3, 4), report("two", 6, 4)
    corners = [corner_energies(r.layers, r.prices) for r in (one, two)]
    found = ratio_band(*corners)
    assert found == Band(68 / 38, (6 + 12) / (3 + 12), (600 + 4) / (300 + 4))
    # Ends divided by ends would claim far less.
    assert 40 * found.high < 624 * 2 / 14
    assert ratio_band(corners[0], corners[0]) == Band(1, 1, 1)


def test_without_events_there_is_no_band() -> None:
    one = report("one", 3, 4)
    bare = replace(one, layers=(replace(one.layers[0], events=None),))
    assert total_band(bare) is None
    assert total_band(replace(one, prices={})) is None
    assert band({}) is None


def test_events_that_do_not_give_the_energy_are_refused() -> None:
    one = report("one", 3, 4)
    wrong = replace(one, layers=(replace(one.layers[0], events={"dram": 3, "mac": 5}),))
    with pytest.raises(FormatError, match="its events cost 40 fJ and its energy is 38 fJ"):
        wrong.check()


def test_everywhere() -> None:
    """JSON, CSV, terminal, page and comparison say the same."""
    config = AcceleratorConfig.load()
    one = report("one", 3_000_000_000, 4_000_000_000)
    one = replace(one, metrics=timing_metrics(one.layers, config, PRICES))
    assert metric_text(one.metric("energy")) == "76 [14, 624] µJ"
    data = json.loads(report_to_json(one))
    assert data["energy_band_fj"] == [14 * 10**9, 624 * 10**9]
    assert data["layers"][0]["energy_band_fj"] == [7 * 10**9, 312 * 10**9]
    assert data["corner_energies_fj"]["c"] == 608 * 10**9
    assert data["metrics"][2] == {"name": "energy", "value": 76.0, "unit": "µJ", "low": 14.0, "high": 624.0}
    assert report_from_json(report_to_json(one)) == one
    assert report_to_csv(one).splitlines()[1].split(",")[-6:-4] == ["7000000000", "312000000000"]
    console = Console(width=240, record=True, file=io.StringIO())
    console.print(*layer_tables(one, 240), metric_table(one))
    text = console.export_text()
    assert "[low, high]" in text
    assert "[14.00, 624.00]" in text
    assert "<b>76 µJ</b><span>energy [14, 624] µJ</span>" in render_page(one)

    two = report("two", 6_000_000_000, 4_000_000_000)
    found = diff_reports(one, two)
    total = json.loads(diff_to_json(found))["totals"]["energy_total_fj"]
    assert (total["ratio"], total["low"], total["high"]) == (
        round(68 / 38, 6),
        1.2,
        round(604 / 304, 6),
    )
    console.print(total_table(found))
    assert "1.789x [1.200, 1.987]" in console.export_text()


def test_shipped_bands_are_wide() -> None:
    """DRAM 4 to 70 pJ a bit: an absolute energy is good to a factor of several."""
    prices = event_prices(AcceleratorConfig.load())
    assert prices["dram=high sram=low logic=low"]["dram_read_weight_bytes"] == 560_000
    assert prices["dram=low sram=low logic=low"]["dram_read_weight_bytes"] == 32_000
