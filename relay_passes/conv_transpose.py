"""ConvTranspose: a transposed convolution becomes one convolution of phases and a depth to space.

Output row v + pad = s * t + r of a transposed convolution at stride s is a sum over kernel rows r, r + s,
r + 2s, ... and input rows t, t - 1, ...: for each of the s^2 phases an ordinary convolution with ceil(K / s)
taps a side. All phases have the same window, so they are filters of one convolution at stride one that reads
its input once; no zeros are inserted, and the new weight takes any form that a convolution's weight takes.
Filters of a phase are padded to a multiple of 16, so that the depth to space moves whole words.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm._tvm import relax, tvm
from sd_tvm.layers import LANES, blocks16
from sd_tvm.relay_passes import _interleave
from sd_tvm.relay_passes._rewrite import (
    NAMES_ATTR,
    Expr,
    IRModule,
    Rewriter,
    _vars_in,
    bindings_of,
    const,
    constant,
    is_call,
    rewrite,
    set_attr,
    source_names,
    static_shape,
)
from sd_tvm.relay_passes._weights import relax_functions
from sd_tvm.relay_passes.canonicalize import channel_constant
from sd_tvm.relay_passes.legality import MAX_KERNEL

Array = npt.NDArray[np.float32]
#: Element by element: may run on the phases, before the depth to space.
_POINTWISE = (
    "relax.nn.relu",
    "relax.nn.relu6",
    "relax.clip",
    "relax.nn.leakyrelu",
    "relax.nn.silu",
    "relax.nn.gelu",
    "relax.sigmoid",
    "relax.tanh",
)


class _Axis:
    """One axis: phases, taps of a phase, padding of the convolution, crop of the result.

    Parameters
    ----------
    size, out
        Extents of input and result.
    kernel, stride, pad
        Extent of the kernel (dilation included), stride, padding at the start.
    """

    def __init__(self, size: int, out: int, kernel: int, stride: int, pad: int) -> None:
        self.stride, self.kernel = stride, kernel
        first, last = pad // stride, (pad + out - 1) // stride
        self.crop = pad % stride
        # a padding beyond the kernel asks for rows further down: taps of zero
        self.taps = max(-(-kernel // stride), first + 1)
        self.start = self.taps - 1 - first
        end = last - first + self.taps - size - self.start
        #: Rows of the input that nothing reads; a depth to space leaves their results out.
        self.unread, self.end = max(0, -end), max(0, end)

    def tap(self, phase: int, q: int) -> int | None:
        """Index in the kernel of tap ``q`` of a phase; None: zero."""
        at = phase + self.stride * (self.taps - 1 - q)
        return at if at < self.kernel else None


def _dilated(weight: Array, dilation: tuple[int, int]) -> Array:
    """Kernel with zeros between its taps."""
    c, m, kh, kw = weight.shape
    (dh, dw) = dilation
    out = np.zeros((c, m, dh * (kh - 1) + 1, dw * (kw - 1) + 1), np.float32)
    out[:, :, ::dh, ::dw] = weight
    return out


def phase_weight(weight: Array, y: _Axis, x: _Axis) -> Array:
    """Weight (phases * M16, C, taps, taps) of the convolution, from (C, M, KH, KW)."""
    c, m, _, _ = weight.shape
    wide = blocks16(m) * LANES
    out = np.zeros((y.stride, x.stride, wide, c, y.taps, x.taps), np.float32)
    for ry in range(y.stride):
        for rx in range(x.stride):
            for qy in range(y.taps):
                for qx in range(x.taps):
                    ky, kx = y.tap(ry, qy), x.tap(rx, qx)
                    if ky is not None and kx is not None:
                        out[ry, rx, :m, :, qy, qx] = weight[:, :, ky, kx].T
    return out.reshape(-1, c, y.taps, x.taps)


def _bias_wide(bias: Array, phases: int) -> Array:
    """(1, phases * M16, 1, 1) from (M,)."""
    wide = np.zeros(blocks16(bias.size) * LANES, np.float32)
    wide[: bias.size] = bias
    return np.tile(wide, phases).reshape(1, -1, 1, 1)


def _axes(value: Expr) -> tuple[_Axis, _Axis, Array] | None:
    """Both axes and the (dilated) weight of a transposed convolution that can be rewritten."""
    if not is_call(value, "relax.nn.conv2d_transpose"):
        return None
    a, weight = value.attrs, constant(value.args[1])
    shape, out = static_shape(value.args[0]), static_shape(value)
    layouts = (a.data_layout, a.kernel_layout, a.out_layout or a.data_layout)
    if weight is None or weight.dtype != np.float32 or shape is None or out is None:
        return None
    if layouts != ("NCHW", "IOHW", "NCHW") or int(a.groups) != 1:
        return None
    dilation = [int(d) for d in a.dilation]
    weight = _dilated(weight, (dilation[0], dilation[1]))
    stride, padding = [int(s) for s in a.strides], [int(p) for p in a.padding]
    y, x = (_Axis(shape[2 + i], out[2 + i], weight.shape[2 + i], stride[i], padding[i]) for i in (0, 1))
    cut = any(axis.unread for axis in (y, x)) and y.stride * x.stride == 1
    return None if cut or max(y.taps, x.taps) > MAX_KERNEL else (y, x, weight)


def _follower(value: Expr, var: Expr) -> bool:
    """Whether ``value`` may run on the phases of ``var``: a bias, or a function of one value."""
    if is_call(value, "relax.add"):
        shape = static_shape(var)
        return shape is not None and value.args[0].same_as(var) and _bias(value, shape) is not None
    return is_call(value, *_POINTWISE)


def _bias(value: Expr, shape: tuple[int, ...]) -> Array | None:
    bias: Array | None = channel_constant(value.args[1], shape)
    return bias


def _tails(func: Expr) -> dict[str, list[tuple[str, Expr]]]:
    """Name of the last binding of each chain -> its members (name, value), the convolution first."""
    uses: dict[Expr, int] = {}
    reader: dict[Expr, tuple[Expr, Expr]] = {}
    bindings = list(bindings_of(func))
    for value in (*(v for _, v in bindings), func.body.body):
        for var in _vars_in(value):
            uses[var] = uses.get(var, 0) + 1
    for var, value in bindings:
        for used in _vars_in(value):
            reader[used] = (var, value)
    out = {}
    for head, value in bindings:
        if _axes(value) is None:
            continue
        members = [(str(head.name), value)]
        var = head
        while uses.get(var, 0) == 1 and var in reader and _follower(reader[var][1], var):
            var, value = reader[var]
            members.append((str(var.name), value))
        out[str(var.name)] = members
    return out


@tvm.transform.module_pass(opt_level=0, name="sd.ConvTranspose")
class ConvTranspose:
    """Rewrite transposed convolutions without groups; usable in any ``tvm.transform.Sequential``.

    A bias and activations that follow run before the depth to space. At stride one no depth to space is
    needed.
    """

    def transform_module(self, mod: IRModule, _context: Any) -> IRModule:
        """The pass."""
        names = dict(source_names(mod))
        for function, func in list(relax_functions(mod)):
            tails = _tails(func)
            if not tails:
                continue

            def rule(ctx: Rewriter, var: Expr, value: Expr, tails: dict[str, Any] = tails) -> Expr | None:
                members = tails.get(str(var.name))
                return None if members is None else _rewrite(ctx, var, value, members, names)

            mod = rewrite(mod, rule, function)
        return set_attr(mod, NAMES_ATTR, names) if names != source_names(mod) else mod


def _rewrite(
    ctx: Rewriter, var: Expr, value: Expr, members: list[tuple[str, Expr]], names: dict[str, str]
) -> Expr:
    """Value of the last member of a chain."""
    head = value
    for _ in members[1:]:  # operands were rewritten since the chain was found
        head = ctx.value_of(head.args[0])
    found = _axes(ctx.builder.normalize(head))
    if found is None:
        raise ValueError(f"{var} was a transposed convolution")
    y, x, weight = found
    phases = y.stride * x.stride
    plain = phases == 1 and not (y.crop or x.crop)
    m = weight.shape[1]
    stacked = phase_weight(weight, y, x)
    stacked = stacked[:m] if phases == 1 else stacked
    out: Expr = relax.op.nn.conv2d(
        head.args[0],
        const(stacked),
        strides=1,
        padding=[y.start, x.start, y.end, x.end],
        out_dtype="float32",
    )
    shape = static_shape(value) or static_shape(var) or ()
    for i, (name, _) in enumerate(members):
        if i:
            call = _member(ctx, value, len(members) - 1 - i)
            if is_call(call, "relax.add"):
                bias = _bias(call, shape)
                if bias is None:
                    raise ValueError(f"{name} was a bias")
                wide = bias.reshape(1, -1, 1, 1) if phases == 1 else _bias_wide(bias, phases)
                out = relax.op.add(out, const(wide))
            else:
                out = relax.Call(call.op, [out, *list(call.args)[1:]], call.attrs, call.ty_args)
        if i == len(members) - 1 and plain:
            break
        new = f"{name}_phases"
        names[new] = names.get(name, name)
        out = ctx.emit(out, new)
    if plain:
        return out
    return _interleave.write(ctx.emit, out, (y.stride, x.stride), (y.crop, x.crop), shape, str(var.name))


def _member(ctx: Rewriter, value: Expr, back: int) -> Expr:
    """The call ``back`` members before the last one."""
    for _ in range(back):
        value = ctx.value_of(value.args[0])
    return value
