"""SplitChannels: convolutions whose weights do not fit run in parts of their input channels.

The parts are the groups of one convolution with int32 results (the filters of part j are those of the layer,
on the channels of part j alone); a layer of their own adds the sums and requantises. The integers are those
of the whole layer: sums of int32 do not depend on their order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm._tvm import ir, relax, tvm
from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.errors import ScheduleError
from sd_tvm.layers import LANES, ConvLayer, Layer, SumLayer, layer_from_json
from sd_tvm.relay_passes._rewrite import Expr, IRModule, Rewriter, const, constant, is_call, rewrite
from sd_tvm.relay_passes.lower_cpu import integer_layers
from sd_tvm.relay_passes.report import node_reports, with_reports
from sd_tvm.schedules.accel.conv_tiles import choose_conv_tile
from sd_tvm.schedules.ops import LAYER_ATTR, build_primfunc
from sd_tvm.weights.rows import ROWS_PER_BLOCK

Arrays = list[npt.NDArray[Any]]


def _fits(layer: ConvLayer, config: AcceleratorConfig) -> bool:
    try:
        choose_conv_tile(layer, config)
    except ScheduleError:
        return False
    return True


def _candidates(layer: ConvLayer) -> Iterator[tuple[int, ConvLayer]]:
    """(parts, layer of the parts) for all ways to cut the input channels, few parts first."""
    m, c, _, _ = layer.weight_shape
    if layer.groups != 1 or layer.out != "q8" or layer.packed_input or m % LANES or c % LANES:
        return
    for parts in range(2, c // LANES + 1):
        if c % (parts * LANES):
            continue
        part = replace(layer, out_channels=parts * m, groups=parts, out="i32", name=f"{layer.name}_parts")
        form, whole, cut = layer.form, layer.geometry, part.geometry
        if form is not None:
            if form.pattern == "shared" or cut.rows % ROWS_PER_BLOCK or cut.rows * parts != whole.rows:
                continue
            if form.slots(cut) * parts != form.slots(whole):
                continue
            if form.basis_kind == "slice" and form.n_slices(cut) * parts != form.n_slices(whole):
                continue
            part = replace(part, n_bases=layer.n_bases * (parts if form.basis_kind != "codebook" else 1))
        yield parts, part


def _operands(layer: ConvLayer, parts: int, operands: Arrays) -> Arrays:
    """Constants of the parts from those of the layer: weights, then quantisation words."""
    *weights, qp = operands
    first = np.zeros_like(qp)
    first[:, 0] = qp[:, 0]
    words = np.concatenate([first, *[np.zeros_like(qp)] * (parts - 1)])

    def cut(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Parts of axis 1, one after the other along axis 0."""
        return np.concatenate(np.split(array, parts, axis=1))

    if layer.form is None:
        return [cut(weights[0]), words]
    codes, basis, table, *rest = weights
    slices = layer.form.n_slices(layer.geometry)
    if layer.form.basis_kind == "codebook":
        rest = [np.tile(rest[0], parts)]
    elif slices == 1:
        basis = np.tile(basis, (parts, 1))
    else:
        by_filter = basis.reshape(layer.out_channels, slices, -1)
        basis = cut(by_filter).reshape(-1, basis.shape[1])
    return [cut(codes), basis, table, *rest, words]


@tvm.transform.module_pass(opt_level=0, name="sd.SplitChannels")
class SplitChannels:
    """Cut layers that a configuration cannot hold; usable in any ``tvm.transform.Sequential`` before Offload.

    Parameters
    ----------
    config
        The configuration.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config

    def transform_module(self, mod: IRModule, _context: Any) -> IRModule:
        """The pass."""
        split: dict[str, tuple[int, ConvLayer, ConvLayer]] = {}
        for gvar, func in integer_layers(mod):
            layer: Layer = layer_from_json(str(func.attrs[LAYER_ATTR]))
            if isinstance(layer, ConvLayer) and not _fits(layer, self.config):
                found = next(((n, p) for n, p in _candidates(layer) if _fits(p, self.config)), None)
                if found is not None:
                    split[str(gvar.name_hint)] = (found[0], layer, found[1])
        if not split:
            return mod
        done: dict[str, Any] = {}

        def rule(ctx: Rewriter, _: Expr, value: Expr) -> Expr | None:
            name = _callee(value)
            if name not in split:
                return None
            parts, layer, part = split[name]
            x, *rest = value.args[1].fields
            arrays = [constant(a) for a in rest]
            if any(a is None for a in arrays):
                return None
            known: Arrays = [a for a in arrays if a is not None]
            operands = [x, *(const(np.ascontiguousarray(a)) for a in _operands(layer, parts, known))]
            gvar = ctx.add_func(build_primfunc(part, f"{name}_parts"), f"{name}_parts")
            shape = [int(d) for d in value.ty_args[0].shape]
            shape[1] *= parts
            sums = relax.call_tir(gvar, operands, out_ty=relax.TensorType(shape, "int32"))
            done[name] = SumLayer(
                layer.name, layer.batch, layer.out_channels, layer.out_hw, parts, layer.out_dtype
            )
            args = [ctx.emit(sums, f"{name}_parts"), rest[-1]]
            return relax.call_tir(value.args[0], args, out_ty=value.ty_args[0])

        new = rewrite(mod, rule)
        for name, total in done.items():
            new.update_func(new.get_global_var(name), build_primfunc(total, name))
        rows = []
        for row in node_reports(new):
            if row.layer in done and not row.reason.startswith("fused"):
                note = (
                    f"input channels in {done[row.layer].parts} parts: the weights of 16 filters do not fit"
                )
                row = replace(row, reason="; ".join(r for r in (row.reason, note) if r))
            rows.append(row)
        return with_reports(new, rows)


def _callee(value: Expr) -> str:
    if not is_call(value, "relax.call_tir") or not isinstance(value.args[0], ir.GlobalVar):
        return ""
    return str(value.args[0].name_hint)
