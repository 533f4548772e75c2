"""Whole networks of the rows: how to build them, what they are compressed to, an input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
    weights
        How many.
    calibration
        Inputs of one image each.
    """

    name: str
    key: str
    build: Callable[[], Any]
    recipes: dict[str, Recipe]
    shape: tuple[int, ...]
    weights: int
    calibration: Callable[[], list[Array]]

    @property
    def example(self) -> Array:
        """Random input, float32."""
        return np.random.default_rng(0).normal(size=self.shape).astype(np.float32)


def _efficientnet() -> Any:
    from sd_tvm.models import efficientnet_lite0

    model = efficientnet_lite0.build()
    if hasattr(model, "set_swish"):
        model.set_swish(memory_efficient=False)
    return model


def _demo_images() -> list[Array]:
    from sd_tvm.models import efficientnet_lite0

    return list(efficientnet_lite0.calibration_images(8))


def _resnet20() -> Any:
    from ..training.store import baseline

    return baseline("resnet20", 0)


def networks() -> list[Net]:
    """All of them."""
    from ..training.recipes import RECIPES

    twenty = RECIPES["resnet20"]["4:16, first stage 8:16"]
    efficientnet = {"SD 16:16": Recipe.named("default"), "SD 4:16": Recipe.named("sd-4:16")}
    resnet = {"SD 20x": twenty}
    noise = np.random.default_rng(1).normal(size=(8, 1, 1, 28, 28)).astype(np.float32)
    return [
        Net(
            "EfficientNet-Lite0 batch 1", "efficientnet-1", _efficientnet, efficientnet,
            (1, 3, 224, 224), 4_652_008, _demo_images,
        ),
        *(
            Net(
                f"ResNet-20 batch {n}", f"resnet20-{n}", _resnet20, resnet,
                (n, 1, 28, 28), 270_608, lambda: list(noise),
            )
            for n in (1, 32)
        ),
    ]  # fmt: skip
