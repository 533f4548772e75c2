"""Convolutions and matrix products."""

from __future__ import annotations

from typing import Any

from sd_tvm._tvm import relax
from sd_tvm.relay.attrs import dtype, flag, integer, ref, text
from sd_tvm.relay.site import Expr, Operator, Site

CONV2D_ATTRS = {
    "strides": ref((1, 1)),
    "padding": ref((0, 0)),
    "dilation": ref((1, 1)),
    "groups": integer(1),
    "channels": ref(None),
    "kernel_size": ref(None),
    "data_layout": text("NCHW"),
    "kernel_layout": text("OIHW"),
    "out_layout": text(""),
    "out_dtype": dtype(),
}
TRANSPOSE2D_ATTRS = {
    **CONV2D_ATTRS,
    "output_padding": ref((0, 0)),
    "kernel_layout": text(""),  # see transposed_kernel
}
_CONV1D_ATTRS = {
    **CONV2D_ATTRS,
    "strides": ref((1,)),
    "padding": ref((0, 0)),
    "dilation": ref((1,)),
    "data_layout": text("NCW"),
    "kernel_layout": text("OIW"),
}
_CONV3D_ATTRS = {
    **CONV2D_ATTRS,
    "strides": ref((1, 1, 1)),
    "padding": ref((0, 0, 0)),
    "dilation": ref((1, 1, 1)),
    "data_layout": text("NCDHW"),
    "kernel_layout": text("OIDHW"),
}
DENSE_ATTRS = {"units": ref(None), "out_dtype": dtype()}
BATCH_MATMUL_ATTRS = {"out_dtype": dtype(), "transpose_a": flag(False), "transpose_b": flag(False)}


def padding(s: Site, n: int) -> list[int]:
    """Padding before all ``n`` axes, then behind them."""
    p = s.ints("padding")
    if len(p) not in (1, n, 2 * n):
        raise s.fail(f"padding {p}", f"1, {n} or {2 * n} numbers")
    return list(p * (2 * n)) if len(p) == 1 else list(p * 2) if len(p) == n else list(p)


def per_axis(s: Site, name: str, n: int) -> list[int]:
    """One number for each of ``n`` axes."""
    v = s.ints(name)
    if len(v) not in (1, n):
        raise s.fail(f"{name} {v}", f"{n} numbers")
    return list(v * n) if len(v) == 1 else list(v)


def data_in(s: Site, k: int = 0, name: str = "data_layout") -> Expr:
    """Operand ``k`` in NCHW."""
    layout = s.attr(name)
    out = s.attrs.get("out_layout") or layout
    if layout not in ("NCHW", "NHWC") or out != layout:
        raise s.fail(
            f"layout {layout!r} to {out!r}",
            "NCHW or NHWC",
            "save the module before it is optimised for a target (AlterOpLayout and later passes)",
        )
    if len(s.shape(k)) != 4:
        raise s.fail(f"an operand of rank {len(s.shape(k))}", "rank 4")
    return s.layouts.to_nchw(s[k]) if layout == "NHWC" else s[k]


def data_out(s: Site, value: Expr, name: str = "data_layout") -> Expr:
    """An NCHW result in the layout of the call."""
    return s.layouts.to_nhwc(value) if s.attr(name) == "NHWC" else value


def kernel_in(s: Site, weight: Expr, layout: str, wanted: str) -> Expr:
    """A kernel with its axes in the wanted order."""
    if sorted(layout) != sorted(wanted) or len(s.shape(weight)) != len(wanted):
        raise s.fail(
            f"a kernel of shape {list(s.shape(weight))} and layout {layout!r}",
            f"a permutation of {wanted}",
            "save the module before it is optimised for a target (AlterOpLayout and later passes)",
        )
    return s.transpose(weight, [layout.index(c) for c in wanted])


def operand_types(s: Site, *values: Expr) -> list[Expr]:
    """Operands in the type of the result, where the call gives one."""
    out = s.attr("out_dtype")
    return [s.cast(v, out) if out else v for v in values]


def convolve2d(s: Site, data: Expr, weight: Expr) -> Expr:
    """Convolution of an NCHW value with a kernel in the call's layout; the result is NCHW."""
    kernel = kernel_in(s, weight, s.attr("kernel_layout"), "OIHW")
    o, i, kh, kw = s.shape(kernel)
    groups, channels = s.attr("groups"), s.shape(data)[1]
    if groups > 1 and groups == channels and o == channels:
        # Relay's depthwise kernels are (channels, multiplier, kh, kw)
        kernel = s.reshape(kernel, (o * i, 1, kh, kw))
    elif i * groups != channels:
        raise s.fail(f"a kernel of {i} channels and {groups} groups for {channels} channels", "equal numbers")
    return s.emit(
        relax.op.nn.conv2d(
            data, kernel, per_axis(s, "strides", 2), padding(s, 2), per_axis(s, "dilation", 2), groups
        )
    )


def _conv2d(s: Site) -> Expr:
    data, weight = operand_types(s, data_in(s), s[1])
    return data_out(s, convolve2d(s, data, weight))


