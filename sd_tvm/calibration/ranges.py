"""Ranges of activations: exact extremes, a histogram of a sample, and the clip chosen from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sd_tvm.errors import CalibrationError
from sd_tvm.numerics.qparams import INTEGERS

Method = Literal["minmax", "percentile", "mse"]
BINS = 8192
#: Elements of a value that enter the histogram, per example; a stride spreads them over the tensor.
SAMPLE = 1 << 16
#: Clips tried by ``mse``, as fractions of the range.
_FRACTIONS = np.linspace(0.3, 1.0, 71)


@dataclass
class Range:
    """Statistics of one value.

    Attributes
    ----------
    lo, hi
        Extremes over everything seen.
    half
        Half the width of the histogram, which covers [-half, half): a power of two, doubled when needed, so
        that histograms add up exactly, in whatever order.
    counts
        int64 (BINS,).
    """

    lo: float = np.inf
    hi: float = -np.inf
    half: float = 0.0
    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))

    def add(self, array: npt.NDArray[Any], name: str) -> None:
        """Take in one tensor.

        Raises
        ------
        CalibrationError
            If it holds NaN or infinity.
        """
        lo, hi = float(array.min()), float(array.max())
        if not np.isfinite(lo + hi):
            raise CalibrationError(
                f"the value {name!r} becomes NaN or infinite on the calibration data",
                expected="finite activations",
                fix="check the preprocessing and the model's weights",
            )
        self.lo, self.hi = min(self.lo, lo), max(self.hi, hi)
        self._grow(max(-lo, hi))
        flat = array.reshape(-1)
        step = -(-flat.size // SAMPLE)
        # an odd step does not fall into step with even row lengths
        sample = flat[:: step | 1] if step > 1 else flat
        if self.half > 0:
            # the scale is a power of two, which float32 multiplies by exactly unless it is extreme
            kind: Any = np.float32 if 2.0**-100 < self.half < 2.0**100 else np.float64
            index = (sample.astype(kind) * kind(BINS / (2 * self.half)) + kind(BINS / 2)).astype(np.intp)
            self.counts += np.bincount(np.clip(index, 0, BINS - 1), minlength=BINS)

    def merge(self, other: Range) -> None:
        """Take in what another one has seen."""
        self.lo, self.hi = min(self.lo, other.lo), max(self.hi, other.hi)
        self._grow(other.half)
        other._grow(self.half)
        self.counts += other.counts

    def _grow(self, size: float) -> None:
        """Make the histogram reach ``size``: pairs of bins merge when the width doubles."""
        if size <= 0:
            return
        if self.half == 0:
            mantissa, exponent = math.frexp(size)
            self.half = math.ldexp(1.0, exponent - (mantissa == 0.5))
        while self.half < size:
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.zeros(BINS, np.int64)
            self.counts[BINS // 4 : 3 * BINS // 4] = merged
            self.half *= 2

    @property
    def centres(self) -> npt.NDArray[np.float64]:
        """Middle of each bin, float64 (BINS,)."""
        return np.asarray((np.arange(BINS) + 0.5) * (2 * self.half / BINS) - self.half, np.float64)

    def range(self, method: Method, percentile: float, dtype: str) -> tuple[float, float]:
        """The range to quantise, within the extremes.

        Raises
        ------
        CalibrationError
            If the method is unknown or the percentile is not in (50, 100].
        """
        if method == "minmax" or self.half == 0:
            return self.lo, self.hi
        if method == "percentile":
            if not 50 < percentile <= 100:
                raise CalibrationError(f"percentile {percentile}", expected="a number in (50, 100]")
            return self._percentile(1 - percentile / 100)
        if method == "mse":
            return self._mse(dtype)
        raise CalibrationError(f"range method {method!r}", expected="minmax, percentile or mse")

    def _percentile(self, cut: float) -> tuple[float, float]:
        total = np.cumsum(self.counts)
        width = 2 * self.half / BINS
        first = int(np.searchsorted(total, cut * total[-1], side="right"))
        last = int(np.searchsorted(total, (1 - cut) * total[-1], side="left"))
        lo, hi = first * width - self.half, (last + 1) * width - self.half
        return max(lo, self.lo), min(hi, self.hi)

    def _mse(self, dtype: str) -> tuple[float, float]:
        """Clip with the smallest expected squared error: rounding within, distance outside."""
        used = self.counts > 0
        x, p = self.centres[used], self.counts[used] / self.counts.sum()
        levels = INTEGERS[dtype][1] - INTEGERS[dtype][0]

        def error(lo: float, hi: float) -> float:
            lo, hi = min(lo, 0.0), max(hi, 0.0)  # what is quantised holds zero
            step = (hi - lo) / levels
            outside = np.where(x < lo, lo - x, np.where(x > hi, x - hi, 0.0))
            inside = (outside == 0) & (x != 0)
            return float(p @ outside**2 + p[inside].sum() * step**2 / 12)

        lo, hi = self.lo, self.hi
        for _ in range(2):
            if hi > 0:
                hi = float(min(_FRACTIONS * self.hi, key=lambda h: error(lo, float(h))))
            if lo < 0:
                lo = float(min(_FRACTIONS * self.lo, key=lambda v: error(float(v), hi)))
        # a clip may pass the other end where all values have one sign; zero is beyond that end
        return (min(lo, hi), hi) if self.lo > 0 else (lo, max(lo, hi))


class RangeObserver:
    """Observer that keeps a :class:`Range` for every float32 tensor."""

    def __init__(self) -> None:
        self.seen: dict[str, Range] = {}

    def __call__(self, _step: Any, _args: Sequence[Any], value: Any, name: str) -> None:
        """Take in a value of the interpreter."""
        if isinstance(value, np.ndarray) and value.dtype == np.float32 and value.size:
            self.seen.setdefault(name, Range()).add(value, name)

    def merge(self, other: RangeObserver) -> None:
        """Take in what another observer has seen."""
        for name, seen in other.seen.items():
            self.seen.setdefault(name, Range()).merge(seen)
