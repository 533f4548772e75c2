"""Copies of elements cut into boxes of words, as LOAD and STORE move them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

from sd_tvm.accelerator.codegen.expr import unmapped


@dataclass(frozen=True)
class Dim:
    """A dimension of a copy: ``n`` steps on chip, of which [lo, hi) exist in DRAM."""

    n: int
    chip: int
    dram: int
    lo: int
    hi: int

    @property
    def padded(self) -> bool:
        """Whether some steps have no data."""
        return (self.lo, self.hi) != (0, self.n)


@dataclass(frozen=True)
class Box:
    """A copy in words: x is contiguous on both sides, y and z have strides."""

    x: Dim
    y: Dim
    z: Dim
    chip: int
    dram: int


def boxes(dims: list[Dim], chip: int, dram: int, chip_word: int, dram_word: int) -> Iterator[Box]:
    """Cut a copy of elements into boxes of words.

    Parameters
    ----------
    dims
        Its dimensions, strides in elements.
    chip, dram
        First element on each side.
    chip_word, dram_word
        Elements a word.

    Raises
    ------
    CodegenError
        If words are moved in part, or a third dimension is padded.
    """
    dims = [d for d in dims if d.n > 1 or d.padded]
    run = 1
    while True:
        inner = next((d for d in dims if (d.chip, d.dram) == (run, run) and not d.padded), None)
        if inner is None:
            break
        dims.remove(inner)
        run *= inner.n
    if run % chip_word or chip % chip_word or dram % dram_word:
        raise unmapped("a copy of parts of words", f"{run} elements from {chip}, {dram}")
    words = []
    for d in dims:
        if d.chip % chip_word or d.dram % dram_word:
            raise unmapped("a copy with strides inside words", d)
        words.append(replace(d, chip=d.chip // chip_word, dram=d.dram // dram_word))
    n = run // chip_word
    ratio = chip_word // dram_word
    x = Dim(n, 1, ratio, 0, n)
    if n == 1:
        # Where one step only has data, its stride in DRAM does not matter.
        row = next((d for d in words if d.chip == 1 and (d.dram == ratio or d.hi - d.lo <= 1)), None)
        if row is not None:
            words.remove(row)
            x = replace(row, dram=ratio)
    words.sort(key=lambda d: (not d.padded, d.chip))
    point = Dim(1, 0, 0, 0, 1)
    y, z, *rest = [*words, point, point]
    rest = [d for d in rest if d is not point]
    if z.padded or any(d.padded for d in rest):
        raise unmapped("a copy that is padded in three dimensions", words)
    for steps in itertools.product(*(range(d.n) for d in rest)):
        yield Box(
            x,
            y,
            z,
            chip // chip_word + sum(s * d.chip for s, d in zip(steps, rest, strict=True)),
            dram // dram_word + sum(s * d.dram for s, d in zip(steps, rest, strict=True)),
        )
