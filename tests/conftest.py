"""Settings that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("TVM_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

# Same examples on every run; `HYPOTHESIS_PROFILE=explore` looks for new ones.
settings.register_profile(
    "repeatable", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of golden files: ``--update-golden`` rewrites them."""
    parser.addoption("--update-golden", action="store_true", help="rewrite the files in tests/golden")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to test the source tree when the installed package was asked for."""
    if os.environ.get("SD_TVM_INSTALLED"):
        import sd_tvm

        where = Path(sd_tvm.__file__).resolve().parent
        if where.parent == Path(__file__).resolve().parent.parent:
            raise pytest.UsageError(f"sd_tvm is imported from {where}, not from the installed package")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What random tests saw, also when they pass: ``record_property("seen", text)``."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) == "call":
                for name, text in report.user_properties:
                    if name == "seen":
                        terminalreporter.write_line(str(text))
