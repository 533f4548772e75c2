"""The inner layer of a ``.sd`` file: what the tensors and the JSON mean, and every check on it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sd_tvm.errors import FormatError, MissingExtraError, SDError
from sd_tvm.format.container import Container, Tensors
from sd_tvm.format.graph_check import GraphNames, check_graph
from sd_tvm.format.model import SCHEMA_VERSION, StoredModel
from sd_tvm.format.strictjson import REWRITE, canonical, parse
from sd_tvm.graph import Graph
from sd_tvm.numerics.qparams import INTEGERS, QParams
from sd_tvm.recipe import Recipe
from sd_tvm.weights.alphabet import ALPHABETS
from sd_tvm.weights.stored import (
    STORAGES,
    Storage,
    names_in_use,
    restore,
    restore_in_use,
    store,
    stored_names,
)
from sd_tvm.weights.tensor import SDWeight, Weight, WeightForm
from sd_tvm.weights.verify import check_form

#: A layer may not unpack to more than this many times the file's size (hostile shapes), plus a constant.
MAX_EXPANSION = 256
FREE_BYTES = 2**24

#: Alphabets that version 1 knows.
_ALPHABETS_OF_VERSION_1 = ("pow2-5", "pow2-7", "two-term")
_Scalar = str | int | float | bool | None
_Dim = Annotated[int, Field(ge=1, lt=2**31)]
_Shape4 = Annotated[list[_Dim], Field(min_length=4, max_length=4)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class _FormEntry(_Entry):
    pattern: str
    alphabet: str
    basis_kind: str
    slice_rows: int
    kept_rows: int
    group_filters: int


class _WeightEntry(_Entry):
    kind: Literal["sd", "int8"]
    shape: _Shape4
    form: _FormEntry | None


class _ActivationEntry(_Entry):
    scale: float
    zero_point: int
    dtype: Literal["uint8", "int8"]


class _Document(_Entry):
    schema_version: Literal[1, 2]
    storage: Storage | None = None  # from version 2 on
    graph: dict[str, Any]
    tensors: list[str]
    weights: dict[str, _WeightEntry]
    alphabets: dict[str, list[int]]
    activations: dict[str, _ActivationEntry]
    recipe: dict[str, Any] | None
    report: list[dict[str, _Scalar]]
    versions: dict[str, str]


def to_container(model: StoredModel, storage: Storage = "plain") -> tuple[Tensors, str]:
    """Tensors by key and the JSON text of a model.

    Parameters
    ----------
    model
        What to store.
    storage
        How weights are stored (:mod:`sd_tvm.weights.stored`).

    Raises
    ------
    FormatError
        If a part of the model cannot be stored, or the storage is unknown.
    MissingExtraError
        If storage 'entropy' has no coder.
    """
    if storage not in STORAGES:
        raise FormatError(f"storage {storage!r}", expected=f"one of {STORAGES}", fix="correct the option")
    tensors: Tensors = {}
    for name, array in model.tensors.items():
        if array.dtype != np.float32:
            raise FormatError(f"tensor {name!r} is {array.dtype}", expected="float32", fix="convert it")
        tensors[tensor_key(name)] = array
    for layer, weight in model.weights.items():
        with _within(f"layer {layer!r}"):
            for kind, packed in store(weight, storage).items():
                tensors[weight_key(layer, kind)] = packed
    return tensors, canonical(_document(model, SCHEMA_VERSION, storage))


def _document(model: StoredModel, version: int, storage: Storage | None) -> dict[str, Any]:
    """JSON data of a model."""
    weights: dict[str, Any] = {}
    alphabets: dict[str, list[int]] = {}
    for layer, weight in model.weights.items():
        form = weight.form if isinstance(weight, SDWeight) else None
        if form is not None:
            alphabets[form.alphabet] = form.table.table.tolist()
        weights[layer] = {
            "kind": "int8" if form is None else "sd",
            "shape": list(weight.shape),
            "form": None if form is None else asdict(form),
        }
    return {
        "schema_version": version,
        **({} if storage is None else {"storage": storage}),
        "graph": model.graph,
        "tensors": sorted(model.tensors),
        "weights": weights,
        "alphabets": alphabets,
        "activations": {name: asdict(q) for name, q in model.activations.items()},
        "recipe": None if model.recipe is None else model.recipe.to_dict(),
        "report": model.report,
        "versions": model.versions,
    }


def from_container(container: Container, file_bytes: int) -> StoredModel:
    """Verify everything and build the model.

    Parameters
    ----------
    container
        Bytes whose sums agree.
    file_bytes
        Size of the file, which bounds what its weights may unpack to.

    Raises
    ------
    FormatError
        Names the key, layer or tensor that is wrong.
    """
    document = _parse_document(container.metadata, int(container.version))
    if (document.storage is None) != (document.schema_version == 1):
        raise FormatError(
            f"model.sd: storage {document.storage!r} in version {document.schema_version}",
            expected="a storage from version 2 on",
            fix=REWRITE,
        )
    _check_keys(document, set(container.tensors))
    names = check_graph(document.graph)
    Graph.from_json(document.graph)  # its operators' attributes too
    _check_references(document, names)
    activations = {name: _activation(name, entry) for name, entry in document.activations.items()}
    _check_alphabets(document)
    tensors = {}
    for name in document.tensors:
        array = container.tensors[tensor_key(name)]
        if array.dtype != np.float32 or np.isnan(array).any():
            raise FormatError(
                f"tensor {name!r} is {array.dtype} or holds NaN", expected="float32 numbers", fix=REWRITE
            )
        tensors[name] = array
    budget = MAX_EXPANSION * file_bytes + FREE_BYTES
    weights: dict[str, Weight] = {}
    order = {node["name"]: i for i, node in enumerate(document.graph["nodes"])}
    for layer in sorted(document.weights, key=lambda name: order.get(name, len(order))):
        entry = document.weights[layer]
        with _within(f"layer {layer!r}"):
            budget -= math.prod(entry.shape)
            if budget < 0:
                raise FormatError(
                    f"weight shape {entry.shape} is absurd for a file of {file_bytes} bytes",
                    expected=f"at most {MAX_EXPANSION} weights a byte",
                    fix=REWRITE,
                )
            weights[layer] = _unpack(layer, entry, container.tensors, document.storage)
    with _within("recipe"):
        recipe = None if document.recipe is None else Recipe.from_dict(document.recipe)
    model = StoredModel(
        graph=document.graph,
        tensors=tensors,
        weights=weights,
        activations=activations,
        recipe=recipe,
        report=[dict(row) for row in document.report],
        versions=document.versions,
    )
    _check_text(model, container.metadata, document)
    return model


def tensor_key(name: str) -> str:
    """Key of a plain tensor in the container."""
    return f"tensors/{name}"


def weight_key(layer: str, array: str) -> str:
    """Key of a packed array of a layer in the container."""
    return f"weights/{layer}/{array}"


def storage_of(container: Container) -> str:
    """How a verified file stores its weights; ``in use`` for version 1."""
    return str(parse(container.metadata, "model.sd").get("storage", "in use"))


def _names(form: WeightForm | None, storage: Storage | None) -> tuple[str, ...]:
    """Names of a weight's arrays; version 1 has no storage."""
    return names_in_use(form) if storage is None else stored_names(form, storage)


