"""Calibrate: ranges of all activations of an fp32 module, measured on example inputs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sd_tvm._blas import one_blas_thread
from sd_tvm._tvm import tvm
from sd_tvm.calibration.data import Array, batches_of
from sd_tvm.calibration.interpreter import Interpreter
from sd_tvm.calibration.parallel import ordered_map
from sd_tvm.calibration.ranges import Method, RangeObserver
from sd_tvm.layers import ActDType
from sd_tvm.numerics.qparams import QParams, choose_qparams
from sd_tvm.relay_passes._rewrite import IRModule, set_attr

#: Module attribute: JSON, variable name -> {"lo", "hi", "min", "max", "dtype"}.
CALIBRATION_ATTR = "sd.calibration"


def calibration(mod: IRModule) -> dict[str, dict[str, Any]]:
    """What Calibrate recorded in a module, empty if it never ran."""
    if mod.attrs is None or CALIBRATION_ATTR not in mod.attrs:
        return {}
    ranges: dict[str, dict[str, Any]] = json.loads(str(mod.attrs[CALIBRATION_ATTR]))
    return ranges


def is_calibrated(mod: IRModule) -> bool:
    """Whether Calibrate ran on a module."""
    return bool(calibration(mod))


def activation_qparams(mod: IRModule) -> dict[str, QParams]:
    """Quantisation of every calibrated value by variable name, empty for a module without calibration."""
    return {name: choose_qparams(r["lo"], r["hi"], r["dtype"]) for name, r in calibration(mod).items()}


def with_activations(mod: IRModule, activations: dict[str, QParams]) -> IRModule:
    """Module with the quantisation of its values given (a loaded ``.sd`` file) instead of measured."""
    ranges = {}
    for name, q in activations.items():
        lo, hi = q.range
        ranges[name] = {"lo": lo, "hi": hi, "min": lo, "max": hi, "dtype": q.dtype}
    return set_attr(mod, CALIBRATION_ATTR, ranges)


@tvm.transform.module_pass(opt_level=0, name="sd.Calibrate")
class Calibrate:
    """Record the range of every float32 value of ``main`` as module attribute ``sd.calibration``.

    Parameters
    ----------
    batches
        Example inputs: an array with images along its first axis, or an iterable of inputs (an array,
        or a tuple or mapping of arrays for several inputs). Read once, one example at a time.
    method
        ``minmax``: the extremes. ``percentile``: what is left after cutting ``1 - percentile / 100`` of
        the values on either side. ``mse``: the clip that makes the squared error of 8 bits smallest.
    percentile
        In (50, 100], only for ``percentile``.
    dtype
        Type of the activations, ``uint8`` or ``int8``.
    progress
        Called with the number of examples done.

    Raises
    ------
    CalibrationError
        No examples; a wrong shape or type; NaN or infinity in the data or in a value.
    """

    def __init__(
        self,
        batches: Any,
        *,
        method: Method = "mse",
        percentile: float = 99.99,
        dtype: ActDType = "uint8",
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self.batches = batches
        self.method: Method = method
        self.percentile = percentile
        self.dtype: ActDType = dtype
        self.progress = progress

    @one_blas_thread
    def transform_module(self, mod: IRModule, _context: Any) -> IRModule:
        """The pass."""
        interpreter = Interpreter(mod)
        observer = RangeObserver()

        def observe(inputs: tuple[Array, ...]) -> RangeObserver:
            seen = RangeObserver()
            interpreter.walk(inputs, seen)
            return seen

        batches = batches_of(self.batches, interpreter.inputs)
        for done, seen_once in enumerate(ordered_map(observe, batches), start=1):
            observer.merge(seen_once)
            if self.progress is not None:
                self.progress(done)
        ranges = {}
        for name, seen in observer.seen.items():
            lo, hi = seen.range(self.method, self.percentile, self.dtype)
            ranges[name] = {"lo": lo, "hi": hi, "min": seen.lo, "max": seen.hi, "dtype": self.dtype}
        return set_attr(mod, CALIBRATION_ATTR, ranges)
