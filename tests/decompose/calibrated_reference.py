"""The calibrated fit written down once more: one filter at a time, plain loops, every code tried for a row.

``docs/decomposition.md`` in NumPy, nothing of sd_tvm; the caller passes an alphabet's levels. 16:16 rows, one
basis a filter, one group of inputs, no dead inputs.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class Filter:
    """One filter: ``target`` (K,) in the metric of ``h`` (K, K), rows of ``s``."""

    def __init__(self, target: Array, h: Array, levels: list[int], s: int) -> None:
        self.target, self.h, self.s = target, h, s
        self.rows = target.size // s
        self.codes = np.array(list(itertools.product(sorted(levels), repeat=s)), dtype=np.float64)

    def rebuild(self, coef: Array, basis: Array) -> Array:
        return np.concatenate([coef[r] @ basis for r in range(self.rows)])

    def loss(self, coef: Array, basis: Array) -> float:
        e = self.rebuild(coef, basis) - self.target
        return float(e @ self.h @ e)

    def start(self) -> tuple[Array, Array]:
        """The data-free fit of the target."""
        w = self.target.reshape(self.rows, self.s)
        largest = np.abs(w).max() / self.codes.max()
        best = None
        for factor in np.linspace(0.35, 1.05, 15):
            step = largest * factor
            near = np.array([[self._nearest(v / step) for v in row] for row in w])
            error = ((near * step - w) ** 2).sum()
            if best is None or error < best[0]:
                best = (error, step)
        assert best is not None
        basis = best[1] * np.eye(self.s)
        coef = self._search(w, basis)
        for _ in range(6):
            basis = self._least_squares(coef.T @ coef, coef.T @ w, basis)
            coef = self._search(w, basis)
        return coef, self._least_squares(coef.T @ coef, coef.T @ w, basis)

    def _nearest(self, x: float) -> float:
        levels = np.unique(self.codes)
        return float(levels[np.abs(levels - x).argmin()])

    def _search(self, w: Array, basis: Array) -> Array:
        return np.array([self.codes[((row - self.codes @ basis) ** 2).sum(axis=1).argmin()] for row in w])

    @staticmethod
    def _least_squares(gram: Array, right: Array, old: Array) -> Array:
        ridge = 1e-6 * np.trace(gram) / len(gram)
        return np.linalg.solve(gram + ridge * np.eye(len(gram)), right + ridge * old)

    def feedback(self, basis: Array, order: list[int]) -> Array:
        """A row's error goes to the rows not yet coded, by elimination from the inverse of h."""
        w, inverse, left = self.target.copy(), np.linalg.inv(self.h), list(range(self.target.size))
        coef = np.zeros((self.rows, self.s))
        for r in order:
            element = [self.s * r + t for t in range(self.s)]
            at = [left.index(i) for i in element]
            own = np.linalg.inv(inverse[np.ix_(at, at)])
            e = w[element] - self.codes @ basis
            best = int(np.array([x @ own @ x for x in e]).argmin())
            coef[r] = self.codes[best]
            w[left] -= e[best] @ own @ inverse[at]
            rest = [i for i in range(len(left)) if i not in at]
            inverse = (inverse - inverse[:, at] @ own @ inverse[at])[np.ix_(rest, rest)]
            left = [left[i] for i in rest]
        return coef

    def descend(self, coef: Array, basis: Array) -> Array:
        """One row after the other takes the codes of least loss, the others as they are."""
        coef = coef.copy()
        for r in range(self.rows):
            losses = []
            for codes in self.codes:
                trial = coef.copy()
                trial[r] = codes
                losses.append(self.loss(trial, basis))
            if min(losses) < self.loss(coef, basis):
                coef[r] = self.codes[int(np.argmin(losses))]
        return coef

    def refit(self, coef: Array, basis: Array) -> Array:
        """Basis of least loss for the codes: least squares over its s * s elements."""
        n = self.s * self.s
        columns = []
        for i in range(n):
            one = np.zeros(n)
            one[i] = 1
            columns.append(self.rebuild(coef, one.reshape(self.s, self.s)))
        a = np.array(columns).T
        found = self._least_squares(a.T @ self.h @ a, a.T @ self.h @ self.target, basis.reshape(n))
        return found.reshape(self.s, self.s)


def to_8_bits(bases: list[Array]) -> tuple[list[Array], list[Array]]:
    """(integers, real bases) of all filters: the largest element becomes 127, no scale vanishes."""
    sizes = [np.abs(b).max() / 127 for b in bases]
    scales = [np.float32(max(size, max(sizes) * 2.0**-16)) for size in sizes]
    integers = [np.clip(np.rint(b / np.float64(s)), -127, 127) for b, s in zip(bases, scales, strict=True)]
    return integers, [i * np.float64(s) for i, s in zip(integers, scales, strict=True)]


def fit(
    w: Array,
    h: Array,
    cross: Array,
    levels: list[int],
    s: int,
    *,
    damping: float,
    ridge: float,
    passes: int = 2,
) -> tuple[Array, Array, float]:
    """(codes (M, R, S), 8-bit bases (M, S, S), loss) for weights (M, K) and moments (K, K), (M, K)."""
    k, mean = w.shape[1], np.mean(np.diag(h))
    held = h + ridge * mean * np.eye(k)
    target = [np.linalg.solve(held, c + ridge * mean * row) for c, row in zip(cross, w, strict=True)]
    metric = h + damping * mean * np.eye(k)
    filters = [Filter(t, metric, levels, s) for t in target]
    energy = np.diag(metric).reshape(-1, s).sum(axis=1)
    order = sorted(range(k // s), key=lambda r: -energy[r])
    starts = [f.start() for f in filters]
    coef = [c for c, _ in starts]
    integers, real = to_8_bits([b for _, b in starts])

    def loss() -> float:
        return sum(f.loss(c, b) for f, c, b in zip(filters, coef, real, strict=True))

    best = (loss(), coef, integers)
    for i in range(2 * passes):
        step = (lambda f, _c, b: f.feedback(b, order)) if i < passes else Filter.descend
        coef = [step(f, c, b) for f, c, b in zip(filters, coef, real, strict=True)]
        bases = [f.refit(c, b) for f, c, b in zip(filters, coef, real, strict=True)]
        integers, real = to_8_bits(bases)
        if i >= passes:
            coef = [f.descend(c, b) for f, c, b in zip(filters, coef, real, strict=True)]
        if loss() < best[0]:
            best = (loss(), coef, integers)
    return np.array(best[1]), np.array(best[2]), best[0]
