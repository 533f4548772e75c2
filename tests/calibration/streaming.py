"""A small network, wide inside and narrow between its blocks, and many examples of it that nobody holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from passes.nets import Net

from sd_tvm._tvm import relax
from sd_tvm.calibration.ops import Array

SHAPE = (1, 3, 16, 16)


def blocks(seed: int = 0) -> Any:
    """A stem and two residual blocks: expansion, depthwise, projection; a dense layer."""
    net = Net(SHAPE, seed)
    x = net.relu(net.conv(net.x, 16, 3, "stem", padding=1), "r")
    for i in range(2):
        y = net.relu(net.conv(x, 48, 1, f"expand{i}"), f"r{i}a")
        y = net.relu(net.conv(y, 48, 3, f"depthwise{i}", groups=48, padding=1), f"r{i}b")
        x = net.call(relax.op.add(x, net.conv(y, 16, 1, f"project{i}")), f"sum{i}")
    x = net.call(relax.op.mean(x, axis=[2, 3]), "mean")
    return net.module(net.dense(x, 10, "dense"))


class Drawn:
    """Examples that are made when they are asked for."""

    def __init__(self, count: int, shape: tuple[int, ...] = SHAPE) -> None:
        self.count = count
        self.shape = shape

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Array]:
        for i in range(self.count):
            yield np.random.default_rng(i).normal(size=self.shape).astype(np.float32)
