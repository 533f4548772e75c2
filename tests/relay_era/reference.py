"""Run by the interpreter that has sd-tvm's own TVM: what the other one's results are compared with.

``python reference.py FOLDER`` reads what :mod:`relaynets` wrote there and writes ``reference.npz`` and
``reference.json``:

``golden0``, ``logits``
    Output of the region that Relay handed over, its integer layers computed by the NumPy golden model
    (:func:`golden`), and the operand of its softmax.
``relax0``
    Output of the net, which is verified to be what ``sd_tvm.relay`` imports from the whole Relay module,
    compiled through Relax and run by its virtual machine.
totals, layers
    Cycles and energy of that net: sums, and layer by layer.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import sd_tvm
from sd_tvm._tvm import structural_equal
from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.records import layer_records
from sd_tvm.accelerator.simulator import Profiler
from sd_tvm.execute import Runner as Machine
from sd_tvm.execute import compile_module
from sd_tvm.layers import layer_from_json
from sd_tvm.numerics.golden import run_layer
from sd_tvm.plan.build import plan_of
from sd_tvm.plan.job import MODEL, read_job
from sd_tvm.plan.run import Runner
from sd_tvm.relay import load
from sd_tvm.relay_passes.lower_float import LowerFloat
from sd_tvm.relay_passes.pipeline import between_layers, to_integer
from sd_tvm.schedules.ops import LAYER_ATTR
from sd_tvm.schedules.ops.tir import OPAQUE


def golden(mod: Any, x: np.ndarray) -> dict[str, np.ndarray]:
    """Output of an integer module, and its logits.

    Integer layers by the NumPy golden model; what is float32 between them (softmax, a batch norm that nothing
    precedes) by the code that it gets everywhere: :class:`LowerFloat`, and TVM's fusion.
    """
    layers = {}
    for gvar, func in mod.functions_items():
        if LAYER_ATTR in (func.attrs or {}):
            layers[str(gvar.name_hint)] = layer_from_json(str(func.attrs[LAYER_ATTR]))
            mod = mod.clone()
            mod.update_func(gvar, func.with_attr("op_pattern", OPAQUE))
    for step in (LowerFloat(), *between_layers()):
        mod = step(mod)
    run = Runner(plan_of(mod))
    seen = {}

    def by_numpy(layer: Any) -> Any:
        def call(*tensors: Any) -> None:
            *operands, result = (np.from_dlpack(tensor) for tensor in tensors)
            result[...] = run_layer(layer, operands)

        return call

    def watched(function: Any) -> Any:
        def call(*tensors: Any) -> None:
            seen["logits"] = np.from_dlpack(tensors[0]).copy()
            function(*tensors)

        return call

    assert layers
    for name, function in run._functions.items():
        if name in layers:
            run._functions[name] = by_numpy(layers[name])
        elif "softmax" in name:
            run._functions[name] = watched(function)
    return {"golden0": run(x)[0], **seen}


def main(folder: Path) -> None:
    """Write both files."""
    (job_folder,) = (p for p in (folder / "jobs").iterdir())
    job, handed, examples = read_job(job_folder)
    x, model = np.load(folder / "x.npy"), sd_tvm.load(job_folder / MODEL)
    # The same net, and the same examples: compressing it once more would give the same file.
    assert structural_equal(load((folder / "module.json").read_text()), load(handed))
    np.testing.assert_array_equal(
        np.concatenate([e[0] for e in examples]), np.load(folder / "calibration.npy")
    )

    integer = model.to_relax()
    for step in to_integer(integer):
        integer = step(integer)
    config = AcceleratorConfig.from_text(job.config)
    run = Machine(compile_module(model.to_relax(), config=config).executable)
    with Profiler() as profiler:
        outputs = run(x)
    np.savez(folder / "reference.npz", relax0=outputs[0], **golden(integer, x))
    layers = [
        {key: row["stats"][key] for key in ("cycles", "energy_fj")} for row in layer_records(profiler.records)
    ]
    facts = {"totals": profiler.totals, "layers": layers}
    (folder / "reference.json").write_text(json.dumps(facts, sort_keys=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