def _unpack(layer: str, entry: _WeightEntry, tensors: Tensors, storage: Storage | None) -> Weight:
    form = _form(entry)
    m, cg, kh, kw = entry.shape
    arrays = {name: tensors[weight_key(layer, name)] for name in _names(form, storage)}
    if storage is None:
        return restore_in_use(arrays, (m, cg, kh, kw), form)
    return restore(arrays, (m, cg, kh, kw), form, storage)


def _form(entry: _WeightEntry) -> WeightForm | None:
    if (entry.form is None) != (entry.kind == "int8"):
        raise FormatError(
            f"kind {entry.kind!r} {'without' if entry.form is None else 'with'} a form",
            expected="a form for 'sd', null for 'int8'",
            fix=REWRITE,
        )
    if entry.form is None:
        return None
    form = WeightForm(**entry.form.model_dump())
    m, cg, kh, kw = entry.shape
    check_form((m, cg, kh, kw), form)
    return form


def _parse_document(text: str, wanted: int) -> _Document:
    data = parse(text, "model.sd")
    if not isinstance(data, dict):
        raise FormatError("model.sd: not an object", fix=REWRITE)
    version = data.get("schema_version")
    if type(version) is not int or version != wanted:
        newer = type(version) is int and version > SCHEMA_VERSION
        raise FormatError(
            f"schema_version is {version!r}",
            expected=f"{wanted}",
            fix="install a newer sd-tvm" if newer else "write the file again with `sd-tvm compress`",
        )
    try:
        document = _Document.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(["model.sd", *(str(part) for part in first["loc"])])
        raise FormatError(
            f"{where}: {first['msg']}", expected="the schema in docs/format.md", fix=REWRITE
        ) from error
    return document


