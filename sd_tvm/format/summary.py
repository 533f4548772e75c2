"""What is in a ``.sd`` file and what each part costs, in bytes that add up to the file."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass
from typing import Any

from sd_tvm.format.container import Container
from sd_tvm.format.io import read_parts
from sd_tvm.format.model import StoredModel
from sd_tvm.format.schema import storage_of, tensor_key, weight_key
from sd_tvm.weights.packing import packed_nbytes
from sd_tvm.weights.stored import ARRAY_NAMES
from sd_tvm.weights.tensor import SDWeight


@dataclass(frozen=True)
class LayerSummary:
    """One layer of a file.

    Attributes
    ----------
    name, kind
        Layer, and ``sd`` or ``int8``.
    shape
        (M, Cg, KH, KW).
    pattern, alphabet, basis
        Form of an SD layer, empty for int8. ``basis`` reads like ``filter x 64``.
    nbytes
        Bytes of the layer's arrays in the file, padding and scales included.
    used_nbytes
        Bytes as kernels and accelerator use them (DRAM): the code table too, rows as nibbles.
    bits_per_weight
        ``8 * nbytes`` over the number of weights of the dense layer.
    nonzero
        Fraction of weights that are not zero once rebuilt.
    """

    name: str
    kind: str
    shape: tuple[int, int, int, int]
    pattern: str
    alphabet: str
    basis: str
    nbytes: int
    used_nbytes: int
    bits_per_weight: float
    nonzero: float


@dataclass(frozen=True)
class Summary:
    """A whole file: ``file_bytes == header_bytes + tensor_bytes + sum of the layers' nbytes``.

    Attributes
    ----------
    schema_version
        Version of the schema.
    storage
        How weights are stored: ``plain``, ``entropy``, or ``in use`` (version 1).
    file_bytes, header_bytes, tensor_bytes
        The file; all of it but arrays (graph, names, activations, report, sums); its float32 tensors.
    fp32_bytes
        What the weights and tensors take as float32.
    layers
        In network order.
    versions
        What made the file.
    """

    schema_version: int
    storage: str
    file_bytes: int
    header_bytes: int
    tensor_bytes: int
    fp32_bytes: int
    layers: tuple[LayerSummary, ...]
    versions: dict[str, str]

    @property
    def used_nbytes(self) -> int:
        """Bytes of all weights as kernels and accelerator use them."""
        return sum(layer.used_nbytes for layer in self.layers)

    @property
    def ratio(self) -> float:
        """float32 bytes over the bytes of the file."""
        return self.fp32_bytes / self.file_bytes

    @property
    def header_share(self) -> float:
        """Header's part of the file, 0 to 1."""
        return self.header_bytes / self.file_bytes

    def to_dict(self) -> dict[str, Any]:
        """JSON data with stable keys."""
        return {
            **asdict(self),
            "used_nbytes": self.used_nbytes,
            "ratio": self.ratio,
            "header_share": self.header_share,
        }


def inspect(path: str | os.PathLike[str]) -> Summary:
    """Verify a file and say what is in it.

    Raises
    ------
    FormatError
        As :func:`~sd_tvm.format.read`.
    """
    return summarize(*read_parts(path))


def summarize(model: StoredModel, container: Container, file_bytes: int) -> Summary:
    """Summary of a file that was read."""
    layers = tuple(_layer(name, model, container) for name in model.weights)
    tensor_bytes = sum(container.tensors[tensor_key(name)].nbytes for name in model.tensors)
    weights = sum(math.prod(layer.shape) for layer in layers)
    return Summary(
        schema_version=int(container.version),
        storage=storage_of(container),
        file_bytes=file_bytes,
        header_bytes=container.header_bytes,
        tensor_bytes=tensor_bytes,
        fp32_bytes=4 * weights + tensor_bytes,
        layers=layers,
        versions=model.versions,
    )


def _layer(name: str, model: StoredModel, container: Container) -> LayerSummary:
    weight = model.weights[name]
    form = weight.form if isinstance(weight, SDWeight) else None
    keys = [weight_key(name, array) for array in ARRAY_NAMES]
    nbytes = sum(container.tensors[key].nbytes for key in keys if key in container.tensors)
    n = math.prod(weight.shape)
    dense = weight.integer()
    basis, bases = "", 0
    if form is not None and isinstance(weight, SDWeight):
        bases = weight.basis.shape[0]
        basis = f"{form.basis_kind} x {bases}"
    return LayerSummary(
        name=name,
        kind="int8" if form is None else "sd",
        shape=weight.shape,
        pattern="" if form is None else form.pattern,
        alphabet="" if form is None else form.alphabet,
        basis=basis,
        nbytes=nbytes,
        used_nbytes=packed_nbytes(weight.shape, form, bases),
        bits_per_weight=8 * nbytes / n,
        nonzero=float((dense != 0).mean()),
    )
