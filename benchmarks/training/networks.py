"""The three networks, for images of 28 x 28 with one channel and ten classes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as fn

CLASSES = 10


def conv_bn(
    c: int, m: int, k: int, act: nn.Module | None = None, *, stride: int = 1, groups: int = 1
) -> nn.Module:
    layers: list[nn.Module] = [
        nn.Conv2d(c, m, k, stride, k // 2, groups=groups, bias=False),
        nn.BatchNorm2d(m),
    ]
    return nn.Sequential(*layers, *([act] if act else []))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, projected where the shape changes."""

    def __init__(self, c: int, m: int, stride: int) -> None:
        super().__init__()
        self.one = conv_bn(c, m, 3, nn.ReLU(), stride=stride)
        self.two = conv_bn(m, m, 3)
        self.shortcut = conv_bn(c, m, 1, stride=stride) if stride > 1 or c != m else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return fn.relu(self.two(self.one(x)) + self.shortcut(x))


class InvertedResidual(nn.Module):
    """1x1 expand (unless t is 1), 3x3 depthwise, 1x1 project."""

    def __init__(self, c: int, m: int, t: int, stride: int) -> None:
        super().__init__()
        wide = c * t
        self.expand = conv_bn(c, wide, 1, nn.ReLU6()) if t > 1 else nn.Identity()
        self.depthwise = conv_bn(wide, wide, 3, nn.ReLU6(), stride=stride, groups=wide)
        self.project = conv_bn(wide, m, 1)
        self.adds = stride == 1 and c == m

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.adds else y


def _finish(layers: list[nn.Module], c: int) -> nn.Sequential:
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, CLASSES))


def resnet20() -> nn.Sequential:
    """ResNet-20 of He et al. (2015) for CIFAR, with projections: 0.27 million weights."""
    layers: list[nn.Module] = [conv_bn(1, 16, 3, nn.ReLU())]
    c = 16
    for m in (16, 32, 64):
        for i in range(3):
            layers.append(BasicBlock(c, m, 2 if i == 0 and m > 16 else 1))
            c = m
    return _finish(layers, c)


def mobilenetv2_s() -> nn.Sequential:
    """MobileNetV2 with expansion 3, widths 48 and 144 and six blocks: 0.49 million weights."""
    layers: list[nn.Module] = [conv_bn(1, 16, 3, nn.ReLU6())]
    c = 16
    for m, t, stride in ((48, 1, 2), (48, 3, 1), (144, 3, 2), (144, 3, 1), (144, 3, 1), (144, 3, 1)):
        layers.append(InvertedResidual(c, m, t, stride))
        c = m
    return _finish([*layers, conv_bn(c, 384, 1, nn.ReLU6())], 384)


def vgg_s() -> nn.Sequential:
    """Eight 3x3 convolutions with a pool after every second one: 1.17 million weights."""
    layers: list[nn.Module] = []
    c = 1
    for i, m in enumerate((32, 64, 128, 256)):
        layers += [nn.MaxPool2d(2)] if i else []
        layers += [conv_bn(c, m, 3, nn.ReLU()), conv_bn(m, m, 3, nn.ReLU())]
        c = m
    return _finish(layers, c)


NETWORKS: dict[str, Callable[[], nn.Sequential]] = {
    "resnet20": resnet20,
    "mobilenetv2-s": mobilenetv2_s,
    "vgg-s": vgg_s,
}
