"""The tables of docs/accelerator.md are those of the configurations."""

from __future__ import annotations

from pathlib import Path

import pytest

from sd_tvm.accelerator.config.docs import fill
from sd_tvm.errors import ConfigError

PAGE = Path(__file__).resolve().parents[2] / "docs" / "accelerator.md"


def test_page_is_up_to_date() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == fill(page), "run: python -m sd_tvm.accelerator.config.docs docs/accelerator.md"


def test_lost_marker_is_an_error() -> None:
    with pytest.raises(ConfigError, match="energy"):
        fill(PAGE.read_text(encoding="utf-8").replace("<!-- end energy -->", ""))
