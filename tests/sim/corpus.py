"""Seeds for the fuzzer: small hand-made programs of every kind of layer and weight form."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import layergen
import numpy as np
import tvm_ffi
from sim import handmade
from sim.kit import CONFIG
from timing.asm import UNIT

from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.isa import Program
from sd_tvm.accelerator.simulator import create_module
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
    stem = replace(_CONV, in_channels=3, form=None)
    depthwise = replace(_CONV, in_channels=20, out_channels=20, groups=20, form=None)
    layers += [
        (stem, handmade.packed_conv),
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


def configs() -> list[str]:
    """Texts of a parallel array, of three kinds of serial ones and of the machine of the hand-made cases."""
    serial = AcceleratorConfig.load("smartexchange-28nm").to_text()
    out = [AcceleratorConfig.load("smartexchange-28nm-parallel").to_text(), serial]
    out += [serial.replace("sync_domain=1\n", f"sync_domain={i}\n") for i in (0, 2)]
    unit = AcceleratorConfig.load(UNIT).to_text()
    return [*out, re.sub(r"(_kb)=\d+", r"\1=256", unit)]


def fuzz_input(program: bytes, operands: list[np.ndarray], config: str, options: int = 0) -> bytes:
    """What the program fuzzer reads: options, configuration, program, operands."""
    lengths = bytes([options]) + len(config).to_bytes(2, "little") + len(program).to_bytes(3, "little")
    return lengths + config.encode() + program + b"".join(o.tobytes() for o in operands)


def write_program_corpus(folder: Path) -> None:
    """One file for every seed, with each configuration in turn; and each on a serial array with zeros alone.

    Zeros have no digits, which once was pointer arithmetic on an empty list.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = configs()
    for i, (program, operands) in enumerate(seeds()):
        data = fuzz_input(program, operands, texts[i % len(texts)])
        (folder / f"seed{i}").write_bytes(data)
        zeros = [np.zeros_like(operand) for operand in operands]
        (folder / f"zeros{i}").write_bytes(fuzz_input(program, zeros, texts[1]))


def write_module_corpus(folder: Path) -> None:
    """Saved modules of one and of several functions."""
    folder.mkdir(parents=True, exist_ok=True)
    programs = [program for program, _ in seeds()]
    for i, chosen in enumerate([programs[:1], programs[3:6], programs[-4:], []]):
        names = [f"f{j}" for j in range(len(chosen))]
        module = create_module(CONFIG, names, ["[]"] * len(chosen), chosen)
        (folder / f"seed{i}").write_bytes(tvm_ffi.get_global_func("sd_accel.save_module")(module))
