"""sd-tvm: a TVM backend for networks in SmartDeal form.

    import sd_tvm
    model = sd_tvm.compress("net.onnx", calibration=images)
    model.save("net.sd")
    module = sd_tvm.load("net.sd").to_relax()   # from here on plain TVM
    tvm.compile(module, target="sd_accel")

Importing this package loads neither TVM nor torch; names are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sd_tvm.accelerator.config import AcceleratorConfig
    from sd_tvm.compression import compress
    from sd_tvm.errors import (
        BudgetError,
        CalibrationError,
        CheckpointError,
        CodegenError,
        ConfigError,
        ConfigMismatchError,
        DeadlockError,
        FormatError,
        MissingExtraError,
        NumericsError,
        OptionError,
        ProgramError,
        RecipeError,
        ScheduleError,
        SDError,
        SimulatorError,
        UnsupportedCPUError,
        UnsupportedDTypeError,
        UnsupportedModelError,
        VersionError,
    )
    from sd_tvm.frontends import load_model
    from sd_tvm.model import CompressedModel, load, save
    from sd_tvm.profiling import profile
    from sd_tvm.recipe import Recipe
    from sd_tvm.report import Report
    from sd_tvm.tradeoff import SensitivityReport, sensitivity

__version__ = "0.1.0"

#: Public names by the module that defines them.
_PUBLIC: dict[str, tuple[str, ...]] = {
    "sd_tvm.accelerator.config": ("AcceleratorConfig",),
    "sd_tvm.compression": ("compress",),
    "sd_tvm.errors": (
        "BudgetError",
        "CalibrationError",
        "CheckpointError",
        "CodegenError",
        "ConfigError",
        "ConfigMismatchError",
        "DeadlockError",
        "FormatError",
        "MissingExtraError",
        "NumericsError",
        "OptionError",
        "ProgramError",
        "RecipeError",
        "SDError",
        "ScheduleError",
        "SimulatorError",
        "UnsupportedCPUError",
        "UnsupportedDTypeError",
        "UnsupportedModelError",
        "VersionError",
    ),
    "sd_tvm.frontends": ("load_model",),
    "sd_tvm.model": ("CompressedModel", "load", "save"),
    "sd_tvm.profiling": ("profile",),
    "sd_tvm.recipe": ("Recipe",),
    "sd_tvm.report": ("Report",),
    "sd_tvm.tradeoff": ("SensitivityReport", "sensitivity"),
}
_HOME: dict[str, str] = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = [
    "AcceleratorConfig",
    "BudgetError",
    "CalibrationError",
    "CheckpointError",
    "CodegenError",
    "CompressedModel",
    "ConfigError",
    "ConfigMismatchError",
    "DeadlockError",
    "FormatError",
    "MissingExtraError",
    "NumericsError",
    "OptionError",
    "ProgramError",
    "Recipe",
    "RecipeError",
    "Report",
    "SDError",
    "ScheduleError",
    "SensitivityReport",
    "SimulatorError",
    "UnsupportedCPUError",
    "UnsupportedDTypeError",
    "UnsupportedModelError",
    "VersionError",
    "compress",
    "load",
    "load_model",
    "profile",
    "save",
    "sensitivity",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'sd_tvm' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Public names."""
    return sorted([*globals(), *_HOME])
