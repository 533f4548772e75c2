"""Small networks with the structure of real ones, random weights; torch modules without any zoo."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as fn

Tensor = torch.Tensor


def conv_bn(c: int, m: int, k: int, act: nn.Module | None = None, *, stride: int = 1, groups: int = 1) -> Any:
    layers = [nn.Conv2d(c, m, k, stride, k // 2, groups=groups, bias=False), nn.BatchNorm2d(m)]
    return nn.Sequential(*layers, *([act] if act else []))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, projected where the shape changes."""

    def __init__(self, c: int, m: int, stride: int) -> None:
        super().__init__()
        self.one = conv_bn(c, m, 3, nn.ReLU(), stride=stride)
        self.two = conv_bn(m, m, 3)
        self.shortcut = conv_bn(c, m, 1, stride=stride) if stride > 1 or c != m else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return fn.relu(self.two(self.one(x)) + self.shortcut(x))


class ResNet18(nn.Module):
    """All eighteen layers, a quarter of the width."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        w = width
        self.stem = conv_bn(3, w, 7, nn.ReLU(), stride=2)
        self.pool = nn.MaxPool2d(3, 2, 1)
        blocks = []
        for i, (c, m) in enumerate(((w, w), (w, 2 * w), (2 * w, 4 * w), (4 * w, 8 * w))):
            blocks += [BasicBlock(c, m, 1 if i == 0 else 2), BasicBlock(m, m, 1)]
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(8 * w, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.pool(self.stem(x)))
        return self.fc(torch.flatten(fn.adaptive_avg_pool2d(x, 1), 1))


class SqueezeExcite(nn.Module):
    """Gate of each channel from its mean."""

    def __init__(self, c: int, squeezed: int, gate: nn.Module) -> None:
        super().__init__()
        self.down, self.up, self.gate = nn.Conv2d(c, squeezed, 1), nn.Conv2d(squeezed, c, 1), gate

    def forward(self, x: Tensor) -> Tensor:
        s = fn.relu(self.down(fn.adaptive_avg_pool2d(x, 1)))
        return x * self.gate(self.up(s))


class InvertedResidual(nn.Module):
    """Expand, depthwise, [squeeze and excite], project, [add]."""

    def __init__(
        self, c: int, e: int, m: int, k: int, stride: int, act: Callable[[], nn.Module], se: bool = False
    ) -> None:
        super().__init__()
        parts = [conv_bn(c, e, 1, act())] if e != c else []
        parts.append(conv_bn(e, e, k, act(), stride=stride, groups=e))
        if se:
            parts.append(SqueezeExcite(e, max(8, e // 4), nn.Hardsigmoid()))
        self.body = nn.Sequential(*parts, conv_bn(e, m, 1))
        self.add = stride == 1 and c == m

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.add else self.body(x)


class MobileNetV2(nn.Module):
    """Stem, blocks of every kind, head."""

    def __init__(self) -> None:
        super().__init__()
        rows = ((16, 16, 16, 1), (16, 64, 24, 2), (24, 96, 24, 1), (24, 96, 32, 2), (32, 128, 32, 1))
        blocks = [InvertedResidual(c, e, m, 3, s, nn.ReLU6) for c, e, m, s in rows]
        self.features = nn.Sequential(
            conv_bn(3, 16, 3, nn.ReLU6(), stride=2), *blocks, conv_bn(32, 128, 1, nn.ReLU6())
        )
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(128, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean([2, 3]))


class MobileNetV3(nn.Module):
    """Hard-swish, squeeze-and-excite, 5x5 depthwise, the two-layer head."""

    def __init__(self) -> None:
        super().__init__()
        rows = (
            (16, 16, 16, 3, 2, nn.ReLU, True),
            (16, 64, 24, 3, 2, nn.ReLU, False),
            (24, 88, 24, 3, 1, nn.ReLU, False),
            (24, 96, 40, 5, 2, nn.Hardswish, True),
            (40, 240, 40, 5, 1, nn.Hardswish, True),
        )
        blocks = [InvertedResidual(c, e, m, k, s, act, se) for c, e, m, k, s, act, se in rows]
        self.features = nn.Sequential(
            conv_bn(3, 16, 3, nn.Hardswish(), stride=2), *blocks, conv_bn(40, 96, 1, nn.Hardswish())
        )
        self.classifier = nn.Sequential(nn.Linear(96, 64), nn.Hardswish(), nn.Linear(64, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(fn.adaptive_avg_pool2d(self.features(x), 1), 1))


class VGG(nn.Module):
    """3x3 convolutions and pools, an image that is flattened into dense layers."""

    def __init__(self) -> None:
        super().__init__()
        layers, c = [], 3
        for m in (16, "M", 32, "M", 48, 48, "M"):
            if m == "M":
                layers.append(nn.MaxPool2d(2))
                continue
            layers.append(conv_bn(c, int(m), 3, nn.ReLU()))
            c = int(m)
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Linear(48 * 16, 64), nn.ReLU(), nn.Dropout(), nn.Linear(64, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.features(x), 1))


class SSD(nn.Module):
    """Two feature maps, each with a head of boxes and one of classes; four outputs."""

    def __init__(self, anchors: int = 3, classes: int = 5) -> None:
        super().__init__()
        self.one = nn.Sequential(
            conv_bn(3, 16, 3, nn.ReLU6(), stride=2), conv_bn(16, 32, 3, nn.ReLU6(), stride=2)
        )
        self.two = conv_bn(32, 48, 3, nn.ReLU6(), stride=2)
        self.boxes = nn.ModuleList(nn.Conv2d(c, 4 * anchors, 3, padding=1) for c in (32, 48))
        self.scores = nn.ModuleList(nn.Conv2d(c, classes * anchors, 3, padding=1) for c in (32, 48))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        a = self.one(x)
        maps = (a, self.two(a))
        return tuple(
            head(m) for heads in (self.boxes, self.scores) for head, m in zip(heads, maps, strict=True)
        )


class UNet(nn.Module):
    """Skips are concatenated; one step up is a transposed convolution, one an enlargement."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (conv_bn(c, m, 3, nn.ReLU()) for c, m in ((3, 16), (16, 32), (32, 48)))
        self.up = nn.ConvTranspose2d(48, 32, 2, stride=2)
        self.d, self.e = conv_bn(64, 32, 3, nn.ReLU()), conv_bn(48, 16, 3, nn.ReLU())
        self.head = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        b = self.b(fn.max_pool2d(a, 2))
        c = self.c(fn.max_pool2d(b, 2))
        d = self.d(torch.cat([self.up(c), b], 1))
        d = fn.interpolate(d, scale_factor=2.0, mode="nearest")
        return self.head(self.e(torch.cat([d, a], 1)))


