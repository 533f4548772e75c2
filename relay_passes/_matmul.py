"""Products of two activations: how their operands are quantised, and the layer they become.

A product is a grouped 1x1 convolution on raw int8 weights: the matrices of a batch are the groups, the rows
of the first operand are pixels, and the second operand, whose blocked layout (batch, M/16, K, 16) is the
one of raw weights, stands where the weights stand. Neither operand has a zero point: its correction would
be a sum over the other operand, which is not known before run time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from sd_tvm.layers import LANES, ConvLayer, blocks16
from sd_tvm.numerics.bounds import Q_MAX
from sd_tvm.numerics.qparams import QParams
from sd_tvm.relay_passes._integer import NO_BOUNDS, Bounds, Integer, check_shifts, words_of
from sd_tvm.relay_passes._rewrite import Expr, constant, is_call

VIEWS = (
    "relax.reshape",
    "relax.flatten",
    "relax.squeeze",
    "relax.expand_dims",
    "relax.permute_dims",
    "relax.broadcast_to",
)


def is_symmetric(q: QParams, *, signed: bool) -> bool:
    """Whether a quantisation has no zero point (and, for a second operand, is int8)."""
    return q.zero_point == 0 and (q.dtype == "int8" or not signed)


def symmetric(q: QParams, *, signed: bool) -> QParams:
    """Quantisation of the same range without a zero point: uint8 for what is never negative, else int8."""
    if is_symmetric(q, signed=signed):
        return q
    lo, hi = q.range
    if lo >= 0 and not signed:
        return QParams(float(np.float32(hi / 255)), 0, "uint8")
    return QParams(float(np.float32(max(-lo, hi) / 127)), 0, "int8")


def with_symmetric_operands(
    bindings: Iterable[tuple[Expr, Expr]], weights: Iterable[Expr], qparams: Mapping[str, QParams]
) -> dict[str, QParams]:
    """Quantisations in which the operands of products, and what they are views of, have no zero point.

    Parameters
    ----------
    bindings
        Of one function, in order.
    weights
        Variables that hold rebuilt weights.
    qparams
        Calibrated quantisation by variable name.
    """
    values, fixed = dict(bindings), set(weights)
    out, signed = dict(qparams), dict[str, bool]()
    for value in values.values():
        if (
            not is_call(value, "relax.matmul")
            or value.args[1] in fixed
            or constant(value.args[1]) is not None
        ):
            continue
        for i, operand in enumerate(value.args[:2]):
            var = operand
            while True:
                name = str(getattr(var, "name", ""))
                signed[name] = signed.get(name, False) or i == 1
                source = values.get(var)
                if source is None or not is_call(source, *VIEWS):
                    break
                var = source.args[0]
    for name, is_signed in signed.items():
        if name in out:
            out[name] = symmetric(out[name], signed=is_signed)
    return out


def product(
    name: str,
    sizes: tuple[int, int, int, int],
    a: QParams,
    b: QParams,
    out: QParams,
    gain: float = 1.0,
    bounds: Bounds = NO_BOUNDS,
) -> Integer:
    """Layer of gain * (a @ b).

    Parameters
    ----------
    name
        Layer.
    sizes
        (matrices, rows of a, K, columns of b).
    a, b, out
        Quantisations; those of the operands have no zero point, b is int8.
    gain
        Real factor of the result, positive.
    bounds
        Fused activation, real.

    Raises
    ------
    NumericsError
        If int32 could overflow.
    """
    groups, rows, k, m = sizes
    real = np.array([gain * a.scale * b.scale / out.scale])
    check_shifts(name, [float(k * Q_MAX[a.dtype] * Q_MAX["int8"])], real)
    m_all = groups * blocks16(m) * LANES
    words = words_of(np.zeros(m_all, np.int64), np.repeat(real, m_all), out, bounds, pad=True)
    layer = ConvLayer(
        name=name,
        batch=1,
        in_channels=groups * blocks16(k) * LANES,
        in_hw=(1, rows),
        out_channels=m_all,
        kernel=(1, 1),
        groups=groups,
        in_dtype=a.dtype,
        out_dtype=out.dtype,
    )
    return Integer(layer, [words])
