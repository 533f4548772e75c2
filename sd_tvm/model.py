"""A compressed model: what ``compress`` makes, what a ``.sd`` file holds, and the way to Relax."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sd_tvm.format import QParams, StoredModel
    from sd_tvm.recipe import Recipe
    from sd_tvm.weights.stored import Storage
    from sd_tvm.weights.tensor import Weight


class CompressedModel:
    """A network with compressed weights.

    Parameters
    ----------
    stored
        Graph, weights, calibration and recipe.
    notes
        Sentences that its user must know, for example that it was not calibrated.
    """

    def __init__(self, stored: StoredModel, notes: tuple[str, ...] = ()) -> None:
        self.stored = stored
        self.notes = notes

    @property
    def weights(self) -> Mapping[str, Weight]:
        """Compressed weights by layer name."""
        return self.stored.weights

    @property
    def activations(self) -> Mapping[str, QParams]:
        """Calibrated quantisation by value name; empty if the model was not calibrated."""
        return self.stored.activations

    @property
    def recipe(self) -> Recipe | None:
        """The recipe that it was made with, if known."""
        return self.stored.recipe

    @property
    def report(self) -> list[dict[str, Any]]:
        """What became of every layer: name, operator, kind, reason, relative output error where measured."""
        return self.stored.report

    @property
    def is_calibrated(self) -> bool:
        """Whether activations have fixed ranges; if not, their scale is computed at run time."""
        return bool(self.stored.activations)

    @cached_property
    def nbytes(self) -> int:
        """Bytes of the file that :meth:`save` writes, with storage ``plain``."""
        from sd_tvm.format import dumps

        return len(dumps(self.stored))

    @property
    def fp32_bytes(self) -> int:
        """Bytes of the same weights and constants in float32."""
        n_weights = sum(w.shape[0] * w.shape[1] * w.shape[2] * w.shape[3] for w in self.weights.values())
        return 4 * n_weights + sum(t.nbytes for t in self.stored.tensors.values())

    @property
    def used_nbytes(self) -> int:
        """Bytes of the weights as kernels and accelerator use them (DRAM), however they are stored."""
        from sd_tvm.weights.packing import packed_nbytes
        from sd_tvm.weights.tensor import SDWeight

        return sum(
            packed_nbytes(w.shape, w.form, len(w.basis))
            if isinstance(w, SDWeight)
            else packed_nbytes(w.shape, None)
            for w in self.weights.values()
        )

    def save(self, path: str | PathLike[str], *, storage: Storage = "plain") -> int:
        """Write a ``.sd`` file; returns its bytes.

        Parameters
        ----------
        path
            File to write; an old one is replaced.
        storage
            ``entropy`` makes the file smaller by entropy coding; the model read from it is the same. Writing
            and reading it needs ``sd-tvm[entropy]``. What the weights take in use does not change.

        Raises
        ------
        FormatError
            If the file cannot be written, or the storage is unknown.
        MissingExtraError
            If the entropy coder is not installed.
        """
        from sd_tvm.format import write

        return write(path, self.stored, storage)

    def to_relax(self) -> Any:
        """Relax module whose weights are compressed constants and whose activations are calibrated.

        It is float32 from outside and runs on any target; ``tvm.compile(..., target="sd_accel")`` makes
        integer layers of it.

        Returns
        -------
        tvm.IRModule

        Raises
        ------
        FormatError
            If the graph is not valid.
        """
        from sd_tvm.relay_passes.decompose import Decompose
        from sd_tvm.relay_passes.graph_io import from_graph

        dense = {name: weight.dequantize() for name, weight in self.weights.items()}
        mod = from_graph(
            self.stored.graph, self.stored.tensors, weights=dense, activations=self.stored.activations
        )
        decompose: Any = Decompose(weights=self.stored.weights)
        return decompose(mod)

    def __repr__(self) -> str:
        state = "calibrated" if self.is_calibrated else "not calibrated"
        return f"CompressedModel({len(self.weights)} compressed layers, {state})"


def load(path: str | PathLike[str]) -> CompressedModel:
    """Read a ``.sd`` file; everything in it is verified before it is used.

    Raises
    ------
    FormatError
        Says what is wrong and where.
    MissingExtraError
        If the file is entropy coded and the coder is not installed.
    """
    from sd_tvm.format import read

    return CompressedModel(read(path))


def save(model: CompressedModel, path: str | PathLike[str], *, storage: Storage = "plain") -> int:
    """Write a ``.sd`` file, as :meth:`CompressedModel.save`; returns its bytes."""
    return model.save(path, storage=storage)
