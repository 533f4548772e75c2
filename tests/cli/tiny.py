"""A small network and its data, for ``module:callable`` on the command line."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

SHAPE = (1, 3, 16, 16)


class Tiny(torch.nn.Module):
    """Stem, depthwise, pointwise, residual, pool, dense."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 16, 3, 2, 1, bias=False)
        self.bn = torch.nn.BatchNorm2d(16)
        self.depthwise = torch.nn.Conv2d(16, 16, 3, 1, 1, groups=16)
        self.point = torch.nn.Conv2d(16, 48, 1)
        self.conv = torch.nn.Conv2d(48, 48, 3, padding=1)
        self.fc = torch.nn.Linear(48, 10)

    def forward(self, x: Any) -> Any:
        x = torch.relu(self.bn(self.stem(x)))
        x = torch.nn.functional.relu6(self.depthwise(x))
        x = self.point(x)
        x = x + torch.relu(self.conv(x))
        return self.fc(x.mean((2, 3)))


def model() -> tuple[Any, Any]:
    """(module, example inputs); the weights are always the same."""
    torch.manual_seed(0)
    net = Tiny()
    net.bn.running_mean.uniform_(-0.2, 0.2)
    net.bn.running_var.uniform_(0.5, 2.0)
    return net.eval(), (torch.zeros(SHAPE),)


def batch() -> np.ndarray:
    """One input."""
    return data(1, seed=7)


def data(count: int = 16, seed: int = 3) -> np.ndarray:
    """Inputs with structure: sums of a few plane waves."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0:16, 0:16] / 16
    waves = generator.normal(size=(count, 3, 4, 4))
    angle = (
        waves[..., 0, None, None] * 6 * y + waves[..., 1, None, None] * 6 * x + waves[..., 2, None, None] * 6
    )
    return (np.sin(angle) * waves[..., 3, None, None]).sum(axis=2).astype(np.float32)


def broken() -> Any:
    """Raises, as a user's function may."""
    return 1 // 0
