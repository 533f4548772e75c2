"""FoldPad: a zero pad before a convolution or an average becomes the operator's own padding."""

from __future__ import annotations

from typing import Any

from sd_tvm._tvm import relax, tvm
from sd_tvm.relay_passes._rewrite import Expr, IRModule, Rewriter, is_call, rewrite


def _spatial_pad(value: Expr, rank: int) -> tuple[list[int], list[int]] | None:
    """(before, after) of the spatial axes if ``value`` is a zero pad of only those, else None."""
    if not is_call(value, "relax.nn.pad"):
        return None
    a = value.attrs
    widths = [int(w) for w in a.pad_width]
    if str(a.pad_mode) != "constant" or float(a.pad_value) != 0.0 or len(widths) != 2 * rank:
        return None
    if any(widths[:4]) or min(widths) < 0:
        return None
    return widths[4::2], widths[5::2]


def _padding(old: Any, pad: tuple[list[int], list[int]]) -> list[int]:
    """Padding (before of each axis, then after of each) with a pad added to it."""
    n = len(pad[0])
    own = [int(p) for p in old]
    both = own * (2 * n // len(own)) if len(own) < 2 * n else own
    return [p + q for p, q in zip(both, [*pad[0], *pad[1]], strict=True)]


def _rule(ctx: Rewriter, _: Expr, value: Expr) -> Expr | None:
    if is_call(value, "relax.nn.conv2d", "relax.nn.conv1d"):
        two = is_call(value, "relax.nn.conv2d")
        a = value.attrs
        source = ctx.value_of(value.args[0])
        pad = _spatial_pad(source, 4 if two else 3)
        if pad is None or a.data_layout != ("NCHW" if two else "NCW"):
            return None
        build = relax.op.nn.conv2d if two else relax.op.nn.conv1d
        return build(
            source.args[0],
            value.args[1],
            strides=list(a.strides),
            padding=_padding(a.padding, pad),
            dilation=list(a.dilation),
            groups=int(a.groups),
            data_layout=a.data_layout,
            kernel_layout=a.kernel_layout,
            out_layout=a.out_layout,
            out_dtype=a.out_dtype,
        )
    if is_call(value, "relax.nn.avg_pool2d"):
        a = value.attrs
        source = ctx.value_of(value.args[0])
        pad = _spatial_pad(source, 4)
        counted = bool(a.count_include_pad) or not any(int(p) for p in a.padding)
        if pad is None or a.layout != "NCHW" or a.ceil_mode or not counted:
            return None
        return relax.op.nn.avg_pool2d(
            source.args[0],
            pool_size=list(a.pool_size),
            strides=list(a.strides),
            padding=_padding(a.padding, pad),
            dilation=list(a.dilation),
            ceil_mode=False,
            count_include_pad=True,
            layout=a.layout,
            out_layout=a.out_layout,
        )
    return None


@tvm.transform.module_pass(opt_level=0, name="sd.FoldPad")
class FoldPad:
    """Fold ``nn.pad`` with zeros into convolutions (1-D, 2-D) and average pooling (padding counted).

    Padding is (top, left, bottom, right), so uneven pads ("same" at stride 2) fold too. Usable in any
    ``tvm.transform.Sequential``.
    """

    def transform_module(self, mod: IRModule, _context: Any) -> IRModule:
        """The pass."""
        return rewrite(mod, _rule)
