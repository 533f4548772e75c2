"""Checkpoints of a compression: what is finished is stored at once, and a later run takes it from there.

A folder holds ``inputs.json`` (what the run was asked for, as digests and versions) and one file for every
piece of work. Files are written under another name, synced and renamed, so a file is whole or not there. A
folder of other inputs is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from sd_tvm._library import installed_library
from sd_tvm.decompose.native import LIBRARY
from sd_tvm.errors import CheckpointError, FormatError
from sd_tvm.format.container import decode, encode
from sd_tvm.format.strictjson import canonical
from sd_tvm.weights.tensor import RawWeight, SDWeight, Weight, WeightForm

if TYPE_CHECKING:
    from sd_tvm.recipe import Recipe

T = TypeVar("T")
#: Raised when old folders cannot be read any more.
CHECKPOINT_VERSION = 2
_INPUTS = "inputs.json"
_SOURCES = (".py", ".h", ".cc")
#: Packages whose code decides the bytes of a fit.
_CODE = ("calibration", "decompose", "format", "numerics", "recipe", "relay_passes", "tradeoff", "weights")


@dataclass(frozen=True)
class LayerFit:
    """What a fitted layer leaves.

    Attributes
    ----------
    weight
        The weight.
    error
        Squared error of the output relative to the output's variance.
    bias
        The corrected bias, None for a layer without one.
    facts
        What else the report is to say of the layer; JSON values.
    """

    weight: Weight
    error: float = 0.0
    bias: npt.NDArray[np.float32] | None = None
    facts: dict[str, Any] = field(default_factory=dict)


class Checkpoint:
    """A folder with the finished pieces of one run.

    Parameters
    ----------
    folder
        Made if it does not exist.
    inputs
        Everything the result depends on, by what it is called in messages; JSON values.

    Raises
    ------
    CheckpointError
        If the folder holds a run with other inputs, or something else, or cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str], inputs: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        wanted = json.loads(json.dumps({"checkpoint version": CHECKPOINT_VERSION, **inputs}))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            names = {p.name for p in self.folder.iterdir()}
        except OSError as error:
            raise CheckpointError(f"cannot use the folder {str(folder)!r}: {error.strerror}") from error
        if _INPUTS in names:
            self._compare(wanted)
        elif any(not name.startswith(".") for name in names):
            raise CheckpointError(
                f"{str(folder)!r} holds files but no checkpoint",
                expected="an empty folder, one that does not exist, or that of an earlier run",
                fix="give another folder",
            )
        else:
            self.write(_INPUTS, json.dumps(wanted, indent=1, sort_keys=True).encode())
        for part in self.folder.glob(".*.part"):  # a run that was killed while it wrote
            part.unlink(missing_ok=True)

    def _compare(self, wanted: dict[str, Any]) -> None:
        stored = self.read_json(_INPUTS)
        differ = sorted(key for key in wanted.keys() | stored.keys() if wanted.get(key) != stored.get(key))
        if differ:
            raise CheckpointError(
                f"the checkpoint in {str(self.folder)!r} is of another run: "
                + "; ".join(
                    f"{key} {_brief(stored.get(key))}, now {_brief(wanted.get(key))}" for key in differ
                ),
                expected="the inputs it was begun with",
                fix="give another folder, or delete this one to begin anew",
            )

    def stage(self, name: str, recipe: Recipe, layers: Iterable[str]) -> Stage:
        """The fits of one recipe.

        Parameters
        ----------
        name
            What kind of fit.
        recipe
            The recipe.
        layers
            Names of all layers, always in the same order.
        """
        return Stage(self, f"{name}-{_digest(recipe.to_dict())[:12]}", tuple(layers))

    def measured(self, option: str, layers: Iterable[str]) -> Stage:
        """The fits of one option that was measured alone; layers are as for :meth:`stage`."""
        return Stage(self, f"measured-{_digest(option)[:12]}", tuple(layers))

    def read_json(self, name: str) -> Any:
        """A JSON file of the folder, None if it is not there.

        Raises
        ------
        CheckpointError
            If it is damaged.
        """
        data = self.read(name)
        try:
            return None if data is None else json.loads(data)
        except ValueError as error:
            raise self.damaged(name, error) from error

    def write_json(self, name: str, value: Any) -> None:
        """Store a JSON value; floats come back bit by bit."""
        self.write(name, json.dumps(value, allow_nan=False).encode())

    def read(self, name: str) -> bytes | None:
        """A file of the folder, None if it is not there."""
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self.damaged(name, error) from error

    def write(self, name: str, data: bytes) -> None:
        """Write a file so that at no time there is a part of it under its name.

        Raises
        ------
        CheckpointError
            If it cannot be written.
        """
        part = self.folder / f".{name}.{secrets.token_hex(8)}.part"
        try:
            with part.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.folder / name)
            folder = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise CheckpointError(
                f"cannot write the checkpoint {str(self.folder / name)!r}: {error.strerror}",
                fix="make space, or run without a checkpoint",
            ) from error

    def damaged(self, name: str, error: Exception) -> CheckpointError:
        """The error for a file that cannot be read."""
        return CheckpointError(
            f"{str(self.folder / name)!r} is damaged: {error}",
            expected="a file as it was written",
            fix="delete that file; what it held is computed again",
        )


