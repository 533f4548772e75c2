"""The way in: JSON, text or a file of either, with or without parameters."""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path
from typing import Any

from sd_tvm.errors import UnsupportedModelError
from sd_tvm.relay import messages
from sd_tvm.relay.arrays import read_params
from sd_tvm.relay.graph import Graph

#: Where the parameters of ``model.relay.json`` are looked for, if it has weights without values.
PARAMS_SUFFIX = ".params"


def load(source: str | PathLike[str], params: Any = None) -> Any:
    """Import a Relay module.

    Parameters
    ----------
    source
        What ``tvm.ir.save_json(relay.transform.InferType()(mod))`` or ``mod.astext()`` returned, or the path
        of a file that holds it. The JSON is exact; the text rounds scalar constants to six digits.
    params
        Weights that are inputs of the function: a mapping of names to arrays, or what
        ``relay.save_param_dict`` returned, or the path of a file that holds it. For a file ``net.json`` the
        file ``net.params`` beside it is the default.

    Returns
    -------
    tvm.IRModule
        Relax: ``main``, static shapes, weights as constants, names of layers recorded, as
        :func:`sd_tvm.load_model` returns it.

    Raises
    ------
    UnsupportedModelError
        Damaged or cut short; an unknown operator; a dynamic shape; control flow; several functions; missing
        parameters; text without its constants. The message names the node.
    UnsupportedDTypeError
        A floating-point type other than float32.
    """
    text, beside = _text_of(source)
    graph = read_graph(text)
    from sd_tvm.relay.importer import to_relax

    if params is None and beside is not None and beside.is_file():
        params = beside
    return to_relax(graph, {} if params is None else read_params(params))


def read_graph(text: str) -> Graph:
    """Graph of JSON or text, whichever it is."""
    start = text.lstrip()[:1]
    if start == "{":
        from sd_tvm.relay.jsonfile import read_json

        return read_json(text)
    from sd_tvm.relay.text import read_text

    return read_text(text)


def _text_of(source: str | PathLike[str]) -> tuple[str, Path | None]:
    """Text of a module, and where its parameters would be if it is a file."""
    if isinstance(source, str) and ("\n" in source or source.lstrip()[:1] in ("{", "#")):
        return source, None
    if not isinstance(source, str | PathLike):
        raise UnsupportedModelError(
            f"a {type(source).__name__} is no saved Relay module", expected=f"{messages.JSON}, or a path"
        )
    path = Path(source)
    try:
        return path.read_text(encoding="utf-8"), path.with_suffix(PARAMS_SUFFIX)
    except FileNotFoundError as error:
        raise UnsupportedModelError(
            f"no file {fspath(source)!r}",
            expected="a file that exists, or the JSON itself",
            fix="check the path",
        ) from error
    except (UnicodeDecodeError, OSError, ValueError) as error:
        raise UnsupportedModelError(
            f"cannot read {fspath(source)[:200]!r}: {error}", expected=messages.JSON, fix="check the file"
        ) from error
