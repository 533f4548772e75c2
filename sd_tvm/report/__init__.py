"""Reports: one data model, written as deterministic JSON and CSV and as one self-contained HTML page."""

from __future__ import annotations

from sd_tvm.report.calls import Call, Origin
from sd_tvm.report.csv import report_to_csv, write_csv
from sd_tvm.report.files import read_json, report_from_json, report_to_json, write_html, write_json
from sd_tvm.report.listing import write_listing
from sd_tvm.report.model import (
    SCHEMA_VERSION,
    ClassRow,
    EnergyConstant,
    LayerRow,
    Metric,
    Rejection,
    Report,
)
from sd_tvm.report.trace import trace_to_json, write_trace

__all__ = [
    "SCHEMA_VERSION",
    "Call",
    "ClassRow",
    "EnergyConstant",
    "LayerRow",
    "Metric",
    "Origin",
    "Rejection",
    "Report",
    "read_json",
    "report_from_json",
    "report_to_csv",
    "report_to_json",
    "trace_to_json",
    "write_csv",
    "write_html",
    "write_json",
    "write_listing",
    "write_trace",
]
