"""Whole networks of the rows: how to build them, what they are compressed to, an input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np

from sd_tvm.recipe import Recipe

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Net:
    """A network and a batch.

    Attributes
    ----------
    name
        As rows show it.
    key
        In names of files.
    build
        The torch module, in evaluation mode.
    recipes
        Label of a row of ours -> recipe.
    shape
        Of the input.
    calibration
        Inputs of one image each.
    tuned
        Labels that have a row whose kernels were chosen by time, too.
    int4
        Whether peers have weights of 4 bits for it: most of its work is dense layers.
    like
        The same network with another batch, whose ranges and compressed weights this one takes.
    """

    name: str
    key: str
    build: Callable[[], Any]
    recipes: dict[str, Recipe]
    shape: tuple[int, ...]
    calibration: Callable[[], list[Array]]
    tuned: tuple[str, ...] = ()
    int4: bool = False
    like: Net | None = None

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions and dense layers, zeros included."""
        import torch

        count = [0]

        def add(layer: Any, _inputs: Any, out: Any) -> None:
            count[0] += out.numel() * layer.weight[0].numel()

        net = self.build()
        for layer in net.modules():
            if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
                layer.register_forward_hook(add)
        with torch.inference_mode():
            net(torch.from_numpy(self.example))
        return count[0]

    @property
    def example(self) -> Array:
        """Random input, float32."""
        return np.random.default_rng(0).normal(size=self.shape).astype(np.float32)


def _sibling(name: str) -> Any:
    """A module of another benchmark: this package may be ``cpu`` or ``benchmarks.cpu``."""
    above = __name__.rpartition(".")[0].rpartition(".")[0]
    return import_module(f"{above}.{name}" if above else name)


def _efficientnet() -> Any:
    from sd_tvm.models import efficientnet_lite0

    return efficientnet_lite0.build()


def _demo_images() -> list[Array]:
    from sd_tvm.models import efficientnet_lite0

    return [np.reshape(x, (1, 3, 224, 224)) for x in efficientnet_lite0.calibration_images(2)]


def _resnet20() -> Any:
    return _sibling("training.store").baseline("resnet20", 0)


def _resnet50() -> Any:
    import torch

    from sd_tvm.accelerator.baselines.workloads import RESNET50

    torch.manual_seed(0)
    return _sibling("accelerator.networks").resnet(RESNET50, bottleneck=True).eval()


def _vgg16() -> Any:
    """VGG16 for 224 x 224 (Simonyan and Zisserman, arXiv 1409.1556, column D)."""
    import torch
    from torch import nn

    from sd_tvm.accelerator.baselines.workloads import VGG16

    torch.manual_seed(0)
    parts: list[Any] = []
    c = 3
    for item in VGG16:
        if isinstance(item, str):
            parts.append(nn.MaxPool2d(2))
        else:
            parts += [nn.Conv2d(c, item, 3, padding=1), nn.ReLU()]
            c = item
    dense = [nn.Linear(c * 49, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1000)]
    return nn.Sequential(*parts, nn.Flatten(), *dense).eval()


def _minilm() -> Any:
    return _sibling("compression.minilm").encoder()


def _noise(*shape: int) -> Callable[[], list[Array]]:
    """Two random inputs."""
    return lambda: list(np.random.default_rng(1).normal(size=(2, *shape)).astype(np.float32))


def _batch(net: Net, n: int, *, tuned: bool = False) -> Net:
    """The same network with n inputs."""
    return replace(
        net,
        name=net.name.replace("batch 1", f"batch {n}"),
        key=f"{net.key.removesuffix('-1')}-{n}",
        shape=(n, *net.shape[1:]),
        tuned=net.tuned if tuned else (),
        like=net,
    )


def networks() -> list[Net]:
    """All of them."""
    twenty = {"SD 20x": _sibling("training.recipes").RECIPES["resnet20"]["4:16, first stage 8:16"]}
    dense, sparse = Recipe.named("default"), Recipe.named("sd-4:16")
    both = {"SD 16:16": dense, "SD 4:16": sparse}
    image, digit = _noise(1, 3, 224, 224), _noise(1, 1, 28, 28)
    lite = Net(
        "EfficientNet-Lite0 batch 1", "efficientnet-1", _efficientnet, both, (1, 3, 224, 224), _demo_images,
        tuple(both),
    )  # fmt: skip
    small = Net("ResNet-20 batch 1", "resnet20-1", _resnet20, twenty, (1, 1, 28, 28), digit, tuple(twenty))
    return [
        lite,
        _batch(lite, 8),
        small,
        _batch(small, 32, tuned=True),
        Net(
            "ResNet-50 batch 1, random weights", "resnet50-1", _resnet50, {"SD 4:16": sparse},
            (1, 3, 224, 224), image,
        ),
        Net(
            "VGG16 batch 1, random weights", "vgg16-1", _vgg16, {"SD 4:16": sparse},
            (1, 3, 224, 224), image,
        ),
        Net(
            "MiniLM-L6 sequence 128", "minilm", _minilm, {"SD 4:16": sparse},
            (1, 128, 384), _noise(1, 128, 384), int4=True,
        ),
    ]  # fmt: skip
