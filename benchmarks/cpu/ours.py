"""Our side of a row: a layer as a Relax module, from float32 to float32, or 8 bit to 8 bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from sd_tvm._tvm import relax
from sd_tvm.bench.module import Built, build_module
from sd_tvm.errors import OptionError
from sd_tvm.layers import ConvLayer, blocks16
from sd_tvm.numerics.bounds import folded_bias
from sd_tvm.numerics.fixedpoint import quantize_multiplier
from sd_tvm.numerics.qp import pack_qp
from sd_tvm.relay_passes._rewrite import const
from sd_tvm.schedules.cpu.isa import Isa
from sd_tvm.schedules.cpu.table import KERNELS, RAW, Kernel
from sd_tvm.schedules.cpu.tuning import KernelTuning
from sd_tvm.schedules.ops import build_dequantize_acc, build_primfunc, build_quantize
from sd_tvm.weights.packing import pack_raw, pack_sd
from sd_tvm.weights.tensor import ROWS_KEPT, RawWeight, SDWeight, WeightForm


def with_form(layer: ConvLayer, pattern: str) -> ConvLayer:
    """The layer in SD form, a basis a filter; ``int8`` leaves it raw."""
    if pattern == RAW:
        return layer
    return replace(layer, form=WeightForm(pattern), n_bases=layer.out_channels)  # type: ignore[arg-type]


#: Filters that are drawn; a layer with more repeats them.
_DRAWN = 64


def operands(layer: ConvLayer, rng: np.random.Generator) -> tuple[list[Any], np.ndarray[Any, Any]]:
    """Random constants of a layer, and scales (M,) of its sums."""
    m = layer.out_channels
    if m <= _DRAWN or m % 8:
        return _drawn(layer, rng)
    few, scales = _drawn(replace(layer, out_channels=_DRAWN, n_bases=_DRAWN if layer.form else 0), rng)
    whole = blocks16(m) * 16
    lengths = {_DRAWN: m if layer.form else whole, _DRAWN // 8: m // 8, _DRAWN // 16: whole // 16}
    out = [a if a.ndim == 1 else np.resize(a, (lengths[a.shape[0]], *a.shape[1:])) for a in few[:-1]]
    words = np.zeros((whole, 4), dtype=np.int32)
    words[:m] = np.resize(few[-1], (m, 4))
    return [*out, words], np.resize(scales, m)


def _drawn(layer: ConvLayer, rng: np.random.Generator) -> tuple[list[Any], np.ndarray[Any, Any]]:
    m = layer.out_channels
    ones = np.ones(m, dtype=np.float32)
    if layer.form is None:
        values = rng.integers(-127, 128, layer.weight_shape).astype(np.int8)
        packed, weight = [pack_raw(RawWeight(values, ones))], values.astype(np.int32)
    else:
        geometry, form = layer.geometry, layer.form
        coef = rng.choice(form.table.table, size=(m, geometry.rows, geometry.s)).astype(np.int8)
        keep = ROWS_KEPT[form.pattern]
        for first in range(0, geometry.rows, 16):
            width = min(16, geometry.rows - first)
            rank = rng.random((m, width)).argsort(axis=1).argsort(axis=1)
            coef[:, first : first + width][rank >= keep] = 0
        basis = rng.integers(-100, 101, (m, geometry.s, geometry.s)).astype(np.int8)
        sd = SDWeight(layer.weight_shape, form, coef, basis, ones)
        packed, weight = list(pack_sd(sd).values()), sd.integer()
    bias = folded_bias(np.zeros(m, np.int64), weight, layer.in_zero_point)
    spread = 100.0 * np.sqrt((weight.reshape(m, -1).astype(np.float64) ** 2).sum(axis=1)) + 1
    scaled = [quantize_multiplier(float(v)) for v in 40.0 / spread]
    m0, shift = (np.array(v, dtype=np.int64) for v in zip(*scaled, strict=True))
    return [*packed, pack_qp(bias, m0, shift, 128, 0, 255)], (1.0 / spread).astype(np.float32)


def layer_module(layer: ConvLayer, rng: np.random.Generator) -> tuple[Any, Any]:
    """(module, example input). int32 results: float32 in and out; else 8 bit in and out."""
    constants, scales = operands(layer, rng)
    builder = relax.BlockBuilder()
    cbs, mbs = blocks16(layer.in_channels), blocks16(layer.out_channels)
    flat = (layer.batch, layer.in_channels)
    blocked = (layer.batch, cbs, *layer.in_hw, 16)
    wide = layer.out == "i32"
    dtype = "int32" if wide else layer.out_dtype
    shape, kind = (flat, "float32") if wide else (blocked, layer.in_dtype)
    x = relax.Var("x", relax.TensorType(shape, kind))
    with builder.function("main", [x]):
        with builder.dataflow():
            value = x
            if wide:
                gvar = builder.add_func(_bare(build_quantize(flat, 0.02, 128, "uint8", "q")), "quantize")
                value = builder.emit(relax.call_tir(gvar, [x], out_ty=relax.TensorType(blocked, "uint8")))
            gvar = builder.add_func(_bare(build_primfunc(layer, "layer")), "layer")
            out = relax.TensorType((layer.batch, mbs, *layer.out_hw, 16), dtype)
            value = builder.emit(relax.call_tir(gvar, [value, *map(const, constants)], out_ty=out))
            if wide:
                m = layer.out_channels
                gvar = builder.add_func(_bare(build_dequantize_acc((layer.batch, m), "dq")), "dequantize")
                rest = [const(np.array([0.02], np.float32)), const(scales), const(np.zeros(m, np.float32))]
                out = relax.TensorType((layer.batch, m), "float32")
                value = builder.emit(relax.call_tir(gvar, [value, *rest], out_ty=out))
            result = builder.emit_output(value)
        builder.emit_func_output(result)
    example = (
        rng.normal(size=shape).astype(np.float32) if wide else rng.integers(0, 256, shape).astype(np.uint8)
    )
    return builder.get(), example


def _bare(func: Any) -> Any:
    return func.without_attr("global_symbol")


class Operation(KernelTuning):
    """The row of the table that computes a layer by a certain operation.

    Parameters
    ----------
    operation
        As the table names it.
    """

    def __init__(self, operation: str) -> None:
        super().__init__()
        self.operation = operation

    def kernel(self, layer: ConvLayer, isas: Any, target: Any, operands: Any) -> Kernel:
        """The first row of the operation that can.

        Raises
        ------
        OptionError
            If none can: the contestant would be another kernel than its name says.
        """
        del target, operands
        for kernel in KERNELS:
            if kernel.operation == self.operation and kernel.isa in isas and not kernel.refuses(layer):
                return kernel
        raise OptionError(f"no row of {self.operation} computes {layer.name}", expected="one that does")


SHIFTS = Operation("shiftadd")


def build_layer(
    layer: ConvLayer, isa: Isa, rng: np.random.Generator, tuning: KernelTuning | None = None
) -> Built:
    """A layer with random weights, compiled for an instruction set."""
    mod, example = layer_module(layer, rng)
    return build_module(mod, (example,), isa.target, tuning)
