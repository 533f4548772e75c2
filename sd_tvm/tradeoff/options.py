"""The options among which a layer's form is chosen."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sd_tvm.errors import BudgetError
from sd_tvm.recipe import Form, LayerInfo
from sd_tvm.weights.rows import RowGeometry
from sd_tvm.weights.stored import stored_nbytes

#: Options by name; None is int8 with one scale a filter. Codebooks of 64: nearly the accuracy of a basis for
#: each filter in clearly fewer bytes (docs/accuracy.md).
OPTIONS: dict[str, Form | None] = {
    "int8": None,
    "16:16": Form(pattern="16:16"),
    "16:16-codebook": Form(pattern="16:16", basis="codebook", bases=64),
    "8:16-codebook": Form(pattern="8:16", basis="codebook", bases=64),
    "4:16-codebook": Form(pattern="4:16", basis="codebook", bases=64),
}


def checked_options(options: Mapping[str, Form | None] | Sequence[str] | None) -> dict[str, Form | None]:
    """The options as a dictionary; names refer to :data:`OPTIONS`, None is all of these.

    Raises
    ------
    BudgetError
        If there are none, or a name is unknown.
    """
    if options is None:
        return dict(OPTIONS)
    if not isinstance(options, Mapping):
        unknown = [name for name in options if name not in OPTIONS]
        if unknown:
            raise BudgetError(
                f"unknown options {unknown}", expected=f"among {list(OPTIONS)}", fix="correct the names"
            )
        options = {name: OPTIONS[name] for name in options}
    if not options:
        raise BudgetError("no options", expected="at least one", fix=f"take some of {list(OPTIONS)}")
    return dict(options)


def option_nbytes(geometry: RowGeometry, option: Form | None) -> int:
    """Bytes of a layer in a file: codes, indices, bases and ids with their padding, one scale a filter.

    A codebook counts in full: a fit that leaves some of its bases without a filter stores fewer.
    """
    if option is None:
        return stored_nbytes(geometry.shape, None)
    return stored_nbytes(geometry.shape, option.weight_form(geometry), option.n_bases(geometry))


def option_rule(layer: LayerInfo, option: Form | None) -> dict[str, Any]:
    """Rule that gives one layer an option, by its exact name."""
    pattern = {"regex": re.escape(layer.name)} if set("*?[") & set(layer.name) else {"name": layer.name}
    if option is None:
        return {**pattern, "kind": "int8"}
    form = option.model_dump(mode="json", exclude_none=True)
    return {**pattern, "kind": "sd", "form": form, "even_if_larger": True}  # the measured bytes decided
