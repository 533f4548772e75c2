"""Random layers for a row of the kernel table, and their results on this processor or an emulated one."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import layergen
import neonrun
import numpy as np

from sd_tvm._tvm import tvm
from sd_tvm.layers import ConvLayer, blocks16
from sd_tvm.numerics.qp import pack_qp
from sd_tvm.schedules.cpu.epilogue import Residual, stored
from sd_tvm.schedules.cpu.isa import NEON_DOT
from sd_tvm.schedules.cpu.scaling import ANY, BELOW_HALF, Scaling, scaling_of
from sd_tvm.schedules.cpu.table import RAW, Kernel
from sd_tvm.weights.alphabet import ALPHABETS
from sd_tvm.weights.rows import RowGeometry
from sd_tvm.weights.tensor import WeightForm

#: Sums of a layer's products, and its bias with the zero point's, must stay in int32.
_BUDGET = 2**31 - 2**24


def random_layer(rng: np.random.Generator, kernel: Kernel) -> ConvLayer:
    """A layer that the row accepts."""
    while True:
        layer = _draw(rng, kernel)
        worst = 127 if layer.form is None else layer.geometry.s * layer.form.table.max_code * 128
        weights = int(np.prod(layer.weight_shape[1:]))
        largest = (255 if layer.in_dtype == "uint8" else 128) + abs(layer.in_zero_point)
        if largest * worst * weights < _BUDGET and min(layer.out_hw) > 0 and not kernel.refuses(layer):
            return layer


def _draw(rng: np.random.Generator, kernel: Kernel) -> ConvLayer:
    pick = rng.integers
    dtypes = [str(rng.choice(["uint8", "int8"])) for _ in range(2)]
    zero = int(pick(*layergen.RANGE[dtypes[0]]))
    shape: dict[str, Any] = {"batch": 1, "in_hw": (1, 1), "kernel": (1, 1)}
    cin, cout, groups = int(pick(1, 60)), int(pick(1, 60)), 1
    if kernel.operation in ("gemv", "shiftadd"):
        cin = int(pick(1, 700))
    else:
        shape = {
            "batch": int(pick(1, 4)),
            "in_hw": (int(pick(1, 12)), int(pick(1, 22))),
            "kernel": (int(pick(1, 6)), int(pick(1, 6))),
            "stride": (int(pick(1, 3)), int(pick(1, 3))),
            "dilation": (int(pick(1, 3)), int(pick(1, 3))),
            "padding": tuple(int(p) for p in pick(0, 4, 4)),
        }
        pointwise = {"conv": 0.4, "conv8": 0.4, "sparse": 0.4, "gemm": 1.0}.get(kernel.operation, 0.0)
        if rng.random() < pointwise:  # 1x1, and dense layers of a batch
            shape |= {"kernel": (1, 1), "padding": (0, 0, 0, 0)}
            if rng.random() < 0.3:
                shape |= {"in_hw": (1, 1), "batch": int(pick(1, 40))}
    if kernel.operation == "taps":  # kernels in use, then any; strides that leave columns out
        known = [(3, 3), (5, 5), (1, 3), (7, 7), (int(pick(1, 8)), int(pick(2, 9)))]
        shape |= {
            "kernel": known[pick(len(known))],
            "stride": (int(pick(1, 5)), int(rng.choice([1, 1, 2, 4]))),
        }
    if kernel.operation == "depthwise":
        cin = cout = groups = max(2, cin)
    elif kernel.operation in ("conv", "conv8") and rng.random() < 0.4:  # of any width, of one or two channels
        groups = int(pick(2, 7))
        cin, cout = (groups * int(rng.choice([1, 2, 16, int(pick(1, 40))])) for _ in range(2))
    weight = (cout, cin // groups, *shape["kernel"])
    form, bases = _form(rng, kernel, RowGeometry(weight))
    return ConvLayer(
        "case", in_channels=cin, out_channels=cout, groups=groups, form=form, n_bases=bases,
        in_dtype=dtypes[0], in_zero_point=zero, out_dtype=dtypes[1],
        out="i32" if rng.random() < 0.2 else "q8", **shape,
    )  # fmt: skip


def _form(rng: np.random.Generator, kernel: Kernel, geometry: RowGeometry) -> tuple[WeightForm | None, int]:
    pattern = str(rng.choice(kernel.patterns))
    if pattern == RAW:
        return None, 0
    kinds = kernel.basis_kinds or ("filter", "slice", "codebook")
    kind = str(rng.choice(kinds))
    fits = sorted(n for n, a in ALPHABETS.items() if a.max_code <= kernel.max_code)
    rest: dict[str, int] = {"slice_rows": 16 * int(rng.integers(1, 4))} if kind == "slice" else {}
    if pattern == "shared":
        rest |= {"kept_rows": int(rng.integers(1, geometry.rows + 1)), "group_filters": 32}
    form = WeightForm(pattern, str(rng.choice(fits)), kind, **rest)  # type: ignore[arg-type]
    m = geometry.shape[0]
    return form, int(rng.integers(1, 9)) if kind == "codebook" else m * form.n_slices(geometry)


def with_relu(layer: ConvLayer, operands: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """The operands with multipliers, and clips at the zero point, that one float32 multiply-add can do."""
    lo, hi = layergen.RANGE[layer.out_dtype]
    bias = operands[-1][: layer.out_channels, 0].astype(np.int64)
    zero = int(rng.choice([lo, rng.integers(lo, hi)]))
    for factor in np.exp2(np.arange(-12, 0)):  # the more sums a level, the less likely
        m0, shift = layergen.multipliers(factor * rng.uniform(1.0, 2.0, layer.out_channels))
        words = pack_qp(bias, m0, shift, zero, zero, hi - 1)
        if scaling_of(layer, words, operands[1:-1]) not in (ANY, BELOW_HALF):
            return [*operands[:-1], words]
    raise ValueError(f"there is none for {layer}")


def compiled(
    kernel: Kernel, layer: ConvLayer, residual: Residual | None = None, scaling: Scaling = ANY
) -> Any:
    """The kernel for a layer as a library, built for the least processor that has its instruction set."""
    func = kernel.build(layer, "f", residual, scaling).with_attr("global_symbol", "f")
    return tvm.compile(tvm.IRModule({"f": func}), target=tvm.target.Target(kernel.isa.target))


def run(
    kernel: Kernel,
    layer: ConvLayer,
    operands: list[np.ndarray],
    residual: Residual | None = None,
    added: Sequence[np.ndarray] = (),
    scaling: Scaling | None = None,
) -> np.ndarray:
    """Result of the kernel, (N, M, OH, OW); of one for AArch64 on any machine from the emulator.

    ``added``: the operands of a residual. ``scaling``: None for the one that the layer would get.
    """
    scaling = scaling or scaling_of(layer, operands[-1], operands[1:-1])
    shape = (layer.batch, blocks16(layer.out_channels), *layer.out_hw, 16)
    out = np.full(shape, 85, dtype=stored(layer) if residual is None else residual.layer.out_dtype)
    packed = kernel.pack(layer, operands[1:], scaling)
    arrays = [np.ascontiguousarray(a) for a in (operands[0], *packed, *added, out)]
    library = compiled(kernel, layer, residual, scaling)
    if kernel.isa is NEON_DOT:
        return layergen.valid_lanes(layer, neonrun.Machine(object_file(library)).call("f", arrays)[-1])
    tensors = [tvm.runtime.tensor(a) for a in arrays]
    library["f"](*tensors)
    return layergen.valid_lanes(layer, tensors[-1].numpy())


def object_file(library: Any) -> bytes:
    """What a compiled library holds, ELF."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "code.o")
        library.mod.write_to_file(str(path), "o")
        return path.read_bytes()
