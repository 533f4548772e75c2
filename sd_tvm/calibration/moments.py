"""Second moments of layers' inputs, in the order in which weights are rows: for activation-aware fits.

With X the inputs of one group of a layer (one column for every output position of every example, one row
for every weight of a filter, in :meth:`RowGeometry.to_rows` order), a weight error dW changes the output by
dW . X, so its squared error is dW (X X^T) dW^T. A reference (the fp32 network run beside a compressed one)
adds Y X^T of its outputs Y, which is what a least-squares fit to the reference's output needs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm.calibration.data import batches_of
from sd_tvm.calibration.interpreter import Interpreter, Step
from sd_tvm.calibration.ops import Array, conv2d_options, im2col
from sd_tvm.errors import CalibrationError
from sd_tvm.weights.rows import RowGeometry

F64 = npt.NDArray[np.float64]
LAYERS = ("relax.nn.conv1d", "relax.nn.conv2d", "relax.matmul")

#: A variance below this share of the second moment is rounding (the inputs are float32).
_NOISE = 1e-6


@dataclass
class Moments:
    """Sums over all output positions of all examples; P is their number.

    Attributes
    ----------
    geometry
        Rows of the weight; K = rows * s is the length of a filter, zero padding of the last row included.
    groups
        G. Filter m reads group m // (M / G).
    count
        P.
    xx
        float64 (G, K, K): X X^T.
    x
        float64 (G, K): sum of X.
    yx
        float64 (M, K): Y X^T with the reference's outputs (its bias and normalisation not included: Y is what
        the same layer returns), or None without a reference.
    y, yy
        float64 (M,): sums of Y and of Y^2; None without a reference.
    """

    geometry: RowGeometry
    groups: int
    count: int = 0
    xx: F64 = field(default_factory=lambda: np.zeros((0, 0, 0)))
    x: F64 = field(default_factory=lambda: np.zeros((0, 0)))
    yx: F64 | None = None
    y: F64 | None = None
    yy: F64 | None = None

    def plus(self, other: Moments) -> Moments:
        """Moments of the examples of both, which are of the same layer with or without a reference."""

        def added(mine: F64 | None, theirs: F64 | None) -> F64 | None:
            return None if mine is None or theirs is None else mine + theirs

        return replace(
            self,
            count=self.count + other.count,
            xx=self.xx + other.xx,
            x=self.x + other.x,
            yx=added(self.yx, other.yx),
            y=added(self.y, other.y),
            yy=added(self.yy, other.yy),
        )

    @property
    def mean(self) -> F64:
        """float64 (G, K): mean input."""
        return np.asarray(self.x / max(self.count, 1))

    def centred(self) -> F64:
        """float64 (G, K, K): X X^T of the inputs minus their mean.

        Inputs that never change (one example, equal examples) are exactly zero, not rounding noise.
        """
        m = self.mean
        centred = self.xx - self.count * m[:, :, None] * m[:, None, :]
        varies = np.einsum("gkk->gk", centred) > _NOISE * np.einsum("gkk->gk", self.xx)
        return np.asarray(centred * varies[:, :, None] * varies[:, None, :])

    def error(self, difference: npt.NDArray[Any]) -> F64:
        """Squared output error of each filter, summed, float64 (M,), for a weight difference."""
        rows = self.geometry.to_rows(difference).astype(np.float64).reshape(self.groups, -1, self.xx.shape[1])
        return np.asarray(np.einsum("gmk,gkl,gml->gm", rows, self.xx, rows, optimize=True).reshape(-1))


def order_of(geometry: RowGeometry) -> npt.NDArray[np.int64]:
    """For each element of a filter's rows, its index in (Cg, KH, KW); -1 for padding. int64 (K,)."""
    _, cg, kh, kw = geometry.shape
    index = np.arange(1, cg * kh * kw + 1, dtype=np.int64).reshape(1, cg, kh, kw)
    return np.asarray(RowGeometry((1, cg, kh, kw)).to_rows(index).reshape(-1) - 1)


