"""Arrays that commands read: network inputs and calibration data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sd_tvm.errors import OptionError

if TYPE_CHECKING:
    from sd_tvm.weights.stored import Storage

#: What ``--input`` and ``--calibration`` accept, for help texts and messages.
KINDS = "a .npy or .npz file, or 'package.module:function' that returns an array or a list of arrays"
#: What ``--calibration`` accepts beside these.
FOLDER = "a folder of .jpg and .png images"
#: Help of ``--preprocess``.
PREPROCESS = (
    "For a folder of images: what makes an input of uint8 (H, W, 3), package.module:function or the name of "
    "a model that comes with sd-tvm. [default: `preprocess` of the module that the model comes from]"
)


def read_arrays(source: str) -> list[Any]:
    """Input arrays.

    Parameters
    ----------
    source
        One of :data:`KINDS`. A ``.npz`` gives its arrays in the order of their names in the file.

    Raises
    ------
    OptionError
        If the file or function does not exist or gives something else.
    """
    import numpy as np

    path = Path(source)
    if path.suffix in (".npy", ".npz"):
        try:
            loaded = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise OptionError(
                f"cannot read {source!r}: {error}", expected=KINDS, fix="check the path"
            ) from error
        return [loaded] if path.suffix == ".npy" else [loaded[name] for name in loaded.files]
    if ":" in source:
        return _call(source)
    raise OptionError(
        f"cannot read inputs from {source!r}", expected=KINDS, fix="save the data with numpy.save"
    )


def read_examples(source: str | None, model: str, preprocess: str | None = None) -> Any:
    """Calibration data: an array, a list of arrays or a folder of images; None for None.

    Parameters
    ----------
    source
        One of :data:`KINDS`, or :data:`FOLDER`.
    model
        The model, as on the command line; it may bring the preprocessing of images.
    preprocess
        Name of the preprocessing, for a folder.

    Raises
    ------
    OptionError
        If it does not exist or is something else, or if nothing says how images become inputs.
    CalibrationError
        If a folder has no images.
    """
    from sd_tvm.data.folder import ImageFolder, preprocessing_of

    if source is None or not Path(source).is_dir():
        if preprocess is not None:
            raise OptionError(
                f"--preprocess {preprocess!r} without a folder of images",
                expected=f"--calibration with {FOLDER}",
                fix="leave it out",
            )
        examples = None if source is None else read_arrays(source)
        return examples[0] if examples and len(examples) == 1 else examples
    chosen = preprocess if preprocess is not None else preprocessing_of(model)
    if chosen is None:
        raise OptionError(
            f"nothing says how the images of {source!r} become inputs of {model!r}",
            expected="--preprocess package.module:function",
            fix="name the function that takes uint8 (H, W, 3) and returns the network's input",
        )
    return ImageFolder(source, chosen)


def _call(source: str) -> list[Any]:
    import sys
    from importlib import import_module

    import numpy as np

    module_name, _, name = source.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        function = getattr(import_module(module_name), name)
    except Exception as error:  # the module is the user's: anything may happen while it is imported
        raise OptionError(
            f"cannot import {source!r}: {error}", expected=KINDS, fix="check the name"
        ) from error
    finally:
        sys.path.pop(0)
    try:
        result = function()
    except Exception as error:  # whatever the user's function raises is the user's to read
        raise OptionError(
            f"{source!r} raised {type(error).__name__}: {error}", expected=KINDS, fix="correct the function"
        ) from error
    return [np.asarray(x) for x in (result if isinstance(result, list | tuple) else [result])]


def check_folder_of(path: Path | None) -> None:
    """Refuse an output file before the work starts, if its folder does not exist.

    Raises
    ------
    OptionError
        If there is no such folder.
    """
    if path is not None and not path.parent.is_dir():
        raise OptionError(
            f"cannot write {str(path)!r}", expected="a folder that exists", fix=f"make {str(path.parent)!r}"
        )


def parse_shape(text: str | None) -> Any:
    """An array of zeros of a shape like ``1,3,224,224``, None for None.

    Raises
    ------
    OptionError
        If it is no shape.
    """
    if text is None:
        return None
    import numpy as np

    try:
        shape = tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        shape = ()
    if not shape or any(d < 1 for d in shape):
        raise OptionError(
            f"--shape {text!r}", expected="positive integers like 1,3,224,224", fix="correct it"
        )
    return np.zeros(shape, dtype=np.float32)


def parse_budget(text: str | None) -> dict[str, float] | None:
    """A budget like ``size=7``, None for None.

    Raises
    ------
    OptionError
        If it is not written like one; what it may limit is the library's to check.
    """
    if text is None:
        return None
    budget: dict[str, float] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = None
        if not key.strip() or not equals or number is None or key.strip() in budget:
            raise OptionError(
                f"--budget {text!r}",
                expected="quantity=number, like size=7 or cycles=400000,energy=300",
                fix="correct it",
            )
        budget[key.strip()] = number
    return budget


def parse_storage(text: str) -> Storage:
    """A known storage whose coder is installed.

    Raises
    ------
    OptionError
        If it is unknown.
    MissingExtraError
        If its coder is not installed.
    """
    from sd_tvm.weights import entropy
    from sd_tvm.weights.stored import STORAGES

    for storage in STORAGES:
        if text == storage:
            if storage == "entropy":
                entropy.coder()
            return storage
    raise OptionError(f"--storage {text!r}", expected=f"one of {', '.join(STORAGES)}", fix="correct it")
