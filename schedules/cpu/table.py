"""The kernels, as one table: what each row computes, for which weights, on which instruction set.

Choice, report, tests (``tests/schedules/cpu``) and benchmark (``benchmarks/cpu``) all go through
:data:`KERNELS`; a new kernel is a row here and the function that builds it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sd_tvm.layers import ConvLayer
from sd_tvm.schedules.cpu import cost
from sd_tvm.schedules.cpu.dense import build_dense, pack_dense
from sd_tvm.schedules.cpu.dense8 import build_dense8, pack_dense8
from sd_tvm.schedules.cpu.depthwise import build_depthwise, pack_depthwise
from sd_tvm.schedules.cpu.epilogue import Epilogue, Residual
from sd_tvm.schedules.cpu.gemm import build_gemm
from sd_tvm.schedules.cpu.gemm import pack_bases as pack_filter_bases
from sd_tvm.schedules.cpu.gemv import Units, build_gemv, pack_bases, pack_codes
from sd_tvm.schedules.cpu.isa import AVX2, AVX512_VNNI, NEON_DOT, Isa
from sd_tvm.schedules.cpu.operand import Operand
from sd_tvm.schedules.cpu.scaling import ANY, Scaling
from sd_tvm.schedules.cpu.shiftadd import ShiftUnits, build_shift_add, shifts
from sd_tvm.schedules.cpu.sparse import BYTES, build_sparse, pack_sparse
from sd_tvm.schedules.cpu.taps import TapUnits, build_taps, pack_taps, pack_transforms
from sd_tvm.schedules.cpu.weights import weight_of
from sd_tvm.weights.rows import ROWS_PER_BLOCK
from sd_tvm.weights.tensor import SDWeight

Array = npt.NDArray[Any]
Operation = Literal["gemv", "shiftadd", "gemm", "depthwise", "taps", "sparse", "conv8", "conv"]
_INT32_MAX, _INT16_MAX, _INT8_BASIS = 2**31 - 1, 2**15 - 1, 128
#: Pattern of a row for a weight that is not in SD form.
RAW = "int8"
_N16 = ("2:16", "4:16", "8:16", "16:16")


@dataclass(frozen=True)
class Kernel:
    """One row.

    Attributes
    ----------
    operation
        ``gemv``: a dense layer at one pixel, from the codes; ``shiftadd``: the same by shifts.
        ``taps``: a kernel of several columns, from the codes. ``conv``: any groups and kernel size, rebuilt
        int16 weights; ``conv8``: the same with int8 weights. ``sparse``: only the kept rows of N:16,
        rebuilt. ``depthwise``: one input channel a filter, rebuilt int16 weights.
    patterns
        Patterns of the weight, ``int8`` for a raw one.
    max_code
        Largest magnitude of a code for which sums are proved exact.
    basis_kinds
        Kinds of basis; empty where weights are rebuilt and any will do.
    block
        Filters x rows that one step of the inner loop takes.
    tile
        Pixels whose sums stay in registers (``taps``: columns, of rows of three elements).
    isa
        Instruction set.
    """

    operation: Operation
    patterns: tuple[str, ...]
    max_code: int
    basis_kinds: tuple[str, ...]
    block: tuple[int, int]
    tile: int
    isa: Isa

    @property
    def name(self) -> str:
        """Operation, patterns, tile and instruction set in one word."""
        kind = "-".join(p.replace(":", "of") for p in self.patterns) if len(self.patterns) == 1 else "any"
        return f"{self.operation}_{kind}_{self.block[0]}x{self.block[1]}_p{self.tile}_{self.isa.name}"

    def refuses(self, layer: ConvLayer) -> str:
        """Why this row cannot compute a layer; empty if it can."""
        form = layer.form
        pattern = RAW if form is None else form.pattern
        if layer.packed_input:
            return "its input is packed for the accelerator"
        if pattern not in self.patterns:
            return f"no kernel for pattern {pattern}"
        if form is not None and form.table.max_code > self.max_code:
            return f"codes of alphabet {form.alphabet} exceed {self.max_code}"
        if form is not None and self.basis_kinds and form.basis_kind not in self.basis_kinds:
            return f"no kernel for basis kind {form.basis_kind}"
        return _OPERATIONS[self.operation].refuses(self, layer)

    def build(
        self, layer: ConvLayer, symbol: str, residual: Residual | None = None, scaling: Scaling = ANY
    ) -> Any:
        """PrimFunc: x, the arrays of :meth:`pack` for the same scaling, result.

        With a residual, before the result: the other tensor, blocked as the result is, and the words of the
        addition (:meth:`~sd_tvm.schedules.cpu.linear_sum.LinearSum.words`).
        """
        return _OPERATIONS[self.operation].build(self, layer, symbol, Epilogue(layer, residual, scaling))

    def pack(self, layer: ConvLayer, operands: Sequence[Array], scaling: Scaling = ANY) -> list[Array]:
        """The layer's constants as this kernel reads them.

        Parameters
        ----------
        layer
            A layer that :meth:`refuses` says nothing about.
        operands
            Its operands after x, as :class:`~sd_tvm.layers.ConvLayer` lists them.
        scaling
            What results are requantised with.
        """
        *weight, words = operands
        packed, offset = _OPERATIONS[self.operation].pack(self, layer, weight)
        return [*packed, scaling.block(words, layer.out_dtype, offset)]


#: Arrays of a weight from its operands, and what is added to the biases.
_Pack = Callable[[Kernel, ConvLayer, Sequence[Array]], tuple[list[Array], Array | None]]


@dataclass(frozen=True)
class _Operation:
    refuses: Callable[[Kernel, ConvLayer], str]
    build: Callable[[Kernel, ConvLayer, str, Epilogue], Any]
    pack: _Pack
    cost: Callable[[ConvLayer, Isa], float] = cost.none


def _one_pixel(_: Kernel, layer: ConvLayer) -> str:
    form = layer.form
    assert form is not None
    if layer.batch != 1 or layer.in_hw != (1, 1) or layer.kernel != (1, 1) or any(layer.padding):
        return "more than one pixel"
    if layer.groups != 1:
        return "grouped"
    if form.pattern == "2:16" and form.basis_kind == "slice" and form.slice_rows % (2 * ROWS_PER_BLOCK):
        return "slices of an odd number of blocks"
    return _sums_of_codes(layer)


def _sums_of_codes(layer: ConvLayer) -> str:
    assert layer.form is not None
    if layer.geometry.rows * layer.form.table.max_code * 255 > _INT32_MAX:
        return "too many rows for int32 sums of codes"
    return ""


def _columns(_: Kernel, layer: ConvLayer) -> str:
    form = layer.form
    assert form is not None
    if layer.groups != 1:
        return "grouped"
    if layer.geometry.kind != "taps":
        return "a kernel of one column"
    if form.n_slices(layer.geometry) > 1:
        return "several bases a filter"
    return _sums_of_codes(layer)


def _pixels(_: Kernel, layer: ConvLayer) -> str:
    form = layer.form
    assert form is not None
    if layer.groups != 1:
        return "grouped"
    if layer.kernel != (1, 1) or any(layer.padding):
        return "a kernel or padding"
    if form.n_slices(layer.geometry) > 1:
        return "several bases a filter"
    return _sums_of_codes(layer)


def _fits_int16(layer: ConvLayer) -> str:
    if layer.form is None:
        return ""
    worst = layer.geometry.s * layer.form.table.max_code * _INT8_BASIS
    return f"rebuilt weights may reach {worst}" if worst > _INT16_MAX else ""


def _whole16(kernel: Kernel, layer: ConvLayer) -> str:
    return _whole8(kernel, layer) or _fits_int16(layer)


def _whole8(_: Kernel, layer: ConvLayer) -> str:
    return "depthwise" if 1 < layer.groups == layer.in_channels == layer.out_channels else ""


def _kept_rows(_: Kernel, layer: ConvLayer) -> str:
    if layer.groups != 1:
        return "grouped"
    if layer.geometry.kind == "channels" and (layer.kernel != (1, 1) or any(layer.padding)):
        return "rows of channels with a kernel or padding"
    return _fits_int16(layer)


def _channel_each(_: Kernel, layer: ConvLayer) -> str:
    if not 1 < layer.groups == layer.in_channels == layer.out_channels:
        return "not depthwise"
    return _fits_int16(layer)


def _pack_gemv(kernel: Kernel, layer: ConvLayer, operands: Sequence[Array]) -> tuple[list[Array], Array]:
    weight = weight_of(layer, operands)
    assert isinstance(weight, SDWeight)
    units, table = Units(layer, kernel.isa), operands[2]
    if kernel.operation == "shiftadd":
        units, table = ShiftUnits(layer, kernel.isa), shifts(units.form.table).view(np.int8).reshape(-1)
    return [
        pack_codes(units, operands[0]),
        pack_bases(units, weight),
        table,
    ], Operand(layer, kernel.isa.operand).bias(weight)


def _pack_taps(kernel: Kernel, layer: ConvLayer, operands: Sequence[Array]) -> tuple[list[Array], Array]:
    weight = weight_of(layer, operands)
    assert isinstance(weight, SDWeight)
    return [
        pack_taps(TapUnits(layer, kernel.isa), weight),
        pack_transforms(Operand(layer, kernel.isa.operand), weight),
    ], Operand(layer, kernel.isa.operand).bias(weight)


def _pack_gemm(kernel: Kernel, layer: ConvLayer, operands: Sequence[Array]) -> tuple[list[Array], Array]:
    weight = weight_of(layer, operands)
    assert isinstance(weight, SDWeight)
    return [
        pack_taps(TapUnits(layer, kernel.isa), weight),
        pack_filter_bases(weight),
    ], Operand(layer, kernel.isa.operand).bias(weight)


def _pack_sparse(kernel: Kernel, layer: ConvLayer, operands: Sequence[Array]) -> tuple[list[Array], Array]:
    weight = weight_of(layer, operands)
    assert isinstance(weight, SDWeight)
    return [pack_sparse(layer, weight, kernel.isa)], Operand(layer, BYTES).bias(weight)


def _pack_dense8(kernel: Kernel, layer: ConvLayer, operands: Sequence[Array]) -> tuple[list[Array], Array]:
    weight = weight_of(layer, operands)
    return [pack_dense8(layer, weight.integer())], Operand(layer, kernel.isa.operand).bias(weight)


def _rebuilt(pack: Callable[[ConvLayer, npt.NDArray[np.int32]], Array]) -> _Pack:
    def packed(_: Kernel, layer: ConvLayer, operands: Sequence[Array]) -> tuple[list[Array], None]:
        return [pack(layer, weight_of(layer, operands).integer())], None

    return packed


_OPERATIONS: dict[Operation, _Operation] = {
    "gemv": _Operation(
        _one_pixel, lambda k, layer, name, end: build_gemv(layer, k.isa, name, end), _pack_gemv
    ),
    "shiftadd": _Operation(
        _one_pixel,
        lambda k, layer, name, end: build_shift_add(layer, k.isa, name, end),
        _pack_gemv,
        cost.never,
    ),
    "gemm": _Operation(
        _pixels,
        lambda k, layer, name, end: build_gemm(layer, k.isa, k.tile, name, end),
        _pack_gemm,
        cost.pixels,
    ),
    "depthwise": _Operation(
        _channel_each,
        lambda k, layer, name, end: build_depthwise(layer, k.isa, k.tile, name, end),
        _rebuilt(lambda _, weight: pack_depthwise(weight)),
    ),
    "taps": _Operation(
        _columns,
        lambda k, layer, name, end: build_taps(layer, k.isa, k.tile, name, end),
        _pack_taps,
        cost.columns,
    ),
    "sparse": _Operation(
        _kept_rows,
        lambda k, layer, name, end: build_sparse(layer, k.isa, k.tile, name, end),
        _pack_sparse,
        cost.kept,
    ),
    "conv8": _Operation(
        _whole8, lambda k, layer, name, end: build_dense8(layer, k.isa, k.tile, name, end), _pack_dense8
    ),
    "conv": _Operation(
        _whole16,
        lambda k, layer, name, end: build_dense(layer, k.isa, k.tile, name, end),
        _rebuilt(pack_dense),
        cost.rebuilt,
    ),
}

_BASES = ("filter", "slice", "codebook")
_KEPT = ("2:16", "4:16", "8:16")
_ANY = (RAW, *_N16, "shared")

#: Rows; of those that can compute a layer on the best instruction set the cheapest is taken, of equals the
#: first. Codes up to 64: all alphabets there are.
KERNELS: tuple[Kernel, ...] = (
    *(Kernel("gemv", (p,), 64, _BASES, (16, 4), 1, AVX512_VNNI) for p in _N16),
    *(Kernel("gemv", (p,), 64, _BASES, (8, 4), 1, AVX2) for p in _N16),
    Kernel("shiftadd", _N16, 64, _BASES, (16, 4), 1, AVX512_VNNI),
    Kernel("shiftadd", _N16, 64, _BASES, (8, 4), 1, AVX2),
    Kernel("gemm", _KEPT, 64, _BASES, (16, 4), 3, AVX512_VNNI),
    Kernel("depthwise", _ANY, 64, (), (16, 1), 14, AVX512_VNNI),
    Kernel("depthwise", _ANY, 64, (), (16, 1), 7, AVX2),
    Kernel("taps", _N16, 64, _BASES, (16, 4), 9, AVX512_VNNI),
    Kernel("taps", _N16, 16, _BASES, (8, 4), 3, AVX2),
    Kernel("sparse", _KEPT, 64, (), (16, 2), 14, AVX512_VNNI),
    Kernel("sparse", _KEPT, 64, (), (16, 2), 8, AVX2),
    Kernel("conv8", (RAW,), 0, (), (16, 4), 28, AVX512_VNNI),
    Kernel("conv", _ANY, 64, (), (16, 2), 14, AVX512_VNNI),
    Kernel("conv", _ANY, 64, (), (16, 2), 6, AVX2),
    *(Kernel("gemv", (p,), 64, _BASES, (4, 4), 1, NEON_DOT) for p in _N16),
    Kernel("gemm", _KEPT, 64, _BASES, (4, 4), 2, NEON_DOT),
    Kernel("depthwise", _ANY, 64, (), (16, 1), 4, NEON_DOT),
    Kernel("taps", _N16, 64, _BASES, (4, 4), 7, NEON_DOT),
    Kernel("sparse", _KEPT, 64, (), (16, 2), 12, NEON_DOT),
    Kernel("conv8", (RAW,), 0, (), (16, 4), 6, NEON_DOT),
    Kernel("conv", _ANY, 64, (), (16, 2), 5, NEON_DOT),
)


def choose(layer: ConvLayer, isas: Sequence[Isa]) -> tuple[Kernel | None, str]:
    """Cheapest row that computes a layer, and why there is none.

    Parameters
    ----------
    layer
        The layer.
    isas
        Instruction sets, best first: one that has any row for the layer is not passed over.

    Returns
    -------
    tuple
        (row, "") or (None, reason).
    """
    if not isas:
        known = sorted({f"{k.isa.name} ({', '.join(k.isa.features)})" for k in KERNELS})
        return None, f"the target has none of {', '.join(known)}"
    reasons = []
    for isa in isas:
        able = ranked(layer, isa)
        if able:
            return able[0], ""
        reasons += [f"{k.operation}: {k.refuses(layer)}" for k in KERNELS if k.isa == isa]
    return None, ", ".join(dict.fromkeys(reasons))


def ranked(layer: ConvLayer, isa: Isa) -> list[Kernel]:
    """Rows of an instruction set that can compute a layer, the cheapest first."""
    able = [k for k in KERNELS if k.isa == isa and not k.refuses(layer)]
    return sorted(able, key=lambda k: _OPERATIONS[k.operation].cost(layer, isa))