class MomentObserver:
    """Observer that adds up the moments of the layers it is asked for.

    Parameters
    ----------
    layers
        Variable names of convolutions and dense layers.
    """

    def __init__(self, layers: Collection[str]) -> None:
        self.layers = frozenset(layers)
        self.moments: dict[str, Moments] = {}
        self._orders: dict[str, npt.NDArray[np.int64]] = {}
        self._sums: dict[str, list[Array]] = {}
        #: Outputs of the reference for the current example, (M, P) by layer.
        self.reference: dict[str, Array] | None = None

    def __call__(self, step: Step | None, args: Sequence[Any], _value: Any, name: str) -> None:
        """Take in one value of the interpreter."""
        if step is None or name not in self.layers:
            return
        patches, shape, groups = layer_patches(step.value, args)
        if name not in self.moments:
            geometry = RowGeometry(shape)
            self.moments[name] = Moments(geometry, groups)
            self._orders[name] = order_of(geometry)
            k = patches.shape[1]
            self._sums[name] = [np.zeros((groups, k, k)), np.zeros((groups, k))]
            if self.reference is not None:
                m = shape[0]
                self._sums[name] += [np.zeros((m, k)), np.zeros(m), np.zeros(m)]
        sums, moments = self._sums[name], self.moments[name]
        moments.count += patches.shape[2]
        sums[0] += patches @ patches.transpose(0, 2, 1)
        sums[1] += patches.sum(axis=2, dtype=np.float64)
        if self.reference is not None:
            y = self.reference[name]
            grouped = y.reshape(groups, -1, y.shape[1])
            sums[2] += (grouped @ patches.transpose(0, 2, 1)).reshape(y.shape[0], -1)
            sums[3] += y.sum(axis=1, dtype=np.float64)
            sums[4] += np.einsum("mp,mp->m", y, y, dtype=np.float64)

    def merge(self, other: MomentObserver) -> None:
        """Add what another observer of the same layers saw after this one; it is not to be used any more."""
        for name, moments in other.moments.items():
            if name not in self.moments:
                self.moments[name] = moments
                self._orders[name], self._sums[name] = other._orders[name], other._sums[name]
                continue
            self.moments[name].count += moments.count
            for mine, theirs in zip(self._sums[name], other._sums[name], strict=True):
                mine += theirs

    def finish(self) -> dict[str, Moments]:
        """The moments, in row order.

        Raises
        ------
        CalibrationError
            If a layer was asked for that never ran.
        """
        missing = sorted(self.layers - set(self.moments))
        if missing:
            raise CalibrationError(
                f"no values of the layers {missing}",
                expected=f"variables bound to one of {', '.join(LAYERS)}",
                fix="use the names of the module that is calibrated",
            )
        for name, moments in self.moments.items():
            order, sums = self._orders[name], self._sums.pop(name)
            keep, at = np.flatnonzero(order >= 0), order[order >= 0]
            k, groups = order.size, moments.groups
            moments.xx = np.zeros((groups, k, k))
            moments.xx[:, keep[:, None], keep[None, :]] = sums[0][:, at[:, None], at[None, :]]
            moments.x = np.zeros((groups, k))
            moments.x[:, keep] = sums[1][:, at]
            if len(sums) > 2:
                moments.yx = np.zeros((sums[2].shape[0], k))
                moments.yx[:, keep] = sums[2][:, at]
                moments.y, moments.yy = sums[3], sums[4]
        return self.moments


def layer_patches(call: Any, args: Sequence[Any]) -> tuple[Array, tuple[int, int, int, int], int]:
    """Inputs of a layer as (G, Cg*KH*KW, P), its weight's shape (M, Cg, KH, KW), and G.

    Raises
    ------
    CalibrationError
        If the call is no convolution or dense layer with a constant weight.
    """
    op = getattr(call.op, "name", "")
    x, w = (args[0], args[1]) if len(args) > 1 else (None, None)
    if op not in LAYERS or not isinstance(w, np.ndarray) or not isinstance(x, np.ndarray):
        raise CalibrationError(f"{op or 'a call'} has no input moments", expected=", ".join(LAYERS))
    if op == "relax.matmul":
        if w.ndim != 2:
            raise CalibrationError(f"a matrix product with a weight of rank {w.ndim}", expected="rank 2")
        return x.reshape(-1, w.shape[0]).T[None], (w.shape[1], w.shape[0], 1, 1), 1
    strides, padding, dilation, groups = conv2d_options(call)
    if op == "relax.nn.conv1d":
        x, w = x[:, :, None], w[:, :, None]
    m, cg, kh, kw = w.shape
    columns = im2col(x, (kh, kw), strides, padding, dilation)
    n = columns.shape[0]
    patches = columns.reshape(n, groups, cg * kh * kw, -1).transpose(1, 2, 0, 3)
    return patches.reshape(groups, cg * kh * kw, -1), (m, cg, kh, kw), groups


def by_filter(call: Any, value: Array) -> Array:
    """Output of a layer as (M, P)."""
    if call.op.name == "relax.matmul":
        return value.reshape(-1, value.shape[-1]).T
    return value.reshape(*value.shape[:2], -1).transpose(1, 0, 2).reshape(value.shape[1], -1)


def collect_moments(
    mod: Any,
    batches: Any,
    layer_vars: Collection[str],
    *,
    reference: Any = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Moments]:
    """Input moments of some layers, streamed over examples.

    Parameters
    ----------
    mod
        Module whose layers' inputs count (fp32, or compressed up to some layer).
    batches
        Calibration data, as :class:`sd_tvm.relay_passes.calibrate.Calibrate` takes it.
    layer_vars
        Variable names of convolutions (1-D, 2-D) and dense layers; memory is 8 K^2 bytes a group for each.
    reference
        Module with the same variables whose outputs are the target; adds ``yx``, ``y``, ``yy``.
    progress
        Called with the number of examples done.

    Raises
    ------
    CalibrationError
        As ``Calibrate``, and for a name that is no such layer.
    """
    interpreter = Interpreter(mod)
    target = None if reference is None else Interpreter(reference)
    observer = MomentObserver(layer_vars)
    for done, inputs in enumerate(batches_of(batches, interpreter.inputs), start=1):
        if target is not None:
            outputs: dict[str, Array] = {}

            def keep(
                step: Step | None, _a: Any, value: Any, name: str, out: dict[str, Array] = outputs
            ) -> None:
                if step is not None and name in observer.layers:
                    out[name] = by_filter(step.value, value)

            target.run(inputs, keep)
            observer.reference = outputs
        interpreter.run(inputs, observer)
        if progress is not None:
            progress(done)
    return observer.finish()
