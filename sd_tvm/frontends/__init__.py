"""Front ends: everything a user may call a model becomes one fp32 Relax module.

:func:`load_model` is the only entry point. What it returns has one function ``main`` with static shapes,
weights as constants, a single output unwrapped, and the module attribute ``sd.names`` that maps variable
names to the names of the user's layers. Importing this package loads neither TVM nor torch.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from sd_tvm.errors import UnsupportedModelError

#: What load_model accepts, for messages and documentation.
SOURCES = (
    "a torch.nn.Module with example_inputs, a torch.export.ExportedProgram, a path to a .pt2, .onnx or "
    ".relay.json file, 'module:callable', a name of sd_tvm.models, or a Relax IRModule"
)

#: Suffixes of saved Relay modules: JSON, text.
_RELAY = (".json", ".relay")


def load_model(source: Any, example_inputs: Sequence[Any] | Any | None = None) -> Any:
    """Import a model.

    Parameters
    ----------
    source
        A torch module (exported with ``example_inputs``), an ExportedProgram, the path of a ``.pt2``,
        ``.onnx`` or ``.relay.json`` file (see :func:`sd_tvm.relay.load`), ``"package.module:callable"`` (the
        callable takes nothing and returns a torch module, a pair (module, example_inputs), an ExportedProgram
        or an IRModule), the name of a network of :mod:`sd_tvm.models`, or an IRModule whose weights are
        constants.
    example_inputs
        Tensor(s) or array(s) that fix the input shapes. Needed for a torch module; for ONNX they replace
        symbolic dimensions.

    Returns
    -------
    tvm.IRModule
        ``main``: fp32, static shapes, weights as constants, a single output unwrapped.

    Raises
    ------
    UnsupportedModelError
        Dynamic shapes, control flow, an operator without a translation, no such file or callable.
    UnsupportedDTypeError
        A floating-point type other than float32.
    MissingExtraError
        torch or onnx is needed and not installed.
    """
    if isinstance(source, str | PathLike):
        return _from_text(fspath(source), example_inputs)
    module = type(source).__module__.partition(".")[0]
    if module == "tvm" and type(source).__name__ == "IRModule":
        from sd_tvm.frontends.checks import finish

        return finish(source)
    if module == "onnx" and type(source).__name__ == "ModelProto":
        from sd_tvm.frontends.onnx import from_proto

        return from_proto(source, example_inputs)
    torch = sys.modules.get("torch")
    if torch is not None:
        from sd_tvm.frontends.torch import from_module, from_program

        if isinstance(source, torch.export.ExportedProgram):
            return from_program(source)
        if isinstance(source, torch.nn.Module):
            return from_module(source, example_inputs)
    fix = ""
    if hasattr(source, "to_relax"):
        fix = "it is compressed already: tvm.compile its to_relax(), or compress the float32 network"
    raise UnsupportedModelError(
        f"a {type(source).__module__}.{type(source).__qualname__} is not a model", expected=SOURCES, fix=fix
    )


def _from_text(text: str, example_inputs: Any) -> Any:
    from sd_tvm.models import names, spec

    if text in names():
        text = spec(text)
    suffix = Path(text).suffix.lower()
    if suffix in (".pt2", ".onnx", *_RELAY):
        if not Path(text).is_file():
            raise UnsupportedModelError(
                f"no file {text!r}", expected="a file that exists", fix="check the path"
            )
        if suffix == ".pt2":
            from sd_tvm.frontends.torch import from_file as from_pt2

            return _of_shape(from_pt2(text), example_inputs)
        if suffix in _RELAY:
            from sd_tvm.relay import load as from_relay

            return _of_shape(from_relay(text), example_inputs)
        from sd_tvm.frontends.onnx import from_file as from_onnx

        return from_onnx(text, example_inputs)
    if ":" in text:
        from sd_tvm.frontends.callable import call

        return call(text, example_inputs)
    fix = {
        ".pt": "save with torch.export.save(torch.export.export(model, inputs), 'model.pt2')",
        ".pth": "save with torch.export.save(torch.export.export(model, inputs), 'model.pt2')",
        ".sd": "this is a compressed model: use sd_tvm.load(), or compress the float32 network",
    }.get(suffix, "export the model as .pt2 or .onnx, or save a Relay module as .relay.json")
    raise UnsupportedModelError(
        f"cannot import {text!r}: unknown suffix {suffix!r}", expected=SOURCES, fix=fix
    )


def _of_shape(mod: Any, example_inputs: Any) -> Any:
    """The module, if examples that were given beside it have its shapes: its shapes are fixed."""
    if example_inputs is None:
        return mod
    from sd_tvm.relay_passes._rewrite import static_shape

    examples = example_inputs if isinstance(example_inputs, list | tuple) else [example_inputs]
    given = [tuple(getattr(e, "shape", ())) for e in examples]
    fixed = [static_shape(p) for p in mod["main"].params]
    if given != fixed:
        raise UnsupportedModelError(
            f"example inputs of shapes {given}",
            expected=f"{fixed}: the exported program has these shapes",
            fix="leave the example inputs out, or export the model with other shapes",
        )
    return mod


__all__ = ["SOURCES", "load_model"]
