"""The options among which a layer's form is chosen."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sd_tvm.errors import BudgetError
from sd_tvm.recipe import Form, LayerInfo
from sd_tvm.weights.rows import RowGeometry
from sd_tvm.weights.stored import stored_nbytes
from sd_tvm.weights.tensor import RawWeight, SDWeight, Weight, WeightForm

#: Bases of the codebooks: nearly the accuracy of a basis for each filter in clearly fewer bytes.
BASES = 64
#: Part of the bytes by which a basis for each filter, or a codebook, must differ to be an option of its own.
CLEARLY_LARGER, HARDLY_LARGER = 0.10, 0.015


def _options() -> dict[str, Form | None]:
    found: dict[str, Form | None] = {"int8": None}
    for alphabet in ("two-term", "levels9", "levels7", "levels5", "ternary"):
        found[alphabet] = Form(alphabet=alphabet)
        found[f"{alphabet}-codebook"] = Form(alphabet=alphabet, basis="codebook", bases=BASES)
    found["8:16-codebook"] = Form(pattern="8:16", basis="codebook", bases=BASES)
    found["4:16-codebook"] = Form(pattern="4:16", basis="codebook", bases=BASES)
    return found


#: Options by name; None is int8 with one scale a filter. Dense forms by alphabet, from 12 bits for a row of
#: three coefficients down to 5, and two-term rows of which 8 or 4 of 16 are kept.
OPTIONS: dict[str, Form | None] = _options()


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


def options_of(geometry: RowGeometry, options: Mapping[str, Form | None]) -> dict[str, Form | None]:
    """The options that are worth measuring for one layer, by their bytes alone.

    Left out: SD forms that int8 undercuts; a basis for each filter where it takes clearly more than the
    codebook of the same codes; a codebook where a basis for each filter takes hardly more.
    """
    nbytes = {name: option_nbytes(geometry, form) for name, form in options.items()}
    raw = option_nbytes(geometry, None)
    kept = {name: form for name, form in options.items() if form is None or nbytes[name] < raw}
    for name, form in list(kept.items()):
        if form is None or form.basis != "codebook":
            continue
        free = form.model_copy(update={"basis": "filter", "bases": None})
        other = next((n for n, f in kept.items() if f == free), None)
        if other is None:
            continue
        if nbytes[other] > nbytes[name] * (1 + CLEARLY_LARGER):
            del kept[other]
        elif nbytes[other] < nbytes[name] * (1 + HARDLY_LARGER):
            del kept[name]
    return kept or dict(options)


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


def blank_weight(geometry: RowGeometry, option: Form | None) -> Weight:
    """A weight of zeros in an option: its file and its programs are as large as those of any other."""
    if option is None:
        return blank(geometry, None, 0)
    return blank(geometry, option.weight_form(geometry), option.n_bases(geometry))


def blank(geometry: RowGeometry, form: WeightForm | None, n_bases: int) -> Weight:
    """A weight of zeros in a form; None is int8."""
    m, s = geometry.shape[0], geometry.s
    scale = np.ones(m, dtype=np.float32)
    if form is None:
        return RawWeight(np.zeros(geometry.shape, dtype=np.int8), scale)
    coef = np.zeros((m, geometry.rows, s), dtype=np.int8)
    basis = np.zeros((n_bases, s, s), dtype=np.int8)
    ids = np.zeros(m, dtype=np.uint8) if form.basis_kind == "codebook" else None
    return SDWeight(geometry.shape, form, coef, basis, scale, ids)
