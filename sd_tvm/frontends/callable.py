"""``module:callable``: a Python function that builds the model."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from sd_tvm.errors import UnsupportedModelError


def call(text: str, example_inputs: Any = None) -> Any:
    """Import what :func:`result` returns.

    Raises
    ------
    UnsupportedModelError
        The module or the function does not exist or fails.
    """
    from sd_tvm.frontends import load_model

    model = result(text)
    if isinstance(model, tuple) and len(model) == 2:
        model, inputs = model
        return load_model(model, inputs if example_inputs is None else example_inputs)
    return load_model(model, example_inputs)


def result(text: str) -> Any:
    """Import ``package.module:function`` (the working directory counts) and call it.

    The function takes nothing and returns a torch module, a pair (module, example_inputs), an
    ExportedProgram, an ONNX protobuf or an IRModule.

    Raises
    ------
    UnsupportedModelError
        The module or the function does not exist or fails.
    """
    module_name, _, path = text.partition(":")
    expected = "'package.module:function', where function() returns a model"
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        target: Any = import_module(module_name)
    except Exception as error:
        raise UnsupportedModelError(
            f"cannot import the module {module_name!r}: {error!r:.200}",
            expected=expected,
            fix="run from its directory, or install it",
        ) from error
    finally:
        sys.path.remove(here)
    for part in path.split("."):
        target = getattr(target, part, None)
    if not callable(target):
        public = sorted(n for n, v in vars(sys.modules[module_name]).items() if callable(v) and n[0] != "_")
        raise UnsupportedModelError(
            f"{module_name!r} has no callable {path!r}", expected=expected, fix=f"one of {public[:20]}"
        )
    try:
        return target()
    except UnsupportedModelError:
        raise
    except Exception as error:
        raise UnsupportedModelError(
            f"{text}() failed: {error!r:.200}", expected=expected, fix="call it on its own to see why"
        ) from error
