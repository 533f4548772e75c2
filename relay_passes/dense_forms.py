"""DenseForms: dense layers in the form that the integer layers take.

A dense layer on a flattened image is a convolution whose kernel is the image: nothing is laid out anew. A
dense layer whose result is cut into parts by their index (queries, keys and values) is one layer a part.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm._tvm import relax, tvm
from sd_tvm.calibration.ops import NotEvaluated, evaluate
from sd_tvm.relay_passes._matmul import VIEWS
from sd_tvm.relay_passes._rewrite import (
    NAMES_ATTR,
    Expr,
    IRModule,
    Rewriter,
    const,
    constant,
    is_call,
    rewrite,
    set_attr,
    source_names,
    static_shape,
)
from sd_tvm.relay_passes.legality import MAX_KERNEL

#: Element by element: may run before the pixels of a 1 x 1 image are dropped.
_POINTWISE = ("relax.nn.relu", "relax.clip")


class _Rules:
    """The rules of one module; ``names`` collects what new variables are called."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def __call__(self, ctx: Rewriter, var: Expr, value: Expr) -> Expr | None:
        for rule in (self.image, self.after_image, self.part):
            found = rule(ctx, var, value)
            if found is not None:
                return found
        return None

    def _emit(self, ctx: Rewriter, value: Expr, name: str, suffix: str) -> Expr:
        self.names[f"{name}_{suffix}"] = self.names.get(name, name)
        return ctx.emit(value, f"{name}_{suffix}")

    def image(self, ctx: Rewriter, var: Expr, value: Expr) -> Expr | None:
        """matmul(reshape(image, (N, C*H*W)), w) -> reshape(conv2d(image, w as (M, C, H, W)), (N, M))."""
        if not is_call(value, "relax.matmul") or str(var.ty.dtype) != "float32":
            return None
        weight, flat = constant(value.args[1]), ctx.value_of(value.args[0])
        if weight is None or weight.ndim != 2 or not is_call(flat, "relax.reshape", "relax.flatten"):
            return None
        shape = static_shape(flat.args[0]) or ()
        if len(shape) != 4 or static_shape(value.args[0]) != (shape[0], weight.shape[0]):
            return None
        if shape[2] * shape[3] == 1 or max(shape[2:]) > MAX_KERNEL:
            return None
        kernel = np.ascontiguousarray(weight.T).reshape(-1, *shape[1:])
        conv = relax.op.nn.conv2d(flat.args[0], const(kernel), out_dtype="float32")
        pixel = self._emit(ctx, conv, str(var.name), "image")
        return relax.op.reshape(pixel, (shape[0], weight.shape[1]))

    def after_image(self, ctx: Rewriter, var: Expr, value: Expr) -> Expr | None:
        """Bias and activations move before the reshape that :meth:`image` wrote."""
        if not is_call(value, "relax.add", *_POINTWISE):
            return None
        view = ctx.value_of(value.args[0])
        source = view.args[0] if is_call(view, "relax.reshape") else None
        if source is None or not str(getattr(source, "name", "")).endswith("_image"):
            return None
        shape, new = static_shape(value.args[0]) or (), value
        if ctx.uses(value.args[0]) != 1 or len(shape) != 2:
            return None
        if is_call(value, "relax.add"):
            bias = constant(value.args[1])
            if bias is None or bias.shape not in ((shape[1],), (1, shape[1])):
                return None
            new = relax.op.add(source, const(bias.reshape(1, -1, 1, 1)))
        else:
            new = relax.Call(value.op, [source, *list(value.args)[1:]], value.attrs, value.ty_args)
        return relax.op.reshape(self._emit(ctx, new, str(var.name), "image"), shape)

    def part(self, ctx: Rewriter, var: Expr, value: Expr) -> Expr | None:
        """take(views of (x @ w + b), i) -> reshape(x @ w_i + b_i) for the columns that the index picks."""
        if not is_call(value, "relax.take"):
            return None
        index, views, source = constant(value.args[1]), [], value.args[0]
        if index is None or index.size != 1:
            return None
        while is_call(ctx.value_of(source), *VIEWS):
            views.append(ctx.value_of(source))
            source = views[-1].args[0]
        layer, bias, name = ctx.value_of(source), None, str(getattr(source, "name", ""))
        if is_call(layer, "relax.add"):
            bias, name = constant(layer.args[1]), str(getattr(layer.args[0], "name", ""))
            layer = ctx.value_of(layer.args[0])
        weight = constant(layer.args[1]) if is_call(layer, "relax.matmul") else None
        shape = static_shape(source)
        if weight is None or weight.ndim != 2 or shape is None:
            return None
        if bias is not None and bias.reshape(-1).shape != weight.shape[1:]:
            return None
        columns = _columns(views[::-1], value, index, shape)
        if columns is None:
            return None
        first, last = columns
        part = f"{name}_{first // (last - first)}"
        self.names[part] = self.names.get(name, name)
        out: Expr = ctx.emit(relax.op.matmul(layer.args[0], const(weight[:, first:last].copy())), part)
        if bias is not None:
            out = ctx.emit(relax.op.add(out, const(bias.reshape(-1)[first:last].copy())), f"{part}_bias")
        return relax.op.reshape(out, static_shape(var) or ())


def _columns(
    views: list[Expr], take: Expr, index: npt.NDArray[Any], shape: tuple[int, ...]
) -> tuple[int, int] | None:
    """Columns [first, last) that views and an index leave of all rows, in order; None for anything else."""
    width = shape[-1]
    at: Any = np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape)
    try:
        for view in views:
            at = evaluate(view, [at, *list(view.args)[1:]])
        at = evaluate(take, [at, index])
    except NotEvaluated:
        return None
    rows = at.reshape(-1) // width
    if at.size % (rows.max() + 1):
        return None
    cut = at.reshape(rows.max() + 1, -1)
    first, n = int(cut[0, 0]), cut.shape[1]
    whole = np.arange(cut.shape[0])[:, None] * width + np.arange(first, first + n)[None]
    return (first, first + n) if first + n <= width and np.array_equal(cut, whole) else None


@tvm.transform.module_pass(opt_level=0, name="sd.DenseForms")
class DenseForms:
    """Dense layers on flattened images become convolutions; joint projections become one layer a part.

    Usable in any ``tvm.transform.Sequential``, after Canonicalize.
    """

    def transform_module(self, mod: IRModule, _context: Any) -> IRModule:
        """The pass."""
        names = dict(source_names(mod))
        mod = rewrite(mod, _Rules(names))
        return set_attr(mod, NAMES_ATTR, names) if names != source_names(mod) else mod
