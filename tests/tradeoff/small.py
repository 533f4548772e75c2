"""A network of three layers, each of which has several useful options, and its data."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

SHAPE = (1, 16, 6, 6)


class Small(torch.nn.Module):
    """Convolution without a bias, convolution with one, dense."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(16, 32, 3, bias=False)
        self.second = torch.nn.Conv2d(32, 48, 3, padding=1)
        self.dense = torch.nn.Linear(48, 80)

    def forward(self, x: Any) -> Any:
        x = torch.relu(self.second(torch.relu(self.first(x))))
        return self.dense(x.mean((2, 3)))


def model() -> tuple[Any, Any]:
    """(module, example inputs); the weights are always the same."""
    torch.manual_seed(1)
    return Small().eval(), (torch.zeros(SHAPE),)


def data(count: int = 24) -> np.ndarray:
    """Inputs whose channels depend on each other."""
    generator = np.random.default_rng(5)
    mix = generator.normal(size=(6, 16))
    return np.einsum("nkhw,kc->nchw", generator.normal(size=(count, 6, 6, 6)), mix).astype(np.float32)


def images() -> list[tuple[str, np.ndarray]]:
    """(name, uint8 (H, W, 3)) of pictures, not in the order of their names."""
    generator = np.random.default_rng(2)
    return [
        (name, generator.integers(0, 256, (8, 10, 3), dtype=np.uint8))
        for name in ("b.png", "a/z.PNG", "c.png", "a/b.png")
    ]


def preprocess(image: np.ndarray) -> np.ndarray:
    """Input of the network: the corner of a picture, its three channels repeated."""
    corner = image[:6, :6].astype(np.float32).transpose(2, 0, 1) / 64 - 2
    return np.ascontiguousarray(np.resize(corner, SHAPE))
