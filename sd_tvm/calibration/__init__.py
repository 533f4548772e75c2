"""Calibration: an fp32 interpreter in NumPy, activation ranges, input moments of layers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sd_tvm.calibration.data import InputSpec, batches_of
    from sd_tvm.calibration.interpreter import Interpreter
    from sd_tvm.calibration.moments import Moments, collect_moments
    from sd_tvm.calibration.ranges import Range, RangeObserver

_PUBLIC = {
    "InputSpec": "data",
    "Interpreter": "interpreter",
    "Moments": "moments",
    "Range": "ranges",
    "RangeObserver": "ranges",
    "batches_of": "data",
    "collect_moments": "moments",
}


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)


__all__ = ["InputSpec", "Interpreter", "Moments", "Range", "RangeObserver", "batches_of", "collect_moments"]
