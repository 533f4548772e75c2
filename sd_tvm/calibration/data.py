"""Calibration data: what users pass becomes checked tuples of float32 (or integer) arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm.errors import CalibrationError

Array = npt.NDArray[Any]
_FIX = "pass preprocessed inputs exactly as the model gets them"


@dataclass(frozen=True)
class InputSpec:
    """Name, shape and dtype of a model input."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"


def batches_of(data: Any, specs: Sequence[InputSpec]) -> Iterator[tuple[Array, ...]]:
    """Yield one tuple of arrays, in the model's shapes, for every example.

    Parameters
    ----------
    data
        :class:`~sd_tvm.calibration.examples.Examples`; or an array: examples along its first axis when that
        is a multiple of the model's batch; or an iterable of examples: each an array (with or without a batch
        axis of one), a tuple or list of arrays, or a mapping from input names to arrays. torch tensors count
        as arrays.
    specs
        The model's inputs.

    Raises
    ------
    CalibrationError
        Data that is missing, empty, of a wrong type, shape or dtype, or not finite.
    """
    if hasattr(data, "batches") and not hasattr(data, "__array__"):  # Examples
        yield from data.batches(specs)
        return
    if data is None:
        raise CalibrationError(
            "no calibration data", expected="example inputs", fix="pass calibration=, for example 24 images"
        )
    if hasattr(data, "__array__") and not isinstance(data, np.generic):
        data = split(_array(data, "the calibration data"), specs)
    elif isinstance(data, str | bytes | Mapping) or not isinstance(data, Iterable):
        raise CalibrationError(
            f"calibration data is a {type(data).__name__}",
            expected="an array or an iterable of example inputs",
            fix=_FIX,
        )
    count = 0
    for index, example in enumerate(data):
        count += 1
        yield _example(example, specs, index)
    if count == 0:
        raise CalibrationError(
            "the calibration data is empty", expected="at least one example", fix="pass some 20 examples"
        )


def _array(value: Any, what: str) -> Array:
    try:
        if hasattr(value, "detach"):
            value = value.detach().cpu()
        return np.asarray(value)
    except Exception as error:
        raise CalibrationError(f"{what} is no array ({error!r:.100})", fix=_FIX) from error


def split(array: Any, specs: Sequence[InputSpec]) -> Iterator[Array]:
    """Examples of one big array, or of something with its shape and its slices."""
    if len(specs) != 1:
        raise CalibrationError(
            f"one array for a model with {len(specs)} inputs",
            expected=f"tuples of arrays for {[s.name for s in specs]}",
            fix=_FIX,
        )
    shape = specs[0].shape
    if array.shape == shape[1:]:
        yield array[:] if array.ndim else array
        return
    step = shape[0] if shape else 1
    if array.ndim != len(shape) or (step and array.shape[0] % step):
        raise CalibrationError(
            f"calibration data of shape {array.shape}",
            expected=f"(number of examples, *{shape[1:]}), in multiples of the batch {step}",
            fix=_FIX,
        )
    for i in range(0, array.shape[0], step):
        yield array[i : i + step]


def _example(example: Any, specs: Sequence[InputSpec], index: int) -> tuple[Array, ...]:
    what = f"calibration example {index}"
    if isinstance(example, Mapping):
        missing = [s.name for s in specs if s.name not in example]
        if missing or len(example) != len(specs):
            raise CalibrationError(
                f"{what} has the inputs {sorted(map(str, example))}",
                expected=f"{[s.name for s in specs]}",
                fix=_FIX,
            )
        values = [example[s.name] for s in specs]
    else:
        values = list(example) if isinstance(example, tuple | list) else [example]
    if len(values) != len(specs):
        raise CalibrationError(
            f"{what} has {len(values)} inputs", expected=f"{len(specs)}: {[s.name for s in specs]}", fix=_FIX
        )
    return tuple(_checked(v, s, what) for v, s in zip(values, specs, strict=True))


def _checked(value: Any, spec: InputSpec, what: str) -> Array:
    array = _array(value, what)
    where = f"{what}, input {spec.name!r}"
    if array.shape == spec.shape[1:] and spec.shape[:1] == (1,):
        array = array[None]
    if array.shape != spec.shape:
        raise CalibrationError(f"{where}: shape {array.shape}", expected=str(spec.shape), fix=_FIX)
    wanted = np.dtype(spec.dtype)
    safe = array.dtype.kind == "f" if wanted.kind == "f" else np.can_cast(array.dtype, wanted, "same_kind")
    if not safe:
        raise CalibrationError(f"{where}: {array.dtype}", expected=spec.dtype, fix=_FIX)
    array = np.asarray(array, dtype=wanted, order="C")
    if wanted.kind == "f" and not np.isfinite(array).all():
        raise CalibrationError(
            f"{where}: NaN or infinite values", expected="finite numbers", fix="check the preprocessing"
        )
    return array
