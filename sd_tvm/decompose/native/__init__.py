"""The compiled loops of the decomposition (``fit.cc``): code search, and the alternating fit of slices.

Float32 and float64 as NumPy would compute them; one thread. Shapes are verified here, since C++ cannot.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sd_tvm._library import installed_library
from sd_tvm.errors import VersionError

if TYPE_CHECKING:
    from sd_tvm.decompose.search import Levels

Array = npt.NDArray[Any]
LIBRARY = "libsd_decompose.so"
MAX_S = 8
_ABI = 1


@lru_cache
def _library() -> ctypes.CDLL:
    path = installed_library(LIBRARY)
    try:
        library = ctypes.CDLL(str(path))
        found = int(library.sd_decompose_abi())
    except (OSError, AttributeError) as error:
        raise VersionError(f"{path} cannot be loaded ({error})", fix="install the package again") from error
    if found != _ABI:
        raise VersionError(f"{path} has interface {found}", expected=f"{_ABI}", fix="build the package again")
    for function in (library.sd_search_f32, library.sd_search_f64, library.sd_fit_slices):
        function.restype = None
    return library


def search(
    target: Array, basis: Array, levels: Levels, branches: Sequence[int], current: Array | None
) -> Array:
    """Best coefficients, as :func:`sd_tvm.decompose.search.search_codes`."""
    n, r, s = target.shape
    dtype = np.dtype(np.float32 if target.dtype == np.float32 else np.float64)
    target, basis = (np.ascontiguousarray(a, dtype=dtype) for a in (target, basis))
    _check("basis", basis, (n, s, s))
    if current is not None:
        current = np.ascontiguousarray(current, dtype=dtype)
        _check("current", current, (n, r, s))
    out = np.empty_like(target)
    library = _library()
    function = library.sd_search_f32 if dtype == np.float32 else library.sd_search_f64
    function(
        _pointer(target),
        _pointer(basis),
        None if current is None else _pointer(current),
        _pointer(out),
        ctypes.c_int64(n),
        ctypes.c_int64(r),
        *_alphabet(s, levels, branches),
    )
    return out


def fit_slices(
    slices: Array, levels: Levels, branches: Sequence[int], factors: Array, rounds: int
) -> tuple[Array, Array]:
    """Coefficients (N, R, S) and bases (N, S, S), float32, of slices (N, R, S).

    The basis starts as step * identity, the step of least error among ``factors`` of the largest weight over
    the largest level; then ``rounds`` times: basis by least squares, search for codes.
    """
    n, r, s = slices.shape
    slices = np.ascontiguousarray(slices, dtype=np.float32)
    factors = np.ascontiguousarray(factors, dtype=np.float64)
    coef, basis = np.empty_like(slices), np.empty((n, s, s), dtype=np.float32)
    _library().sd_fit_slices(
        _pointer(slices),
        _pointer(coef),
        _pointer(basis),
        ctypes.c_int64(n),
        ctypes.c_int64(r),
        *_alphabet(s, levels, branches),
        _pointer(factors),
        ctypes.c_int(factors.size),
        ctypes.c_int(rounds),
    )
    return coef, basis


def _alphabet(s: int, levels: Levels, branches: Sequence[int]) -> tuple[Any, ...]:
    """Arguments that describe the search; rows longer than the library's are an error of the caller."""
    if not 1 <= s <= MAX_S:
        raise ValueError(f"rows of {s} elements; the library knows 1 to {MAX_S}")
    tries = np.ones(MAX_S, dtype=np.int32)
    tries[: len(branches)] = branches
    return (
        ctypes.c_int(s),
        _pointer(levels.by_entry),
        ctypes.c_int(levels.by_entry.shape[1]),
        ctypes.c_int(levels.offset),
        _pointer(tries),
    )


def _pointer(array: Array) -> ctypes.c_void_p:
    return array.ctypes.data_as(ctypes.c_void_p)  # which keeps the array alive


def _check(name: str, array: Array, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"{name} of shape {array.shape}, not {shape}")