def _check_text(model: StoredModel, text: str, document: _Document) -> None:
    """The JSON is exactly what the model is written as (no default left out, 1.0 and not 1, ...)."""
    wanted = _document(model, document.schema_version, document.storage)
    if canonical(wanted) == text:
        return
    found = parse(text, "model.sd")
    wrong = [key for key in sorted(wanted) if canonical(wanted[key]) != canonical(found[key])]
    where = f"model.sd.{wrong[0]}" if wrong else "model.sd"
    raise FormatError(
        f"{where}: not in canonical form",
        expected="sorted keys, no whitespace, nothing left out, each number as it is written",
        fix=REWRITE,
    )


def _check_keys(document: _Document, found: set[str]) -> None:
    """Exactly the expected tensors are there."""
    if sorted(set(document.tensors)) != document.tensors:
        raise FormatError("model.sd.tensors: not sorted, or a name twice", fix=REWRITE)
    wanted = {tensor_key(name) for name in document.tensors}
    for layer, entry in document.weights.items():
        with _within(f"layer {layer!r}"):
            wanted |= {weight_key(layer, array) for array in _names(_form(entry), document.storage)}
    missing, extra = sorted(wanted - found), sorted(found - wanted)
    if missing:
        raise FormatError(f"tensor {missing[0]!r} is missing ({len(missing)} in all)", fix=REWRITE)
    if extra:
        raise FormatError(
            f"tensor {extra[0]!r} belongs to nothing ({len(extra)} in all)",
            expected="only tensors that the model lists",
            fix=REWRITE,
        )


def _check_references(document: _Document, names: GraphNames) -> None:
    """Constants resolve, and nothing is stored that the graph does not use."""
    for what, stored, used in (
        ("tensor", set(document.tensors), names.constants),
        ("weights of layer", set(document.weights), names.layers),
        ("activation", set(document.activations), names.values),
    ):
        unused = sorted(stored - used)
        if unused:
            raise FormatError(
                f"{what} {unused[0]!r} is not used by the graph",
                expected="nothing but what the graph uses",
                fix=REWRITE,
            )
    bare = sorted(names.layers - set(document.weights))
    if bare:
        raise FormatError(
            f"graph node {bare[0]!r}: its weight is not stored",
            expected='a weight for every node with {"weight": true}',
            fix=REWRITE,
        )
    dangling = sorted(names.constants - set(document.tensors))
    if dangling:
        user = next(n["name"] for n in document.graph["nodes"] if dangling[0] in n["inputs"])
        raise FormatError(
            f"graph node {user!r}: input {dangling[0]!r} is nowhere defined",
            expected="a graph input, an earlier node or a stored tensor",
            fix=REWRITE,
        )


def _activation(name: str, entry: _ActivationEntry) -> QParams:
    lo, hi = INTEGERS[entry.dtype]
    if not (entry.scale > 0 and float(_float32(entry.scale)) == entry.scale):
        raise FormatError(
            f"activation {name!r}: scale {entry.scale}",
            expected="a finite number > 0 that float32 holds exactly",
            fix=REWRITE,
        )
    if not lo <= entry.zero_point <= hi:
        raise FormatError(
            f"activation {name!r}: zero point {entry.zero_point}",
            expected=f"{lo} to {hi} ({entry.dtype})",
            fix=REWRITE,
        )
    return QParams(entry.scale, entry.zero_point, entry.dtype)


def _float32(value: float) -> np.float32:
    with np.errstate(over="ignore"):
        return np.float32(value)


def _check_alphabets(document: _Document) -> None:
    """Every code table used is listed, none else, and each is the one this version knows."""
    used = {entry.form.alphabet for entry in document.weights.values() if entry.form is not None}
    newer = sorted(used.difference(_ALPHABETS_OF_VERSION_1)) if document.schema_version == 1 else []
    if newer:
        raise FormatError(
            f"alphabet {newer[0]!r} in version 1", expected=f"{_ALPHABETS_OF_VERSION_1}", fix=REWRITE
        )
    if set(document.alphabets) != used:
        raise FormatError(
            f"model.sd.alphabets: {sorted(document.alphabets)}",
            expected=f"exactly {sorted(used)}",
            fix=REWRITE,
        )
    for name, table in document.alphabets.items():
        if table != ALPHABETS[name].table.tolist():
            raise FormatError(
                f"model.sd.alphabets.{name}: {table!s:.80}",
                expected=f"{ALPHABETS[name].table.tolist()}",
                fix=REWRITE,
            )


@contextmanager
def _within(where: str) -> Iterator[None]:
    """Prefix of the errors of parts."""
    try:
        yield
    except MissingExtraError:
        raise
    except SDError as error:
        raise FormatError(
            f"{where}: {error.found}", expected=error.expected, fix=error.fix or REWRITE
        ) from error
