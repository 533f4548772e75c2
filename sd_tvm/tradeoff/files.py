"""Writing and reading sensitivity reports; the same report gives the same bytes."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from sd_tvm.errors import FormatError
from sd_tvm.report.artefacts import write_pair
from sd_tvm.tradeoff.model import (
    SENSITIVITY_SCHEMA_VERSION,
    LayerSensitivity,
    OptionRow,
    SensitivityReport,
)

#: Digits of fractions in files.
_DIGITS = 9


def report_to_json(report: SensitivityReport) -> str:
    """JSON text: ``schema_version`` first, fixed order, fractions with nine significant digits."""
    data = asdict(report)
    ordered: dict[str, Any] = {"schema_version": data.pop("schema_version"), **data}
    for layer, record in zip(report.layers, ordered["layers"], strict=True):
        for row, option in zip(layer.options, record["options"], strict=True):
            for key, value in option.items():
                if isinstance(value, float):
                    option[key] = _rounded(value)
            gap = replace(row, error=option["error"], fit_error=option["fit_error"]).gap
            option["gap"] = None if gap is None else _rounded(gap)
    return json.dumps(ordered, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def report_from_json(text: str) -> SensitivityReport:
    """Inverse of :func:`report_to_json`.

    Raises
    ------
    FormatError
        If the text is no such report, or one of another schema version.
    """
    try:
        data = json.loads(text)
        version = data.pop("schema_version")
        if version != SENSITIVITY_SCHEMA_VERSION:
            raise FormatError(
                f"sensitivity report of schema version {version}",
                expected=f"schema version {SENSITIVITY_SCHEMA_VERSION}",
                fix="measure again with this version",
            )
        layers = tuple(_layer(record) for record in data.pop("layers"))
        return SensitivityReport(layers=layers, notes=tuple(data.pop("notes")), **data)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FormatError(
            f"not a sensitivity report ({error!r})", expected="JSON that sd-tvm wrote", fix="measure again"
        ) from error


def _layer(record: dict[str, Any]) -> LayerSensitivity:
    rows = []
    for option in record.pop("options"):
        option.pop("gap")
        rows.append(OptionRow(**option | {"warnings": tuple(option["warnings"])}))
    return LayerSensitivity(**record | {"shape": tuple(record["shape"]), "options": tuple(rows)})


def write_sensitivity(report: SensitivityReport, folder: str | Path) -> Path:
    """Write ``sensitivity.json`` and ``sensitivity.html`` into a folder, which is made; returns the page."""
    from sd_tvm.tradeoff.page import render_sensitivity

    return write_pair(folder, "sensitivity", report_to_json(report), render_sensitivity(report))
