"""The page in headless Chromium: no error, no request, plots that fit a laptop.

Where there is no Chromium the tests say so and are skipped, unless ``SD_TVM_NEEDS_CHROMIUM`` is set (CI sets
it): then they fail.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from report import chromium

from sd_tvm.profiling import profile
from sd_tvm.report import write_html

WIDTH = 1280
MISSING = (
    "NO CHROMIUM: the report's page is NOT tested in a browser. "
    "Install it (Debian: apt-get install chromium) or set CHROMIUM to its path."
)


@pytest.fixture(scope="module")
def browser() -> str:
    found = chromium.find()
    if found is not None:
        return found
    if os.environ.get("SD_TVM_NEEDS_CHROMIUM"):
        pytest.fail(MISSING)
    warnings.warn(MISSING, stacklevel=1)  # pytest prints warnings at the end of every run
    print(MISSING, file=sys.__stderr__)
    pytest.skip(MISSING)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Page of a small network, timed."""
    from cli import tiny

    from sd_tvm import compress

    folder = tmp_path_factory.mktemp("page")
    model = compress("cli.tiny:model", calibration=tiny.data(4))
    found = profile(model, [np.asarray(tiny.batch(), np.float32)], title="a <tiny> network")
    return write_html(found.report, folder / "report.html")


@pytest.fixture(scope="module")
def seen(browser: str, page: Path, tmp_path_factory: pytest.TempPathFactory) -> chromium.Seen:
    return chromium.look(browser, page, tmp_path_factory.mktemp("browser"), width=WIDTH)


def test_no_error(seen: chromium.Seen) -> None:
    assert seen.page["errors"] == []
    assert seen.console == []


def test_no_request_leaves_the_file(seen: chromium.Seen) -> None:
    assert seen.page["resources"] == []
    assert seen.requests == []


def test_plots_fit_a_laptop(seen: chromium.Seen) -> None:
    page = seen.page
    assert page["viewport"] == WIDTH
    assert page["document"] <= WIDTH
    assert len(page["plots"]) == 4  # layers, roofline, queues, memories
    assert page["cut"] == 0
    for left, right, width, height in [*page["plots"], *page["boxes"]]:
        assert left >= 0
        assert right <= WIDTH
        assert width > WIDTH * 0.8
        assert height > 0
    for *_, height in page["plots"]:
        assert height > 200


def test_ids_are_unique_and_links_lead_somewhere(seen: chromium.Seen) -> None:
    ids = seen.page["ids"]
    assert len(ids) == len(set(ids))
    assert {link.removeprefix("#") for link in seen.page["links"]} <= set(ids)


def test_the_test_sees_errors_and_requests(browser: str, page: Path, tmp_path: Path) -> None:
    """A page that does what ours must not: every check above would fail."""
    script = (
        '<script>fetch("http://elsewhere.invalid/data").catch(() => 0);'
        'console.error("seen"); nothing();</script>'
        '<img src="http://other.invalid/a.png"><div style="width:3000px">wide</div>'
    )
    bad = chromium.look(browser, page, tmp_path, width=WIDTH, script=script)
    assert any("nothing" in error for error in bad.page["errors"])
    assert any("seen" in error for error in bad.page["errors"])
    assert bad.console
    assert {"http://elsewhere.invalid/data", "http://other.invalid/a.png"} <= set(bad.requests)
    assert bad.page["document"] > WIDTH
