"""Labelled ImageNet images (foolbox's 20) and unlabelled photographs (scikit-image's)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm.errors import CalibrationError, MissingExtraError

Image = npt.NDArray[np.uint8]

#: Photographs of scikit-image, colour first; its diagrams and microscopy are left out.
PHOTOGRAPHS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "rocket.jpg",
    "motorcycle_left.png",
    "color.png",
    "hubble_deep_field.jpg",
    "retina.jpg",
    "camera.png",
    "coins.png",
    "grass.png",
    "brick.png",
    "gravel.png",
    "moon.png",
    "clock_motion.png",
    "motorcycle_right.png",
)
#: Views of a photograph, best first: (side of the square / shorter side, position x, y in 0..1, mirrored).
VIEWS: tuple[tuple[float, float, float, bool], ...] = (
    (1.0, 0.5, 0.5, False),
    (0.7, 0.0, 0.0, True),
    (0.7, 1.0, 1.0, False),
    (0.55, 0.5, 0.4, True),
    (0.8, 1.0, 0.0, False),
    (0.8, 0.0, 1.0, True),
)


@dataclass(frozen=True)
class LabelledImage:
    """An image uint8 (H, W, 3) with its ImageNet class index and file name."""

    name: str
    image: Image
    label: int


def _folder(package: str, *parts: str) -> Path:
    """Directory of a package's data; the package itself is not imported."""
    spec = find_spec(package)
    if spec is not None and spec.submodule_search_locations:
        path = Path(next(iter(spec.submodule_search_locations))).joinpath(*parts)
        if path.is_dir():
            return path
    raise MissingExtraError(
        f"the package {package} is not installed",
        expected="the demo's packages",
        fix="pip install 'sd-tvm[demo]'",
    )


def read_image(path: Path) -> Image:
    """uint8 (H, W, 3) of an image file; grey images are repeated, transparency goes on white.

    Raises
    ------
    MissingExtraError
        If Pillow is not installed.
    CalibrationError
        If the file is no image.
    """
    try:
        from PIL import Image as PILImage
    except ImportError as error:
        raise MissingExtraError(
            "Pillow is not installed", expected="pillow", fix="pip install 'sd-tvm[demo]'"
        ) from error
    try:
        with PILImage.open(path) as opened:
            image: Any = opened.convert("RGBA") if opened.mode in ("P", "LA", "RGBA") else opened
            if image.mode == "RGBA":
                white = PILImage.new("RGBA", image.size, "white")
                image = PILImage.alpha_composite(white, image)
            return np.asarray(image.convert("RGB"), dtype=np.uint8)
    except OSError as error:
        raise CalibrationError(f"{path.name} is no image ({error})", expected="a PNG or JPEG file") from error


def imagenet_samples() -> list[LabelledImage]:
    """foolbox's 20 labelled ImageNet images (MIT licence), in its order.

    Raises
    ------
    MissingExtraError
        If foolbox is not installed.
    """
    folder = _folder("foolbox", "data")
    paths = sorted(folder.glob("imagenet_*_*.jpg"))
    return [LabelledImage(p.name, read_image(p), int(p.stem.rpartition("_")[2])) for p in paths]


def photographs(count: int = 24) -> list[Image]:
    """Distinct unlabelled square images from scikit-image's photographs, always the same ones.

    The first len(PHOTOGRAPHS) show whole photographs, the following ones crops, some mirrored.

    Raises
    ------
    MissingExtraError
        If scikit-image is not installed.
    CalibrationError
        If more are asked for than there are.
    """
    if not 1 <= count <= (most := len(PHOTOGRAPHS) * len(VIEWS)):
        raise CalibrationError(f"{count} photographs", expected=f"1 to {most}")
    folder = _folder("skimage", "data")
    paths = [folder / name for name in PHOTOGRAPHS if (folder / name).is_file()]
    if not paths:
        raise MissingExtraError(
            "scikit-image's photographs are missing", fix="pip install 'sd-tvm[demo]' (scikit-image >= 0.22)"
        )
    images: dict[Path, Image] = {}
    found: list[Image] = []
    for view, path in _views(paths):
        if len(found) == count:
            break
        if path not in images:
            images[path] = read_image(path)
        found.append(_crop(images[path], *view))
    return found


def _views(paths: list[Path]) -> Iterator[tuple[tuple[float, float, float, bool], Path]]:
    for view in VIEWS:
        for path in paths:
            yield view, path


def _crop(image: Image, size: float, x: float, y: float, mirrored: bool) -> Image:
    h, w = image.shape[:2]
    side = max(1, round(size * min(h, w)))
    top, left = round(y * (h - side)), round(x * (w - side))
    part = image[top : top + side, left : left + side]
    return np.ascontiguousarray(part[:, ::-1] if mirrored else part)
