"""Steps of the activation-aware fit: codes and bases in the metric of a layer's inputs.

The error of a layer's output is e H e^T for a weight error e (a row vector of K = R*S elements) and second
moments H of the inputs. Three steps lower it: error feedback row by row (GPTQ, arXiv 2210.17323, here with
rows of S elements and a code search in place of rounding), coordinate descent on the codes, and H-weighted
least squares for the bases. All filters of all groups move together.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm.decompose.fit import solve_near
from sd_tvm.decompose.search import Levels, search_codes

Array = npt.NDArray[Any]
F64 = npt.NDArray[np.float64]
_LAZY_ROWS = 32
_REFIT_ELEMENTS = 1 << 18


@dataclass(frozen=True)
class Problem:
    """What stays fixed while codes and bases move.

    Attributes
    ----------
    hessian
        float64 (G, K, K), positive definite.
    target
        float64 (G, M/G, K): weight whose output is to be met.
    slice_of
        int64 (R,): basis of every row.
    keep
        bool (M, R): rows that may be non-zero.
    levels
        The alphabet.
    s
        Elements of a row.
    """

    hessian: F64
    target: F64
    slice_of: npt.NDArray[np.int64]
    keep: npt.NDArray[np.bool_]
    levels: Levels
    s: int

    @property
    def rows(self) -> int:
        """Rows of a filter."""
        return self.slice_of.size

    @cached_property
    def elimination(self) -> tuple[npt.NDArray[np.int64], Array, Array]:
        """What error feedback needs of the inputs: (order, factor, metric).

        Order of the rows, by falling energy of their inputs; upper Cholesky factor (G, K, K) of the inverse
        of hessian in that order; inverses (R, S, S) of the blocks on its diagonal, for every group.
        """
        energy = np.einsum("gkk->k", self.hessian).reshape(self.rows, self.s).sum(axis=1)
        order = np.argsort(-energy, kind="stable")
        element = (order[:, None] * self.s + np.arange(self.s)).ravel()
        inverse: Array = np.linalg.inv(self.hessian[:, element[:, None], element])
        upper = np.linalg.cholesky((inverse + inverse.transpose(0, 2, 1)) / 2).transpose(0, 2, 1)
        metric: Array = np.linalg.inv(diagonal_blocks(upper, self.s))
        return order, upper, metric

    @cached_property
    def by_pairs(self) -> F64:
        """hessian as (G, R, S, S, R): row, element, element of the other row, other row."""
        g = len(self.hessian)
        blocks = self.hessian.reshape(g, self.rows, self.s, self.rows, self.s)
        return np.ascontiguousarray(blocks.transpose(0, 1, 2, 4, 3))

    def rebuild(self, coef: F64, basis: F64) -> F64:
        """Weight (G, M/G, K) of coefficients (M, R, S) and bases (M, n, S, S)."""
        out = np.empty_like(coef)
        for j in range(basis.shape[1]):
            rows = np.flatnonzero(self.slice_of == j)
            out[:, rows] = coef[:, rows] @ basis[:, j]
        return out.reshape(self.target.shape)

    def loss(self, coef: F64, basis: F64) -> float:
        """Output error of the layer, the sum of e H e^T over its filters."""
        e = self.rebuild(coef, basis) - self.target
        return float(((e @ self.hessian) * e).sum())

    def move(self, row: int, target: F64, basis: F64, metric: Array, current: F64 | None) -> tuple[F64, F64]:
        """Best coefficients of one row, and what they rebuild.

        Parameters
        ----------
        row
            Which.
        target
            (G, M/G, S).
        basis
            (M, n, S, S).
        metric
            (G, S, S): the error e counts ||e metric||^2.
        current
            (M, S), kept where nothing is better.

        Returns
        -------
        tuple
            Coefficients (M, S), and their c . B, (G, M/G, S).
        """
        groups, _, s = target.shape
        own = np.ascontiguousarray(basis[:, self.slice_of[row]])
        found = search_codes(
            (target @ metric).reshape(-1, 1, s),
            (own.reshape(groups, -1, s) @ metric).reshape(-1, s, s),
            self.levels,
            current=None if current is None else current[:, None],
        )[:, 0]
        found *= self.keep[:, row, None]
        return found, (found[:, :, None] * own).sum(axis=1).reshape(target.shape)


def feedback(problem: Problem, basis: F64) -> F64:
    """Coefficients (M, R, S) by error feedback: what a row gets wrong, the rows after it make up for.

    Rows go by falling energy of their inputs. Bases are (M, n, S, S).
    """
    p, s = problem, problem.s
    order, upper, metric = p.elimination
    work = p.target[:, :, (order[:, None] * s + np.arange(s)).ravel()]
    coef = np.zeros((p.keep.shape[0], p.rows, s))
    for start in range(0, p.rows, _LAZY_ROWS):
        stop = min(start + _LAZY_ROWS, p.rows)
        errors = np.zeros((*work.shape[:2], (stop - start) * s))
        for i in range(start, stop):
            here, after = slice(i * s, (i + 1) * s), slice((i + 1) * s, stop * s)
            coef[:, order[i]], rebuilt = p.move(int(order[i]), work[:, :, here], basis, metric[:, i], None)
            error = (work[:, :, here] - rebuilt) @ metric[:, i]
            work[:, :, after] -= error @ upper[:, here, after]
            errors[:, :, (i - start) * s : (i - start + 1) * s] = error
        work[:, :, stop * s :] -= errors @ upper[:, start * s : stop * s, stop * s :]
    return coef


def descend(problem: Problem, coef: F64, basis: F64) -> F64:
    """One round of coordinate descent: every row takes its best coefficients, the others given."""
    p, s = problem, problem.s
    out = coef.copy()
    weight = p.rebuild(coef, basis)
    gradient = (weight - p.target) @ p.hessian
    own = diagonal_blocks(p.hessian, s)
    inverse: Array = np.linalg.inv(own)
    metric: Array = np.linalg.cholesky(own).astype(np.float64)
    for start in range(0, p.rows, _LAZY_ROWS):
        stop = min(start + _LAZY_ROWS, p.rows)
        block = slice(start * s, stop * s)
        moved = np.zeros((*weight.shape[:2], (stop - start) * s))
        for i in range(start, stop):
            here = slice(i * s, (i + 1) * s)
            ideal = weight[:, :, here] - gradient[:, :, here] @ inverse[:, i]
            out[:, i], rebuilt = p.move(i, ideal, basis, metric[:, i], out[:, i])
            change = rebuilt - weight[:, :, here]
            moved[:, :, (i - start) * s : (i - start + 1) * s] = change
            gradient[:, :, block] += change @ p.hessian[:, here, block]
        gradient[:, :, stop * s :] += moved @ p.hessian[:, block, stop * s :]
    return out


def diagonal_blocks(matrix: Array, s: int) -> F64:
    """Blocks (G, K/s, s, s) on the diagonal of (G, K, K)."""
    g, k, _ = matrix.shape
    index = np.arange(k // s)
    return np.ascontiguousarray(
        matrix.reshape(g, k // s, s, k // s, s)[:, index, :, index].transpose(1, 0, 2, 3)
    )


def refit(problem: Problem, coef: F64, basis: F64, ids: npt.NDArray[np.int64] | None) -> F64:
    """H-weighted least-squares bases (M, n, S, S) for given coefficients, near the old ones where free.

    With ids, filters of one id keep one basis up to a factor; basis and factors are refitted in turn.
    """
    m, n, s, _ = basis.shape
    k = n * s * s
    per_group = m // problem.hessian.shape[0]
    step = max(1, _REFIT_ELEMENTS // (s**3 * problem.rows))
    out = basis.copy()
    normal = np.empty((m, k, k)) if ids is not None else None
    right = np.empty((m, k))
    for g in range(problem.hessian.shape[0]):
        for a in range(0, per_group, step):
            part = slice(g * per_group + a, g * per_group + min(a + step, per_group))
            left, right[part] = _normal_equations(
                problem, g, coef[part], problem.target[g, a : min(a + step, per_group)], n
            )
            if normal is None:
                old = basis[part].reshape(-1, k, 1)
                out[part] = solve_near(left, right[part][:, :, None], old).reshape(-1, n, s, s)
            else:
                normal[part] = left
    if normal is None or ids is None:
        return out
    return _refit_codebook(normal, right, basis.reshape(m, k), ids).reshape(m, n, s, s)


def _normal_equations(problem: Problem, g: int, coef: F64, target: F64, n: int) -> tuple[F64, F64]:
    """(m, K', K') and (m, K') with K' = n*S*S of filters with coefficients (m, R, S)."""
    m, rows, s = coef.shape
    ends = np.searchsorted(problem.slice_of, np.arange(n + 1))  # slices are runs of rows
    blocks = [slice(int(a), int(b)) for a, b in itertools.pairwise(ends)]
    h = problem.by_pairs[g]
    normal = np.empty((m, n, s, s, n, s, s))  # j, k, t, j', k', u
    by_row = np.ascontiguousarray(coef.transpose(0, 2, 1))  # m, k, r
    for j, some in enumerate(blocks):
        half = by_row[:, :, some].reshape(m * s, -1) @ h[some].reshape(some.stop - some.start, -1)
        half = half.reshape(m, s, s, s, rows)  # k, t, u, r'
        for i, others in enumerate(blocks):
            both = half[..., others].reshape(m, s**3, -1) @ coef[:, others]
            normal[:, j, :, :, i] = both.reshape(m, s, s, s, s).transpose(0, 1, 2, 4, 3)
    pull = (target @ problem.hessian[g]).reshape(m, rows, s)
    right = np.stack([by_row[:, :, some] @ pull[:, some] for some in blocks], axis=1)
    return normal.reshape(m, n * s * s, -1), right.reshape(m, -1)


def _refit_codebook(normal: F64, right: F64, basis: F64, ids: npt.NDArray[np.int64]) -> F64:
    """Shared bases (M, K') = factor * book[id] from the filters' normal equations."""
    factor = np.abs(basis).max(axis=1)
    factor = np.where(factor > 0, factor, 1.0)
    out = basis.copy()
    for k in np.unique(ids):
        who = np.flatnonzero(ids == k)
        unit = basis[who[0]] / factor[who[0]]
        f = factor[who]
        for _ in range(3):
            left = np.einsum("m,mij->ij", f**2, normal[who])
            unit = solve_near(left[None], (f @ right[who])[None, :, None], unit[None, :, None])[0, :, 0]
            quad = np.einsum("i,mij,j->m", unit, normal[who], unit, optimize=True)
            line = right[who] @ unit
            f = np.where((quad > 0) & (line > 0), line / np.where(quad > 0, quad, 1.0), f)
        out[who] = f[:, None] * unit
    return out
