"""Typed user errors.

Every message states what was expected, what was found and what to do. Library code raises one of
these for anything a user can cause; ``assert`` is never used for user input.
"""

from __future__ import annotations


class SDError(Exception):
    """Base class of every error that sd-tvm raises on purpose.

    Parameters
    ----------
    found
        What was seen.
    expected
        What would have been accepted.
    fix
        What the user can do about it.
    """

    def __init__(self, found: str, *, expected: str = "", fix: str = "") -> None:
        self.found = found
        self.expected = expected
        self.fix = fix
        parts = [found.rstrip(".") + "."]
        if expected:
            parts.append(f"Expected: {expected.rstrip('.')}.")
        if fix:
            parts.append(f"What to do: {fix.rstrip('.')}.")
        super().__init__(" ".join(parts))


class VersionError(SDError):
    """A library (TVM, tvm-ffi) or an artefact has a version we do not work with."""


class MissingExtraError(SDError):
    """An optional dependency is not installed; the message names the extra."""


class FormatError(SDError):
    """A ``.sd`` file (or its contents) is malformed."""


class RecipeError(SDError):
    """A recipe is invalid, or one of its patterns matches nothing."""


class CalibrationError(SDError):
    """Calibration data is missing or unusable."""


class CheckpointError(SDError):
    """A checkpoint is of another run, is damaged, or cannot be written."""


class BudgetError(SDError):
    """A budget is invalid or cannot be met; the message says what can be reached.

    Attributes
    ----------
    best
        Best value of the budget's quantity that can be reached, None where the budget itself is wrong.
    """

    def __init__(self, found: str, *, expected: str = "", fix: str = "", best: float | None = None) -> None:
        super().__init__(found, expected=expected, fix=fix)
        self.best = best


class UnsupportedModelError(SDError):
    """A model cannot be imported (dynamic shape, control flow, several functions)."""


class UnsupportedDTypeError(UnsupportedModelError):
    """A tensor has a data type we do not handle."""


class NumericsError(SDError):
    """An integer bound or a fixed-point range would be violated."""


class ConfigError(SDError):
    """An accelerator configuration is invalid or misses a source for a constant."""


class ConfigMismatchError(ConfigError):
    """A compiled module needs buffers that the selected configuration does not have."""


class ScheduleError(SDError):
    """A layer cannot be tiled onto a configuration."""


class CodegenError(SDError):
    """Lowered TensorIR does not map onto accelerator instructions."""


class ProgramError(SDError):
    """An instruction stream is invalid (bad opcode, out of bounds, unaligned, unfinished)."""


class DeadlockError(ProgramError):
    """The queues of a program wait for each other."""


class SimulatorError(SDError):
    """The simulator contradicts itself: a bug of ours, never of the user's."""


class OptionError(SDError):
    """A command line option or argument has a value that matches nothing."""


class UnsupportedCPUError(SDError):
    """Code was compiled for a processor that the running one, or the target, is not."""
