"""A compressed network on many images at once: float32 operators in torch, activations rounded as in the
integers.

The integer layers round where a layer, with its bias and its clipping, ends; so does this. Equal up to
float32 sums and ties: ``docs/results/compression.md`` says how often the answers of both are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as fn

from sd_tvm import CompressedModel
from sd_tvm.numerics.qparams import INTEGERS, QParams

Array = npt.NDArray[Any]
Node = Mapping[str, Any]
BATCH = 20


class BatchRunner:
    """Runs a model of one input whose first dimension is the batch.

    Parameters
    ----------
    model
        Compressed and calibrated.
    round_activations
        Whether activations are rounded to 8 bits, or stay float32.
    """

    def __init__(self, model: CompressedModel, *, round_activations: bool = True) -> None:
        stored = model.stored
        self.graph: Any = stored.graph
        self.constants = {name: torch.from_numpy(a.copy()) for name, a in stored.tensors.items()}
        self.weights = {name: torch.from_numpy(w.dequantize()) for name, w in stored.weights.items()}
        rounded = self._rounded() if round_activations else set()
        self.qparams = {name: q for name, q in stored.activations.items() if name in rounded}

    def _rounded(self) -> set[str]:
        """Values that exist as integers: all but those that the next operator of the same layer takes."""
        users: dict[str, list[Node]] = {}
        for node in self.graph["nodes"]:
            for name in node["inputs"]:
                users.setdefault(name, []).append(node)
        inner = set()
        for node in self.graph["nodes"]:
            taken = users.get(node["name"], [])
            if len(taken) == 1 and self._joins(node, taken[0]):
                inner.add(node["name"])
        names = {value["name"] for value in (*self.graph["inputs"], *self.graph["nodes"])}
        return names - inner

    def _joins(self, node: Node, user: Node) -> bool:
        layer = node["op"] in ("relax.nn.conv2d", "relax.matmul")
        bias = node["op"] == "relax.add" and node["inputs"][1] in self.constants
        takes_bias = user["op"] == "relax.add" and user["inputs"][1] in self.constants
        return (layer and takes_bias) or ((layer or bias) and user["op"] == "relax.clip")

    def __call__(self, images: Array) -> Array:
        """Outputs of all images, (N, ...)."""
        with torch.no_grad():
            parts = [self._run(images[i : i + BATCH]) for i in range(0, len(images), BATCH)]
        return np.concatenate(parts)

    def _run(self, images: Array) -> Array:
        (source,) = self.graph["inputs"]
        values = {source["name"]: self._round(source["name"], torch.from_numpy(images))}
        last = {name: i for i, node in enumerate(self.graph["nodes"]) for name in node["inputs"]}
        for i, node in enumerate(self.graph["nodes"]):
            inputs = [values[n] if n in values else self.constants[n] for n in node["inputs"]]
            result = OPERATORS[node["op"]](node, inputs, self.weights.get(node["name"]))
            values[node["name"]] = self._round(node["name"], result)
            for name in node["inputs"]:
                if last[name] == i:
                    values.pop(name, None)
        (output,) = self.graph["outputs"]
        found: Array = values[output].numpy()
        return found

    def _round(self, name: str, value: torch.Tensor) -> torch.Tensor:
        q: QParams | None = self.qparams.get(name)
        if q is None:
            return value
        low, high = INTEGERS[q.dtype]
        return value.div(q.scale).round_().clamp_(low - q.zero_point, high - q.zero_point).mul_(q.scale)


def _conv(node: Node, inputs: list[torch.Tensor], weight: torch.Tensor | None) -> torch.Tensor:
    attrs = node["attrs"]
    w = inputs[1] if weight is None else weight
    (x, *_), (top, left, bottom, right) = inputs, attrs["padding"]
    if (top, left) != (bottom, right):
        x, top, left = fn.pad(x, (left, right, top, bottom)), 0, 0
    return fn.conv2d(x, w, None, attrs["strides"], (top, left), attrs["dilation"], attrs["groups"])


def _matmul(_: Node, inputs: list[torch.Tensor], weight: torch.Tensor | None) -> torch.Tensor:
    return inputs[0] @ (inputs[1] if weight is None else weight[:, :, 0, 0].T)


def _clip(node: Node, inputs: list[torch.Tensor], _: torch.Tensor | None) -> torch.Tensor:
    low, high = (arg["float"] for arg in node["attrs"]["$args"][1:])
    return inputs[0].clamp(low, high)


def _mean(node: Node, inputs: list[torch.Tensor], _: torch.Tensor | None) -> torch.Tensor:
    return inputs[0].mean(node["attrs"]["axis"], keepdim=node["attrs"]["keepdims"])


def _reshape(node: Node, inputs: list[torch.Tensor], _: torch.Tensor | None) -> torch.Tensor:
    return inputs[0].reshape(-1, *node["shape"][1:])


#: Operators of the networks measured here; another one is a KeyError that names it.
OPERATORS: dict[str, Callable[[Node, list[torch.Tensor], torch.Tensor | None], torch.Tensor]] = {
    "relax.nn.conv2d": _conv,
    "relax.matmul": _matmul,
    "relax.add": lambda _n, x, _w: x[0] + x[1],
    "relax.clip": _clip,
    "relax.mean": _mean,
    "relax.reshape": _reshape,
}
