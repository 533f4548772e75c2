"""fp32 operators in NumPy, by Relax name: for calibration and for folding constants.

Convolutions go through im2col and BLAS, so they are some twenty times faster than TVM's unscheduled
ones. An operator, a layout or an option that is not here raises :class:`NotEvaluated`; the interpreter
then runs that one call through TVM.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
#: Gets the call and its operands (arrays, tuples of arrays, or expressions that are no tensors).
Evaluator = Callable[[Any, Sequence[Any]], Any]


class NotEvaluated(Exception):  # noqa: N818 - a signal, not an error of the user's
    """NumPy does not evaluate a call."""


def _need(condition: bool) -> None:
    if not condition:
        raise NotEvaluated


def _ints(values: Any) -> list[int]:
    return [int(v) for v in values]


def windows(x: Array, kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int]) -> Array:
    """View (N, C, OH, OW, KH, KW) of the windows of a padded (N, C, H, W)."""
    n, c, h, w = x.shape
    (kh, kw), (sh, sw), (dh, dw) = kernel, strides, dilation
    oh, ow = (h - dh * (kh - 1) - 1) // sh + 1, (w - dw * (kw - 1) - 1) // sw + 1
    bn, bc, bh, bw = x.strides
    return np.lib.stride_tricks.as_strided(
        x, (n, c, oh, ow, kh, kw), (bn, bc, bh * sh, bw * sw, bh * dh, bw * dw), writeable=False
    )


def pad_hw(x: Array, padding: Sequence[int], value: float = 0.0) -> Array:
    """(N, C, H, W) padded by (top, left, bottom, right)."""
    t, left, b, r = padding
    if not any(padding):
        return x
    n, c, h, w = x.shape
    out = np.full((n, c, h + t + b, w + left + r), value, x.dtype)
    out[:, :, t : t + h, left : left + w] = x
    return out


def im2col(
    x: Array, kernel: Sequence[int], strides: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> Array:
    """(N, C, KH*KW, OH*OW) patches of (N, C, H, W); a view for a 1x1 kernel at stride 1."""
    x = pad_hw(x, padding)
    n, c = x.shape[:2]
    if tuple(kernel) == (1, 1):
        x = x[:, :, :: strides[0], :: strides[1]]
        return x.reshape(n, c, 1, -1)
    view = windows(x, kernel, strides, dilation)
    return view.transpose(0, 1, 4, 5, 2, 3).reshape(n, c, kernel[0] * kernel[1], -1)


def conv2d(
    x: Array,
    w: Array,
    strides: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Array:
    """Convolution of (N, C, H, W) with (M, C/groups, KH, KW), padding (top, left, bottom, right)."""
    m, cg, kh, kw = w.shape
    n, _, h, wd = x.shape
    oh = (h + padding[0] + padding[2] - dilation[0] * (kh - 1) - 1) // strides[0] + 1
    ow = (wd + padding[1] + padding[3] - dilation[1] * (kw - 1) - 1) // strides[1] + 1
    if cg == 1 and groups == m:
        view = windows(pad_hw(x, padding), (kh, kw), strides, dilation)
        out = view[..., 0, 0] * w[:, 0, 0, 0, None, None]
        product = np.empty_like(out)
        for ky in range(kh):
            for kx in range(kw):
                if ky or kx:
                    np.multiply(view[..., ky, kx], w[:, 0, ky, kx, None, None], out=product)
                    out += product
        return out
    cols = im2col(x, (kh, kw), strides, padding, dilation)
    cols = cols.reshape(n, groups, cg * kh * kw, oh * ow)
    out = np.asarray(np.matmul(w.reshape(1, groups, m // groups, -1), cols))
    return out.reshape(n, m, oh, ow)


def conv2d_options(call: Any) -> tuple[list[int], list[int], list[int], int]:
    """(strides, padding of four, dilation, groups) of a conv2d or, with height 1, a conv1d call."""
    a = call.attrs
    if call.op.name == "relax.nn.conv1d":
        _need((a.data_layout, a.kernel_layout, a.out_layout or "NCW") == ("NCW", "OIW", "NCW"))
        (s,), (d,), p = _ints(a.strides), _ints(a.dilation), _ints(a.padding)
        return [1, s], [0, p[0], 0, p[-1]], [1, d], int(a.groups)
    _need((a.data_layout, a.kernel_layout, a.out_layout or "NCHW") == ("NCHW", "OIHW", "NCHW"))
    p = _ints(a.padding)
    p = p * (4 // len(p))
    return _ints(a.strides), p, _ints(a.dilation), int(a.groups)


def _conv(call: Any, args: Sequence[Any]) -> Array:
    options = conv2d_options(call)
    if call.op.name == "relax.nn.conv1d":
        return conv2d(args[0][:, :, None], args[1][:, :, None], *options)[:, :, 0]
    return conv2d(args[0], args[1], *options)


def _pool(call: Any, args: Sequence[Any]) -> Array:
    a, x = call.attrs, args[0]
    _need(a.layout == "NCHW" and not a.ceil_mode and x.dtype == np.float32)
    is_max = call.op.name == "relax.nn.max_pool2d"
    padding = _ints(a.padding)
    _need(is_max or a.count_include_pad or not any(padding))
    padded = pad_hw(x, padding, -np.inf if is_max else 0.0)
    view = windows(padded, _ints(a.pool_size), _ints(a.strides), _ints(a.dilation))
    if is_max:
        return np.asarray(view.max(axis=(4, 5)))
    return np.asarray(view.mean(axis=(4, 5), dtype=np.float64).astype(np.float32))


def _adaptive(call: Any, args: Sequence[Any]) -> Array:
    size = call.attrs.output_size
    _need(call.attrs.layout == "NCHW" and size is not None and _ints(size) == [1, 1])
    return np.asarray(args[0].mean(axis=(2, 3), keepdims=True))


def _batch_norm(call: Any, args: Sequence[Any]) -> tuple[Array, ...]:
    a = call.attrs
    _need(not a.training)
    x, gamma, beta, mean, var = args
    shape = [1] * x.ndim
    shape[int(a.axis)] = -1
    y = (x - mean.reshape(shape)) / np.sqrt(var.reshape(shape) + np.float32(a.epsilon))
    y = y * gamma.reshape(shape) if a.scale else y
    y = y + beta.reshape(shape) if a.center else y
    return y, mean, var


def _layer_norm(call: Any, args: Sequence[Any]) -> Array:
    a, x = call.attrs, args[0]
    axes = tuple(_ints(a.axes))
    y = (x - x.mean(axis=axes, keepdims=True)) / np.sqrt(
        x.var(axis=axes, keepdims=True) + np.float32(a.epsilon)
    )
    _need(sorted(i % x.ndim for i in axes) == list(range(x.ndim - len(axes), x.ndim)))
    y = y * args[1] if a.scale else y
    return np.asarray(y + args[2] if a.center else y)


def _softmax(call: Any, args: Sequence[Any]) -> Array:
    x, axis = args[0], int(call.attrs.axis)
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.asarray(e / e.sum(axis=axis, keepdims=True))


def _reduce(function: Any) -> Evaluator:
    def run(call: Any, args: Sequence[Any]) -> Array:
        axis = call.attrs.axis
        axes = None if axis is None else tuple(_ints(axis))
        value = np.asarray(function(args[0], axis=axes, keepdims=bool(call.attrs.keepdims)))
        return value.astype(args[0].dtype, copy=False)  # NumPy sums int32 in int64

    return run


def _shape(_: Any, args: Sequence[Any]) -> Array:
    return np.asarray(args[0].reshape(_ints(args[1].values)))


def _clip(_: Any, args: Sequence[Any]) -> Array:
    lo, hi = (a.value for a in args[1:3])
    return np.asarray(np.clip(args[0], args[0].dtype.type(lo), args[0].dtype.type(hi)))


def _permute(call: Any, args: Sequence[Any]) -> Array:
    axes = call.attrs.axes
    return np.transpose(args[0], None if axes is None else _ints(axes))


def _expand_dims(call: Any, args: Sequence[Any]) -> Array:
    return np.expand_dims(args[0], tuple(_ints(call.attrs.axis)))


def _squeeze(call: Any, args: Sequence[Any]) -> Array:
    axis = call.attrs.axis
    return np.asarray(np.squeeze(args[0], None if axis is None else tuple(_ints(axis))))


_PAD_MODES: dict[str, Literal["reflect", "edge", "wrap"]] = {
    "reflect": "reflect",
    "replicate": "edge",
    "edge": "edge",
    "circular": "wrap",
}


def _pad(call: Any, args: Sequence[Any]) -> Array:
    a = call.attrs
    w = _ints(a.pad_width)
    _need(min(w, default=0) >= 0)
    pairs = list(zip(w[::2], w[1::2], strict=True))
    if str(a.pad_mode) == "constant":
        return np.pad(args[0], pairs, constant_values=args[0].dtype.type(a.pad_value))
    _need(str(a.pad_mode) in _PAD_MODES)
    return np.pad(args[0], pairs, mode=_PAD_MODES[str(a.pad_mode)])


def _concat(call: Any, args: Sequence[Any]) -> Array:
    axis = call.attrs.axis
    return np.concatenate(args[0], axis=None if axis is None else int(axis))


def _split(call: Any, args: Sequence[Any]) -> tuple[Array, ...]:
    where = call.attrs.indices_or_sections
    at = int(where) if isinstance(where, int) or hasattr(where, "value") else _ints(where)
    return tuple(np.split(args[0], at, axis=int(call.attrs.axis)))


def _strided_slice(_: Any, args: Sequence[Any]) -> Array:
    axes, begin, end = ([int(getattr(v, "value", v)) for v in a] for a in args[1:4])
    _need(len(args) == 4)
    x: Array = args[0]
    for axis, first, last in zip(axes, begin, end, strict=True):
        x = x[(*[slice(None)] * (axis % x.ndim), slice(first, last))]
    return x


def _take(call: Any, args: Sequence[Any]) -> Array:
    axis = call.attrs.axis
    _need(isinstance(args[1], np.ndarray))
    return np.asarray(np.take(args[0], args[1], axis=None if axis is None else int(axis), mode="clip"))


def _matmul(call: Any, args: Sequence[Any]) -> Array:
    _need(str(call.attrs.out_dtype) in ("float32", "", "None", "void") and args[0].dtype == np.float32)
    return np.asarray(np.matmul(args[0], args[1]))


def _unary(function: Callable[[Array], Any]) -> Evaluator:
    return lambda _call, args: np.asarray(function(args[0])).astype(args[0].dtype, copy=False)


def _binary(function: Callable[[Array, Array], Any]) -> Evaluator:
    return lambda _call, args: np.asarray(function(args[0], args[1]))


def _floats(function: Callable[[Array, Array], Any]) -> Evaluator:
    def run(_: Any, args: Sequence[Any]) -> Array:
        _need(args[0].dtype.kind == "f")
        return np.asarray(function(args[0], args[1]))

    return run


#: Values that :func:`math.erf` computes one by one: tables and small constants; TVM is faster for more.
_FEW = 4096


def _erf(x: Array) -> Array:
    _need(x.size <= _FEW)
    return np.array([math.erf(v) for v in x.reshape(-1)], np.float64).reshape(x.shape)


def _gelu_tanh(x: Array) -> Array:
    return np.asarray(0.5 * x * (1.0 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))


def _leaky(call: Any, args: Sequence[Any]) -> Array:
    x = args[0]
    return np.asarray(np.where(x > 0, x, x * x.dtype.type(call.attrs.alpha)))


def _prelu(_: Any, args: Sequence[Any]) -> Array:
    x, alpha = args
    _need(alpha.size == 1)
    return np.asarray(np.where(x > 0, x, x * alpha.reshape(()).astype(x.dtype)))


def _softplus(call: Any, args: Sequence[Any]) -> Array:
    x, beta = args[0], float(call.attrs.beta)
    soft = np.logaddexp(0, beta * x) / beta
    return np.asarray(np.where(beta * x > float(call.attrs.threshold), x, soft).astype(x.dtype))


def _selu(x: Array) -> Array:
    alpha, scale = 1.6732632423543772, 1.0507009873554805
    return np.asarray(scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))))


def _resize(call: Any, args: Sequence[Any]) -> Array:
    """Nearest neighbours by whole factors."""
    a, x, size = call.attrs, args[0], _ints(args[1].values)
    _need(a.layout == "NCHW" and a.method == "nearest_neighbor")
    mode = (str(a.coordinate_transformation_mode), str(a.rounding_method))
    _need(mode == ("asymmetric", "floor") or (mode[0] == "half_pixel" and mode[1].startswith("round")))
    _need(size[0] % x.shape[2] == 0 and size[1] % x.shape[3] == 0)
    return np.asarray(x.repeat(size[0] // x.shape[2], axis=2).repeat(size[1] // x.shape[3], axis=3))


def _sigmoid(x: Array) -> Array:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))


EVALUATORS: dict[str, Evaluator] = {
    "relax.nn.conv1d": _conv,
    "relax.nn.conv2d": _conv,
    "relax.nn.max_pool2d": _pool,
    "relax.nn.avg_pool2d": _pool,
    "relax.nn.adaptive_avg_pool2d": _adaptive,
    "relax.nn.batch_norm": _batch_norm,
    "relax.nn.layer_norm": _layer_norm,
    "relax.nn.softmax": _softmax,
    "relax.nn.dropout": lambda _, args: (args[0], np.ones_like(args[0])),
    "relax.nn.pad": _pad,
    "relax.nn.relu": _unary(lambda x: np.maximum(x, 0)),
    "relax.nn.relu6": _unary(lambda x: np.clip(x, 0, 6)),
    "relax.nn.silu": _unary(lambda x: x * _sigmoid(x)),
    "relax.nn.gelu": _unary(lambda x: 0.5 * x * (1.0 + _erf(x / math.sqrt(2)))),
    "relax.nn.gelu_tanh": _unary(_gelu_tanh),
    "relax.nn.leakyrelu": _leaky,
    "relax.nn.prelu": _prelu,
    "relax.nn.softplus": _softplus,
    "relax.nn.selu": _unary(_selu),
    "relax.erf": _unary(_erf),
    "relax.sigmoid": _unary(_sigmoid),
    "relax.clip": _clip,
    "relax.tanh": _unary(np.tanh),
    "relax.exp": _unary(np.exp),
    "relax.log": _unary(np.log),
    "relax.sqrt": _unary(np.sqrt),
    "relax.rsqrt": _unary(lambda x: 1 / np.sqrt(x)),
    "relax.square": _unary(np.square),
    "relax.negative": _unary(np.negative),
    "relax.abs": _unary(np.abs),
    "relax.add": _binary(np.add),
    "relax.subtract": _binary(np.subtract),
    "relax.multiply": _binary(np.multiply),
    "relax.divide": _floats(np.divide),
    "relax.power": _floats(np.power),
    "relax.maximum": _binary(np.maximum),
    "relax.minimum": _binary(np.minimum),
    "relax.matmul": _matmul,
    "relax.mean": _reduce(np.mean),
    "relax.sum": _reduce(np.sum),
    "relax.max": _reduce(np.max),
    "relax.min": _reduce(np.min),
    "relax.reshape": _shape,
    "relax.broadcast_to": lambda _, args: np.broadcast_to(args[0], _ints(args[1].values)),
    "relax.permute_dims": _permute,
    "relax.expand_dims": _expand_dims,
    "relax.squeeze": _squeeze,
    "relax.concat": _concat,
    "relax.split": _split,
    "relax.take": _take,
    "relax.strided_slice": _strided_slice,
    "relax.astype": lambda call, args: args[0].astype(str(call.attrs.dtype)),
    "relax.full": lambda _, args: np.full(_ints(args[0].values), args[1]),
    "relax.image.resize2d": _resize,
    "relax.greater": _binary(np.greater),
    "relax.greater_equal": _binary(np.greater_equal),
    "relax.less": _binary(np.less),
    "relax.less_equal": _binary(np.less_equal),
    "relax.isnan": lambda _, args: np.isnan(args[0]),
    "relax.where": lambda _, args: np.where(args[0], args[1], args[2]),
}


def evaluate(call: Any, args: Sequence[Any]) -> Any:
    """Value of a call of an operator of :data:`EVALUATORS`.

    Parameters
    ----------
    call
        The Relax call (its attributes are read).
    args
        Its operands in order: arrays for tensors, tuples of arrays for tuples, the expression itself else.

    Returns
    -------
    ndarray or tuple of ndarray
        As the operator's type says.

    Raises
    ------
    NotEvaluated
        If NumPy does not evaluate it.
    """
    function = EVALUATORS.get(getattr(call.op, "name", ""))
    if function is None:
        raise NotEvaluated
    with np.errstate(all="ignore"):
        return function(call, args)