def remember(checkpoint: Checkpoint | None, name: str, kind: type[T], compute: Callable[[], T]) -> T:
    """A dataclass of plain values: from the checkpoint if it is there, else computed and stored.

    Parameters
    ----------
    checkpoint
        None: it is computed.
    name
        Name of the file.
    kind
        The dataclass.
    compute
        Makes it.

    Raises
    ------
    CheckpointError
        If the file is damaged.
    """
    stored = None if checkpoint is None else checkpoint.read_json(name)
    if checkpoint is not None and stored is not None:
        try:
            return TypeAdapter(kind).validate_python(stored)
        except ValidationError as error:
            raise checkpoint.damaged(name, error) from error
    value = compute()
    if checkpoint is not None:
        checkpoint.write_json(name, TypeAdapter(kind).dump_python(value, mode="json"))
    return value


@dataclass(frozen=True)
class Stage:
    """Fits of layers in a checkpoint.

    Attributes
    ----------
    checkpoint, name
        Where, and the beginning of the files' names.
    layers
        Names of all layers, in order: a file is called by a layer's number.
    """

    checkpoint: Checkpoint
    name: str
    layers: tuple[str, ...]

    def load(self, layer: str) -> LayerFit | None:
        """The fit of a layer, None if it has not been stored.

        Raises
        ------
        CheckpointError
            If its file is damaged.
        """
        file = self._file(layer)
        data = self.checkpoint.read(file)
        if data is None:
            return None
        try:
            return _decoded(data, layer)
        except (FormatError, ValueError, KeyError, TypeError) as error:
            raise self.checkpoint.damaged(file, error) from error

    def save(self, layer: str, fit: LayerFit) -> None:
        """Store the fit of a layer; when this returns, nothing but the disk's end can undo it."""
        self.checkpoint.write(self._file(layer), _encoded(layer, fit))

    def _file(self, layer: str) -> str:
        return f"{self.name}-{self.layers.index(layer):04d}.fit"


def _digest(value: Any) -> str:
    """Digest of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def code_digest() -> str:
    """Digest of this package's code as far as it decides the bytes of a fit."""
    found = hashlib.sha256()
    root = resources.files("sd_tvm")
    for package in _CODE:
        _add_code(found, root.joinpath(package), package)
    found.update(installed_library(LIBRARY).read_bytes())  # the solver's sources are not installed
    return found.hexdigest()


def _add_code(found: Any, folder: Any, name: str) -> None:
    for file in sorted(folder.iterdir(), key=lambda f: f.name):
        if file.is_dir() and file.name != "__pycache__":
            _add_code(found, file, f"{name}/{file.name}")
        elif file.name.endswith(_SOURCES):
            found.update(f"{name}/{file.name}\0".encode() + file.read_bytes() + b"\0")


def module_digest(mod: Any) -> str:
    """Digest of a simplified module: its graph and all its constants."""
    from sd_tvm.relay_passes.graph_io import to_graph

    graph, tensors = to_graph(mod)
    found = hashlib.sha256(json.dumps(graph.to_json(), sort_keys=True).encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        found.update(f"{name}\0{array.dtype.str}{array.shape}".encode() + array.tobytes())
    return found.hexdigest()


def _encoded(layer: str, fit: LayerFit) -> bytes:
    weight = fit.weight
    tensors: dict[str, npt.NDArray[Any]] = {"scale": weight.scale}
    meta: dict[str, Any] = {"layer": layer, "error": fit.error, "facts": fit.facts}
    if isinstance(weight, SDWeight):
        meta |= {"kind": "sd", "shape": list(weight.shape), "form": asdict(weight.form)}
        tensors |= {"coef": weight.coef, "basis": weight.basis}
        if weight.ids is not None:
            tensors["ids"] = weight.ids
    else:
        meta["kind"] = "int8"
        tensors["values"] = weight.values
    if fit.bias is not None:
        tensors["bias"] = fit.bias.reshape(-1)
        meta["bias shape"] = list(fit.bias.shape)
    return encode(tensors, canonical(meta))


def _decoded(data: bytes, layer: str) -> LayerFit:
    container = decode(data)
    meta, tensors = json.loads(container.metadata), container.tensors
    if meta["layer"] != layer:
        raise ValueError(f"it is of layer {meta['layer']!r}, not {layer!r}")
    weight: Weight
    if meta["kind"] == "sd":
        a, b, c, d = meta["shape"]
        form = WeightForm(**meta["form"])
        weight = SDWeight(
            (a, b, c, d), form, tensors["coef"], tensors["basis"], tensors["scale"], tensors.get("ids")
        )
    else:
        weight = RawWeight(tensors["values"], tensors["scale"])
    bias = tensors["bias"].reshape(meta["bias shape"]) if "bias" in tensors else None
    return LayerFit(weight, float(meta["error"]), bias, dict(meta["facts"]))


def _brief(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 60 else f"{text[:57]}..."
