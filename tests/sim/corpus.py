"""Seeds for the fuzzer: small hand-made programs of every kind of layer and weight form."""

from __future__ import annotations

from dataclasses import replace

import layergen
import numpy as np
from sim import handmade

from sd_tvm.accelerator.isa import Program
from sd_tvm.layers import AddLayer, ConvLayer, PoolLayer, RequantLayer
from sd_tvm.numerics.golden import run_layer
from sd_tvm.weights.tensor import WeightForm

_FORMS = [
    None,
    WeightForm("16:16"),
    WeightForm("8:16", "pow2-7", "codebook"),
    WeightForm("4:16", "two-term", "slice", slice_rows=16),
    WeightForm("2:16", "pow2-5"),
    WeightForm("shared", kept_rows=5, group_filters=16),
]
_CONV = ConvLayer("c", 1, 20, (5, 6), 24, (3, 3), (1, 2), (1, 1, 1, 1), in_dtype="int8", in_zero_point=3)


def seeds() -> list[tuple[bytes, list[np.ndarray]]]:
    """Programs that run to the end, and their operands."""
    layers = []
    for form in _FORMS:
        for base in (_CONV, replace(_CONV, kernel=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), out="i32")):
            conv = replace(base, form=form)
            if form is not None:
                n = 5 if form.basis_kind == "codebook" else 24 * form.n_slices(conv.geometry)
                conv = replace(conv, n_bases=n)
            layers.append((conv, handmade.conv))
    depthwise = replace(_CONV, in_channels=20, out_channels=20, groups=20, form=None)
    layers += [
        (depthwise, handmade.conv),
        (AddLayer("a", 1, 20, (3, 4), "uint8", 7, "int8", -3, "int8"), handmade.add),
        (PoolLayer("p", "max", 1, 20, (4, 4), (2, 2), (2, 2)), handmade.pool),
        (PoolLayer("p", "avg", 1, 20, (3, 3), (3, 3)), handmade.pool),
        (RequantLayer("r", 1, 20, (3, 3)), handmade.requant),
    ]
    out = []
    for seed, (layer, lower) in enumerate(layers):
        operands = layergen.operands_of(layer, seed)
        result = np.zeros_like(run_layer(layer, operands))
        builder = lower(layer, operands, result)
        data = Program.from_bytes(builder.program())
        words = {m: min(n, 1024) for m, n in data.required_words.items()}
        out.append((replace(data, required_words=words).to_bytes(), builder.tensors))
    return out


def fuzz_input(program: bytes, operands: list[np.ndarray]) -> bytes:
    """What the fuzzer reads: length of the program, the program, the operands."""
    return len(program).to_bytes(4, "little") + program + b"".join(o.tobytes() for o in operands)
