"""Nets, inputs, and running them the Relay way."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import relay
from tvm.contrib import graph_executor
from tvm.relay import testing

HERE = Path(__file__).parent
#: Not plain "llvm": the vendor's build means RISC-V by it.
LLVM = "llvm -mtriple=x86_64-linux-gnu"
SIZE = 64
CLASSES = 100
NETS = {
    "resnet18": lambda: testing.resnet.get_workload(
        num_layers=18, batch_size=1, image_shape=(3, SIZE, SIZE), num_classes=CLASSES
    ),
    "mobilenet": lambda: testing.mobilenet.get_workload(
        batch_size=1, image_shape=(3, SIZE, SIZE), num_classes=CLASSES
    ),
}


def with_weights(net: str, seed: int = 7) -> tuple[Any, dict[str, np.ndarray]]:
    """A net with weights that keep the size of activations, and statistics of batch norm that do something.

    With the weights that relay.testing draws, mobilenet's activations vanish on the way.
    """
    mod, params = NETS[net]()
    rng = np.random.default_rng(seed)
    out = {}
    for name in sorted(params):
        shape = params[name].shape
        if name.endswith(("_gamma", "_var")):
            out[name] = rng.uniform(0.7, 1.3, shape)
        elif name.endswith(("_beta", "_mean", "_bias")):
            out[name] = rng.normal(0, 0.1, shape)
        else:
            out[name] = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
    return mod, {name: array.astype(np.float32) for name, array in out.items()}


def compiling_python() -> str:
    """The interpreter with sd-tvm's TVM; the adapter asks for the same variable."""
    return os.environ["SD_TVM_PYTHON"]


def images(n: int, size: int = SIZE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 3, size, size)).astype(np.float32)


def run(library: Any, *inputs: np.ndarray) -> list[np.ndarray]:
    """Outputs of a factory, by the graph executor."""
    module = graph_executor.GraphModule(library["default"](tvm.cpu()))
    for i, x in enumerate(inputs):
        module.set_input(i, x)
    module.run()
    return [module.get_output(i).numpy() for i in range(module.get_num_outputs())]


def save_whole(mod: Any, params: dict[str, Any], path: Path) -> None:
    """A module with its weights, as the importer of sd-tvm reads it."""
    bound = tvm.IRModule.from_expr(relay.build_module.bind_params_by_name(mod["main"], params))
    path.write_text(tvm.ir.save_json(relay.transform.InferType()(bound)))


def reference(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What ``reference.py`` finds, in the other environment."""
    subprocess.run([compiling_python(), str(HERE / "reference.py"), str(folder)], check=True)
    with np.load(folder / "reference.npz") as arrays:
        found = {name: arrays[name] for name in arrays.files}
    return found, json.loads((folder / "reference.json").read_text())
