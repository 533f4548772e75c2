"""Disassembly with the source of every instruction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sd_tvm.accelerator.isa.disasm import format_instruction
from sd_tvm.accelerator.isa.program import Program
from sd_tvm.report.calls import Call, as_call, lines

#: Lines of a layer that a page shows; the file of :func:`write_listing` has all of them.
SHOWN_LINES = 40


@dataclass(frozen=True)
class Section:
    """Instructions of one layer of one call.

    Attributes
    ----------
    call
        Number of the call, from 0.
    layer
        Layer id inside the call (MARK).
    counts
        Number of instructions by name.
    lines
        The first ones as text, each with its number in the program.
    """

    call: int
    layer: int
    counts: dict[str, int]
    lines: tuple[str, ...]

    @property
    def total(self) -> int:
        """Instructions of the layer."""
        return sum(self.counts.values())


def sections(calls: Iterable[tuple[str, bytes] | Call], shown: int = SHOWN_LINES) -> list[Section]:
    """One section a layer of each call, in order of first appearance."""
    out = []
    for position, call in enumerate(calls):
        counts: dict[int, Counter[str]] = {}
        texts: dict[int, list[str]] = {}
        for line in lines(as_call(call).program):
            counts.setdefault(line.layer, Counter())[line.name] += 1
            text = texts.setdefault(line.layer, [])
            if len(text) < shown:
                text.append(f"{line.number:5d}  {format_instruction(line.name, line.fields)}")
        out += [Section(position, layer, dict(counts[layer]), tuple(texts[layer])) for layer in counts]
    return out


def listing(calls: Iterable[tuple[str, bytes] | Call]) -> Iterator[str]:
    """Lines of the complete listing; ``;`` starts what the assembler skips.

    Each run of instructions of a layer starts with the layer's chain: layer, TensorIR function, Relax
    bindings, names of the model.
    """
    for entry in calls:
        call = as_call(entry)
        program = Program.from_bytes(call.program)
        words = " ".join(f"{m.name}={n}" for m, n in program.required_words.items())
        yield f"; call {call.name}"
        yield f"; segments {' '.join(map(str, program.segment_bytes))}"
        yield f"; words {words}"
        layer: int | None = None
        for line in lines(call.program):
            if line.layer != layer:
                layer = line.layer
                chain = call.origin(layer).as_text()
                yield "; " + "; ".join(f"{key} {text}" for key, text in chain.items())
            yield f"{line.number:5d}  {format_instruction(line.name, line.fields)}"


def write_listing(path: str | Path, calls: Iterable[tuple[str, bytes] | Call]) -> Path:
    """Write :func:`listing`; returns the path."""
    target = Path(path)
    target.write_text("\n".join(listing(calls)) + "\n", encoding="utf-8", newline="")
    return target