def transposed_kernel(s: Site, channels: int) -> str:
    """Order of the axes of a transposed convolution's kernel.

    Until 0.8 Relay called (input, output) ``OIHW``, since then ``IOHW``; the shapes tell which is meant.
    """
    layout, shape = str(s.attr("kernel_layout") or "IOHW"), s.shape(1)
    if sorted(layout) != sorted("IOHW") or len(shape) != 4:
        return layout
    out, groups = s.attr("channels"), s.attr("groups")
    swapped = layout.translate({ord("I"): "O", ord("O"): "I"})
    fits = {
        name: shape[name.index("I")] == channels and out in (None, shape[name.index("O")] * groups)
        for name in (layout, swapped)
    }
    old = s.version.startswith(("0.6", "0.7", "0.8", "0.9.dev"))
    if layout in ("OIHW", "HWOI") and old and fits[swapped]:
        return swapped
    return layout if fits[layout] or not fits[swapped] else swapped


def deconvolve2d(s: Site, data: Expr, weight: Expr) -> Expr:
    """Transposed convolution of an NCHW value; the result is NCHW."""
    kernel = kernel_in(s, weight, transposed_kernel(s, s.shape(data)[1]), "IOHW")
    return s.emit(
        relax.op.nn.conv2d_transpose(
            data,
            kernel,
            per_axis(s, "strides", 2),
            padding(s, 2),
            per_axis(s, "output_padding", 2),
            per_axis(s, "dilation", 2),
            s.attr("groups"),
        )
    )


def _conv2d_transpose(s: Site) -> Expr:
    data, weight = operand_types(s, data_in(s), s[1])
    return data_out(s, deconvolve2d(s, data, weight))


def _conv1d(s: Site) -> Expr:
    if s.attr("data_layout") != "NCW" or s.attr("out_layout") not in ("", "NCW"):
        raise s.fail(f"layout {s.attr('data_layout')!r}", "NCW", "transpose in Relay")
    data, weight = operand_types(s, s[0], kernel_in(s, s[1], s.attr("kernel_layout"), "OIW"))
    o, i, kw = s.shape(weight)
    groups = s.attr("groups")
    if groups > 1 and groups == s.shape(0)[1] == o:
        weight = s.reshape(weight, (o * i, 1, kw))
    return relax.op.nn.conv1d(
        data, weight, per_axis(s, "strides", 1), padding(s, 1), per_axis(s, "dilation", 1), groups
    )


def _conv3d(s: Site) -> Expr:
    if s.attr("data_layout") != "NCDHW" or s.attr("out_layout") not in ("", "NCDHW"):
        raise s.fail(f"layout {s.attr('data_layout')!r}", "NCDHW", "transpose in Relay")
    data, weight = operand_types(s, s[0], kernel_in(s, s[1], s.attr("kernel_layout"), "OIDHW"))
    return relax.op.nn.conv3d(
        data, weight, per_axis(s, "strides", 3), padding(s, 3), per_axis(s, "dilation", 3), s.attr("groups")
    )


def swapped(s: Site, value: Expr) -> Expr:
    """The last two axes exchanged."""
    rank = len(s.shape(value))
    return s.transpose(value, [*range(rank - 2), rank - 1, rank - 2])


def product(s: Site, a: Expr, b: Expr, transpose_a: bool, transpose_b: bool) -> Expr:
    """Matrix product."""
    a, b = swapped(s, a) if transpose_a else a, swapped(s, b) if transpose_b else b
    return s.emit(relax.op.matmul(a, b))


def _matmul(transpose_a: bool | None = None, transpose_b: bool | None = None) -> Any:
    def build(s: Site) -> Expr:
        a, b = operand_types(s, s[0], s[1])
        ta = s.attr("transpose_a") if transpose_a is None else transpose_a
        tb = s.attr("transpose_b") if transpose_b is None else transpose_b
        return product(s, a, b, ta, tb)

    return build


def _bias_add(s: Site) -> Expr:
    axis, n = s.axis(), s.shape(1)[0]
    shape = [n if d == axis else 1 for d in range(len(s.shape(0)))]
    return relax.op.add(s[0], s.reshape(s[1], shape))


def _einsum(s: Site) -> Expr:
    return relax.op.einsum(relax.Tuple(s.tensors()), s.attr("equation"))


ROWS: tuple[Operator, ...] = (
    Operator("nn.conv2d", _conv2d, CONV2D_ATTRS, weights=(1,)),
    Operator("nn.conv2d_transpose", _conv2d_transpose, TRANSPOSE2D_ATTRS, weights=(1,)),
    Operator("nn.conv1d", _conv1d, _CONV1D_ATTRS, weights=(1,)),
    Operator("nn.conv3d", _conv3d, _CONV3D_ATTRS, weights=(1,)),
    Operator("nn.dense", _matmul(False, True), DENSE_ATTRS, weights=(1,)),
    Operator("nn.matmul", _matmul(), {**DENSE_ATTRS, **BATCH_MATMUL_ATTRS}),
    Operator("nn.batch_matmul", _matmul(), BATCH_MATMUL_ATTRS),
    Operator("einsum", _einsum, {"equation": text("")}),
    Operator("nn.bias_add", _bias_add, {"axis": integer(1)}, weights=(1,), data=(0,), axes=("axis",)),
)
