"""What the models know about values: masks of weights, zeros and digits of activations.

Digits are exact expectations over an assumed distribution, not samples: ReLU outputs are zero with
probability
``zero`` and half-normal otherwise, other activations normal; both clipped at three sigma and rounded
to 8 bits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from math import erf, sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

CLIP_SIGMA = 3.0


@dataclass(frozen=True)
class Mask:
    """Zero weights of the compressible layers.

    Parameters
    ----------
    sparsity
        Fraction of zeros.
    structure
        ``shared``: rows, one pattern for all filters of a pass; ``n16``: N rows of every 16 a filter,
        balanced;
        ``free``: any element, so that filters differ in what they keep.
    per_layer
        Sparsity of single layers by name, in place of ``sparsity``.
    """

    sparsity: float = 0.0
    structure: Literal["shared", "n16", "free"] = "shared"
    per_layer: tuple[tuple[str, float], ...] = ()

    def of(self, layer: str) -> float:
        """Sparsity of a layer."""
        return dict(self.per_layer).get(layer, self.sparsity)


@dataclass(frozen=True)
class Statistics:
    """Assumptions about values that all accelerators of a comparison share.

    Parameters
    ----------
    mask
        Zero weights.
    zero
        Probability of a zero among ReLU outputs.
    zero_vectors
        Fraction of vectors of 8 ReLU pixels that are zero.
    """

    mask: Mask = field(default_factory=Mask)
    zero: float = 0.5
    zero_vectors: float = 0.0
    zero_per_layer: tuple[tuple[str, float], ...] = ()

    def zeros(self, layer: str, signed: bool) -> float:
        """Fraction of zeros in a layer's input."""
        return 0.0 if signed else dict(self.zero_per_layer).get(layer, self.zero)


def bits(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ones in the binary magnitude of each value."""
    magnitude = np.abs(values)
    return np.asarray(sum((magnitude >> i) & 1 for i in range(8)), np.int64)


def booth_digits(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Non-zero radix-4 Booth digits of each value (-128..255)."""
    count = np.zeros_like(values)
    for i in range(0, 10, 2):
        low = (values >> (i - 1)) & 1 if i else np.zeros_like(values)
        digit = -2 * ((values >> (i + 1)) & 1) + ((values >> i) & 1) + low
        count += digit != 0
    return count


def distribution(zero: float, signed: bool) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Values of an activation byte and their probabilities."""
    top = 127 if signed else 255
    values = np.arange(-top if signed else 0, top + 1, dtype=np.int64)
    edge = (np.arange(values[0], top + 2) - 0.5) * CLIP_SIGMA / top
    edge[0], edge[-1] = (-np.inf if signed else 0.0), np.inf
    cdf = np.array([0.5 * (1 + erf(x / sqrt(2))) for x in edge])
    p = np.diff(cdf) / (cdf[-1] - cdf[0])
    if not signed:
        p *= 1 - zero
        p[0] += zero
    return values, p


@lru_cache(maxsize=256)
def expected_digits(kind: Literal["bits", "booth"], lanes: int, zero: float, signed: bool) -> float:
    """Mean of the most digits among ``lanes`` independent activations; 1 lane: the plain mean."""
    values, p = distribution(zero, signed)
    count = bits(values) if kind == "bits" else booth_digits(values)
    cdf = np.cumsum([p[count == d].sum() for d in range(9)])
    return float(np.sum(1 - np.minimum(cdf, 1.0) ** lanes))
