"""Writing and reading reports. The same report gives the same bytes: fixed key order, no dates."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from sd_tvm.errors import FormatError
from sd_tvm.report.bands import Band, corner_energies, row_band, total_band
from sd_tvm.report.listing import Section
from sd_tvm.report.model import (
    SCHEMA_VERSION,
    ClassRow,
    EnergyConstant,
    LayerRow,
    Metric,
    Rejection,
    Report,
)
from sd_tvm.report.occupancy import Occupancy

T = TypeVar("T", Metric, LayerRow, EnergyConstant, Rejection, ClassRow, Occupancy, Section)


def report_to_json(report: Report) -> str:
    """JSON text: ``schema_version`` first, derived numbers included, keys in a fixed order.

    Raises
    ------
    FormatError
        If the rows do not add up to the run's totals.
    """
    report.check()
    data = asdict(report)
    ordered: dict[str, Any] = {"schema_version": data.pop("schema_version"), "title": data.pop("title")}
    ordered.update(data)
    for row, record in zip(report.layers, ordered["layers"], strict=True):
        record["bits_per_weight"] = _rounded(row.bits_per_weight)
        record["utilisation"] = _rounded(row.utilisation)
        record["energy_total_fj"] = row.energy_total_fj
        record["energy_band_fj"] = _ends(row_band(row, report.prices))
    for record in (*ordered["metrics"], *ordered["constants"]):
        if record["low"] is None:
            del record["low"], record["high"]
    ordered["sums"] = report.sums()
    ordered["energy_band_fj"] = _ends(total_band(report))
    ordered["corner_energies_fj"] = corner_energies(report.layers, report.prices)
    return json.dumps(ordered, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def report_from_json(text: str) -> Report:
    """Inverse of :func:`report_to_json`.

    Raises
    ------
    FormatError
        If the text is no report, or one of another schema version.
    """
    try:
        data = json.loads(text)
        version = data["schema_version"]
        if version != SCHEMA_VERSION:
            raise FormatError(
                f"report of schema version {version}",
                expected=f"schema version {SCHEMA_VERSION}",
                fix="write the report again with this version",
            )
        report = Report(
            title=data["title"],
            metrics=_records(Metric, data["metrics"]),
            layers=_records(LayerRow, data["layers"]),
            rejected=_records(Rejection, data["rejected"]),
            config=data["config"],
            constants=_records(EnergyConstant, data["constants"]),
            versions=data["versions"],
            notes=tuple(data["notes"]),
            totals=data["totals"],
            classes=_records(ClassRow, data.get("classes", [])),
            queues=data.get("queues", {}),
            prices=data.get("prices", {}),
            occupancy=_records(Occupancy, data.get("occupancy", [])),
            sections=_records(Section, data.get("sections", [])),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(
            f"not a report ({error!r})", expected="JSON that sd-tvm wrote", fix="write the report again"
        ) from error
    report.check()
    return report


def write_json(report: Report, path: str | Path) -> Path:
    """Write the JSON form; returns the path."""
    target = Path(path)
    target.write_text(report_to_json(report), encoding="utf-8")
    return target


def read_json(path: str | Path) -> Report:
    """Read what :func:`write_json` wrote.

    Raises
    ------
    FormatError
        If the file cannot be read or is no report.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"cannot read {str(path)!r}: {error}", fix="correct the path") from error
    return report_from_json(text)


def write_html(report: Report, path: str | Path, *, date: str | None = None) -> Path:
    """Write one self-contained page (inline SVG, no scripts from elsewhere); returns the path.

    Parameters
    ----------
    report
        The report.
    path
        File to write.
    date
        Printed when given; the page has no other date.

    Raises
    ------
    FormatError
        If the rows do not add up to the run's totals.
    """
    from sd_tvm.report.page import render_page

    report.check()
    target = Path(path)
    target.write_text(render_page(report, date=date), encoding="utf-8")
    return target


def _records(cls: type[T], rows: list[dict[str, Any]]) -> tuple[T, ...]:
    known = {f.name for f in fields(cls)}
    return tuple(cls(**{k: _frozen(v) for k, v in row.items() if k in known}) for row in rows)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _ends(band: Band | None) -> list[int] | None:
    return None if band is None else [int(band.low), int(band.high)]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