class BertLayer(nn.Module):
    """Self-attention and feed-forward, each added to its input and normalised after."""

    def __init__(self, width: int = 64, heads: int = 4, inner: int = 128) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.shape

        def split(y: Tensor) -> Tensor:
            return y.view(b, t, self.heads, c // self.heads).transpose(1, 2)

        q, k, v = split(self.query(x)), split(self.key(x)), split(self.value(x))
        y = torch.softmax(q @ k.transpose(-1, -2) / (c // self.heads) ** 0.5, -1) @ v
        x = self.norm_1(x + self.output(y.transpose(1, 2).reshape(b, t, c)))
        return self.norm_2(x + self.down(fn.gelu(self.up(x))))


class ViT(nn.Module):
    """Patches of a convolution become tokens; one pre-normalised encoder layer with torch's own attention."""

    def __init__(self, width: int = 64, heads: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 8, stride=8)
        self.layer = nn.TransformerEncoderLayer(
            width, heads, 128, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return self.head(self.layer(tokens).mean(1))


IMAGE, TOKENS = (1, 3, 32, 32), (1, 32, 64)
#: Name -> (module, shape of its input).
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "resnet18": (ResNet18, (1, 3, 64, 64)),
    "mobilenet_v2": (MobileNetV2, IMAGE),
    "mobilenet_v3": (MobileNetV3, IMAGE),
    "vgg": (VGG, IMAGE),
    "ssd": (SSD, IMAGE),
    "unet": (UNet, IMAGE),
    "bert_layer": (BertLayer, TOKENS),
    "vit": (ViT, IMAGE),
}


def make(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    """A model in evaluation mode, its batch norms with statistics, and the shape of its input."""
    torch.manual_seed(11)
    build, shape = MODELS[name]
    model = build()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.8, 1.6)
    return model.eval(), shape
