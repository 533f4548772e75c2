"""Small torch networks of many shapes; also what the ``module:callable`` tests import."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import nn

from sd_tvm.frontends import load_model


def _trained(model: nn.Module) -> nn.Module:
    """Batch norms with statistics that are not the identity."""
    generator = torch.Generator().manual_seed(3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            n = module.num_features
            module.running_mean = torch.randn(n, generator=generator) * 0.5
            module.running_var = torch.rand(n, generator=generator) + 0.1
            if module.affine:
                module.weight.data = torch.rand(n, generator=generator) * 2 - 0.5
                module.bias.data = torch.randn(n, generator=generator)
    return model.eval()


class Residual(nn.Module):
    """Basic block with a projection, as in ResNet."""

    def __init__(self, c: int, m: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c, m, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(m)
        self.conv2 = nn.Conv2d(m, m, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(m)
        self.down = nn.Sequential(nn.Conv2d(c, m, 1, stride, bias=False), nn.BatchNorm2d(m))
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + self.down(x))


def resnet() -> tuple[nn.Module, tuple[Any, ...]]:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 7, 2, 3, bias=True),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        Residual(8, 8, 1),
        Residual(8, 12, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(12, 5),
    )
    return _trained(model), (torch.randn(1, 3, 32, 32),)


class Mobile(nn.Module):
    """Depthwise separable, uneven explicit padding, relu6 in three spellings."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, 2, bias=False)
        self.bn = nn.BatchNorm2d(6)
        self.depthwise = nn.Conv2d(6, 6, 5, 2, groups=6)
        self.bn_dw = nn.BatchNorm2d(6, affine=False)
        self.point = nn.Conv2d(6, 10, 1)
        self.scale = nn.Parameter(torch.rand(1, 10, 1, 1) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.relu6(self.bn(self.stem(nn.functional.pad(x, (0, 1, 0, 1)))))
        x = self.bn_dw(self.depthwise(nn.functional.pad(x, (1, 2, 1, 2))))
        x = torch.clamp(torch.relu(x), max=6.0)
        return torch.clamp(self.point(x) * self.scale - 0.25, 0.0, 6.0).mean((2, 3))


def mobile() -> tuple[nn.Module, tuple[Any, ...]]:
    return _trained(Mobile()), (torch.randn(1, 3, 23, 23),)


def dense() -> tuple[nn.Module, tuple[Any, ...]]:
    model = nn.Sequential(
        nn.Linear(7, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 4, bias=False), nn.Sigmoid()
    )
    return _trained(model), (torch.randn(3, 7),)


def sequence() -> tuple[nn.Module, tuple[Any, ...]]:
    model = nn.Sequential(
        nn.ConstantPad1d((2, 1), 0.0), nn.Conv1d(4, 6, 4), nn.BatchNorm1d(6), nn.Hardtanh(0, 6)
    )
    return _trained(model), (torch.randn(1, 4, 17),)


class UnfoldableNorm(nn.Module):
    """Batch norms that no layer precedes, or whose layer has a second reader."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.BatchNorm2d(3), nn.BatchNorm2d(4)
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.conv(torch.relu(self.first(x)))
        return self.second(y), y


def unfoldable() -> tuple[nn.Module, tuple[Any, ...]]:
    return _trained(UnfoldableNorm()), (torch.randn(1, 3, 8, 8),)


class Attention(nn.Module):
    """One transformer layer on token indices."""

    def __init__(self, d: int = 16, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.embed = nn.Embedding(50, d)
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.up, self.down = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids)
        b, n, d = x.shape
        parts = self.qkv(self.norm1(x)).chunk(3, -1)
        q, k, v = (t.reshape(b, n, self.heads, d // self.heads).transpose(1, 2) for t in parts)
        weights = torch.softmax(q @ k.transpose(-1, -2) / 2.0, -1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(b, n, d))
        return x + self.down(torch.relu(self.up(self.norm2(x))))


def attention() -> tuple[nn.Module, tuple[Any, ...]]:
    return Attention().eval(), (torch.randint(0, 50, (1, 6)),)


NETS: dict[str, Callable[[], tuple[nn.Module, tuple[Any, ...]]]] = {
    f.__name__: f for f in (resnet, mobile, dense, sequence, unfoldable, attention)
}


def build(name: str) -> tuple[nn.Module, tuple[Any, ...]]:
    """A network with fixed random weights, and its example inputs."""
    torch.manual_seed(0)
    return NETS[name]()


@cache
def loaded(name: str) -> tuple[Any, nn.Module, tuple[Any, ...]]:
    """(Relax module, network, example inputs), imported once."""
    model, inputs = build(name)
    return load_model(model, inputs), model, inputs


def outputs(model: nn.Module, inputs: tuple[Any, ...]) -> list[Any]:
    """What torch computes, as arrays."""
    with torch.no_grad():
        result = model(*inputs)
    return [t.numpy() for t in (result if isinstance(result, tuple) else (result,))]


def raises() -> nn.Module:
    raise RuntimeError("no weights here")


NOT_CALLABLE = 3
