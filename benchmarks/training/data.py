"""Fashion-MNIST (Debian package ``dataset-fashion-mnist``) as tensors, with random crop and flip."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

FOLDER = Path("/usr/share/datasets/fashion-mnist")
#: Mean and standard deviation of the training pixels in 0..1.
MEAN, STD = 0.2860, 0.3530
PAD = 2
_IMAGES, _LABELS = 0x803, 0x801


@dataclass(frozen=True)
class Split:
    """Images uint8 (N, 1, 28, 28) and labels int64 (N,)."""

    images: torch.Tensor
    labels: torch.Tensor

    def normalized(self) -> torch.Tensor:
        """Images as the networks get them, float32 (N, 1, 28, 28)."""
        return normalize(self.images)


def normalize(images: torch.Tensor) -> torch.Tensor:
    """Pixels 0..255 to zero mean and unit variance, float32."""
    return (images.float() / 255 - MEAN) / STD


def _idx(path: Path, magic: int) -> np.ndarray:
    data = gzip.decompress(path.read_bytes())
    if int.from_bytes(data[:4], "big") != magic:
        raise ValueError(f"{path} is no idx file of kind {magic:#x}")
    shape = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(magic & 0xFF)]
    return np.frombuffer(data, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)


def load(split: str, folder: Path = FOLDER) -> Split:
    """The ``train`` (60,000) or ``t10k`` (10,000) images."""
    images = _idx(folder / f"{split}-images-idx3-ubyte.gz", _IMAGES)
    labels = _idx(folder / f"{split}-labels-idx1-ubyte.gz", _LABELS)
    return Split(torch.from_numpy(images.copy())[:, None], torch.from_numpy(labels.astype(np.int64)))


def batches(
    data: Split, size: int, generator: torch.Generator
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """One epoch in random order, images shifted by up to 2 pixels, half mirrored; no incomplete batch."""
    n = len(data.labels)
    order = torch.randperm(n, generator=generator)
    padded = torch.nn.functional.pad(data.images, (PAD,) * 4)
    rows = torch.arange(28)
    for start in range(0, n - size + 1, size):
        pick = order[start : start + size]
        dy, dx = torch.randint(0, 2 * PAD + 1, (2, size), generator=generator)
        flip = torch.rand(size, generator=generator) < 0.5
        columns = torch.where(flip[:, None], 27 - rows, rows) + dx[:, None]
        cut = padded[pick, 0].gather(1, (rows + dy[:, None])[:, :, None].expand(-1, -1, 28 + 2 * PAD))
        cut = cut.gather(2, columns[:, None, :].expand(-1, 28, -1))
        yield normalize(cut[:, None]), data.labels[pick]
