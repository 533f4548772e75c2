"""Run by the interpreter that has sd-tvm's own TVM: what the other one's results are compared with.

``python reference.py FOLDER`` reads what :mod:`relaynets` wrote there and writes ``reference.npz`` and
``reference.json``:

``golden0``, ``logits``
    Output of the region that Relay handed over, its integer layers computed by the NumPy golden model
    (softmax, which is no integer layer, by TVM), and the operand of its softmax.
``relax0``
    Output of the whole net, imported by ``sd_tvm.relay``, compressed and compiled through Relax.
totals, layers
    Cycles and energy of that net: sums, and layer by layer.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from passes.running import GoldenGraph

import sd_tvm
from sd_tvm._tvm import relax
from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.records import layer_records
from sd_tvm.accelerator.simulator import Profiler
from sd_tvm.execute import Runner, compile_module
from sd_tvm.plan.job import MODEL, read_job
from sd_tvm.recipe import Recipe
from sd_tvm.relay import load
from sd_tvm.relay_passes._rewrite import is_call
from sd_tvm.relay_passes.pipeline import to_integer


class _Golden(GoldenGraph):
    """Integer layers by the golden model; the softmax at the end by the code that TVM makes of it."""

    def evaluate(self, var: Any, value: Any) -> Any:
        if not is_call(value, "relax.nn.softmax"):
            return super().evaluate(var, value)
        self.logits = self.operand(value.args[0])
        x = relax.Var("x", relax.TensorType(self.logits.shape, "float32"))
        builder = relax.BlockBuilder()
        with builder.function("main", [x]):
            builder.emit_func_output(builder.emit(relax.op.nn.softmax(x, value.attrs.axis)))
        return Runner(compile_module(builder.get(), "llvm").executable)(self.logits)[0]


def main(folder: Path) -> None:
    """Write both files."""
    (job_folder,) = (p for p in (folder / "jobs").iterdir())
    job, _, _ = read_job(job_folder)
    x = np.load(folder / "x.npy")
    region = sd_tvm.load(job_folder / MODEL).to_relax()
    for step in to_integer(region):
        region = step(region)
    golden = _Golden(region)
    arrays = {"golden0": golden(x)[0], "logits": golden.logits}

    model = sd_tvm.compress(
        load((folder / "module.json").read_text()),
        recipe=Recipe.from_dict(job.recipe),
        calibration=np.load(folder / "calibration.npy"),
    )
    config = AcceleratorConfig.from_text(job.config)
    run = Runner(compile_module(model.to_relax(), config=config).executable)
    with Profiler() as profiler:
        outputs = run(x)
    arrays["relax0"] = outputs[0]
    np.savez(folder / "reference.npz", **arrays)
    layers = [
        {key: row["stats"][key] for key in ("cycles", "energy_fj")} for row in layer_records(profiler.records)
    ]
    facts = {"totals": profiler.totals, "layers": layers}
    (folder / "reference.json").write_text(json.dumps(facts, sort_keys=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
