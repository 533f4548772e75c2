"""EfficientNet-Lite0 and its images: the split, the float32 answers, what is compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sd_tvm.data.samples import imagenet_samples, read_image
from sd_tvm.models import efficientnet_lite0 as network

Array = npt.NDArray[Any]
MODEL = "sd_tvm.models.efficientnet_lite0:model"
CALIBRATE, EVALUATE = 400, 200


@dataclass(frozen=True)
class Labelled:
    """Preprocessed images, float32 logits of the uncompressed network, labels."""

    images: Array
    logits: Array
    labels: Array

    def part(self, chosen: Array) -> Labelled:
        """Some of them."""
        return Labelled(self.images[chosen], self.logits[chosen], self.labels[chosen])


@dataclass(frozen=True)
class Split:
    """Images of one repeat: those that calibrate, and others that evaluate."""

    seed: int
    calibration: Array
    samples: Labelled
    foolbox: Labelled


def load(folder: Path, cache: Path) -> tuple[Labelled, Labelled]:
    """All sample images and foolbox's 20; kept in ``cache``, since float32 logits take a minute."""
    path = cache / "images.npz"
    files = sorted(folder.glob("*.jpg"), key=lambda p: int(p.stem))
    if len(files) < CALIBRATE + EVALUATE:
        raise SystemExit(f"{folder} holds {len(files)} images CLASS.jpg; {CALIBRATE + EVALUATE} are needed")
    if path.is_file():
        with np.load(path) as found:
            if found["labels"].tolist() == [int(f.stem) for f in files]:
                return (
                    Labelled(found["images"], found["logits"], found["labels"]),
                    Labelled(found["images20"], found["logits20"], found["labels20"]),
                )
    samples = _labelled([(read_image(f), int(f.stem)) for f in files])
    foolbox = _labelled([(s.image, s.label) for s in imagenet_samples()])
    np.savez(
        path,
        images=samples.images,
        logits=samples.logits,
        labels=samples.labels,
        images20=foolbox.images,
        logits20=foolbox.logits,
        labels20=foolbox.labels,
    )
    return samples, foolbox


def split(seed: int, samples: Labelled, foolbox: Labelled) -> Split:
    """The repeat of a seed: 400 images calibrate, 200 others evaluate."""
    order = np.random.default_rng(seed).permutation(len(samples.labels))
    chosen, rest = order[:CALIBRATE], order[CALIBRATE : CALIBRATE + EVALUATE]
    return Split(seed, samples.images[chosen], samples.part(rest), foolbox)


def _labelled(pairs: list[tuple[Any, int]]) -> Labelled:
    images = network.preprocess_all(image for image, _ in pairs)
    model = network.build()
    with torch.no_grad():
        logits = [model(torch.from_numpy(images[i : i + 10])).numpy() for i in range(0, len(images), 10)]
    return Labelled(images, np.concatenate(logits), np.array([label for _, label in pairs]))
