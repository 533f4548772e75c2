"""A folder of images as calibration data: read one at a time, in the order of their names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm.data.samples import Image, read_image
from sd_tvm.errors import CalibrationError, OptionError

#: Suffixes of the files that count as images, in lower case.
SUFFIXES = (".jpg", ".jpeg", ".png")
#: uint8 (H, W, 3) -> the network's input.
Preprocess = Callable[[Image], npt.NDArray[Any]]


class ImageFolder:
    """Images of a folder and its folders, preprocessed when they are asked for.

    Sorted by their path inside the folder, so that the same folder always gives the same examples. It can be
    read as often as wanted and holds no image.

    Parameters
    ----------
    folder
        Where the images are.
    preprocess
        What makes an input of an image (:data:`Preprocess`), the name of a model of :mod:`sd_tvm.models`, or
        ``"package.module:function"``.

    Raises
    ------
    CalibrationError
        If the folder does not exist or has no images.
    OptionError
        If there is no such preprocessing.
    """

    def __init__(self, folder: str | Path, preprocess: Preprocess | str) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise CalibrationError(f"no folder {str(folder)!r}", expected="a folder of images")
        found = [p for p in self.folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()]
        self.paths = sorted(found, key=lambda p: p.relative_to(self.folder).as_posix())
        if not self.paths:
            raise CalibrationError(
                f"no images in {str(folder)!r}", expected=f"files that end in {', '.join(SUFFIXES)}"
            )
        self.preprocess = preprocessing(preprocess) if isinstance(preprocess, str) else preprocess

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> npt.NDArray[Any]:
        """Input of one image.

        Raises
        ------
        CalibrationError
            If it cannot be read.
        """
        return np.asarray(self.preprocess(read_image(self.paths[index])))

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        return (self[i] for i in range(len(self)))


def preprocessing(name: str) -> Preprocess:
    """Preprocessing by name: a model of :mod:`sd_tvm.models`, or ``"package.module:function"``.

    Raises
    ------
    OptionError
        If there is none.
    """
    from sd_tvm.models import names, spec

    module_name, colon, function = name.partition(":")
    if not colon and name in names():
        module_name, function = spec(name).partition(":")[0], "preprocess"
    expected = f"one of {names()}, or 'package.module:function' that takes uint8 (H, W, 3)"
    try:
        found = getattr(import_module(module_name), function) if function else None
    except Exception as error:  # the module is the user's: anything may happen while it is imported
        raise OptionError(
            f"no preprocessing {name!r}: {error}", expected=expected, fix="correct the name"
        ) from error
    if not callable(found):
        raise OptionError(f"no preprocessing {name!r}", expected=expected, fix="correct the name")
    result: Preprocess = found
    return result


def preprocessing_of(model: str) -> Preprocess | None:
    """The preprocessing that a model brings: function ``preprocess`` of the module that makes it.

    Parameters
    ----------
    model
        A model of :mod:`sd_tvm.models` or ``"package.module:callable"``; anything else brings none.
    """
    from sd_tvm.models import names, spec

    module_name, colon, _ = (spec(model) if model in names() else model).partition(":")
    if not colon:
        return None
    found = getattr(import_module(module_name), "preprocess", None)
    return found if callable(found) else None
