"""Calls of the accelerator with the way back: instruction -> layer -> TensorIR function, Relax, model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from sd_tvm.accelerator.isa.program import Program


@dataclass(frozen=True)
class Origin:
    """Where a layer comes from.

    Attributes
    ----------
    layer
        Name that reports show: the model's own name of the first node.
    function
        TensorIR function that its instructions are generated from.
    nodes
        Relax bindings that it computes; empty if only a library is known.
    sources
        The model's own names of those nodes.
    """

    layer: str
    function: str = ""
    nodes: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    def as_text(self) -> dict[str, str]:
        """The chain as ``layer``, ``tir``, ``relax`` and ``model``; what is not known is left out."""
        chain = {
            "layer": self.layer,
            "tir": self.function,
            "relax": ", ".join(self.nodes),
            "model": ", ".join(self.sources),
        }
        return {key: text for key, text in chain.items() if text}


class Call(NamedTuple):
    """One call of a program.

    Attributes
    ----------
    name
        Name to show.
    program
        Bytes of :class:`sd_tvm.accelerator.isa.Program`.
    origins
        Origin of each layer, in the order of the ids in MARK.
    """

    name: str
    program: bytes
    origins: tuple[Origin, ...] = ()

    def origin(self, layer: int) -> Origin:
        """Origin of a layer id; that of the call if there is none."""
        return self.origins[layer] if 0 <= layer < len(self.origins) else Origin(self.name)


class Line(NamedTuple):
    """An instruction with the layer that it belongs to."""

    number: int
    layer: int
    name: str
    fields: dict[str, Any]


def as_call(call: tuple[Any, ...]) -> Call:
    """A call from a tuple of its name, its program and, if known, its origins."""
    return Call(*call)


def lines(program: bytes) -> Iterator[Line]:
    """Instructions of a program with their layer ids; those before the first MARK belong to layer 0.

    Raises
    ------
    ProgramError
        If the bytes are no program.
    """
    layer = 0
    for index, (name, fields) in enumerate(Program.from_bytes(program).decoded()):
        if name == "MARK":
            layer = int(fields["layer"] or 0)
        yield Line(index, layer, name, fields)


def layer_ids(found: Iterable[Line]) -> list[int]:
    """Layer id of each instruction."""
    return [line.layer for line in found]
