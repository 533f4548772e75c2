"""What each form of each layer costs: sensitivities, measured on outputs, and budgets met by them.

:func:`sensitivity` measures every layer in every option of a small set; ``compress(budget=...)`` picks one
option a layer so that the whole file meets the budget with the least sum of errors.
"""

from __future__ import annotations

from sd_tvm.tradeoff.measure import sensitivity
from sd_tvm.tradeoff.model import LayerSensitivity, OptionRow, SensitivityReport
from sd_tvm.tradeoff.options import OPTIONS

__all__ = ["OPTIONS", "LayerSensitivity", "OptionRow", "SensitivityReport", "sensitivity"]
