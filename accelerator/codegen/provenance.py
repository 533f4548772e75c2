"""Which constants are on chip already."""

from __future__ import annotations

from collections.abc import Iterator

from sd_tvm.accelerator.codegen.boxes import Box
from sd_tvm.accelerator.codegen.expr import unmapped
from sd_tvm.accelerator.isa.spec import Mem


class Provenance:
    """Which constants the words of a memory hold: (first, last + 1) -> (segment, DRAM word of first)."""

    def __init__(self) -> None:
        self.runs: dict[Mem, dict[tuple[int, int], tuple[int, int]]] = {}

    def load(self, box: Box, mem: Mem | None, base: int, segment: int) -> None:
        """The words of a box were loaded."""
        assert mem is not None
        runs = self.runs.setdefault(mem, {})
        for first, words, dram in _rows(box, base):
            for lo, hi in [r for r in runs if r[0] < first + words and first < r[1]]:
                del runs[lo, hi]
            runs[first, first + words] = (segment, dram)

    def holds(self, box: Box, mem: Mem | None, base: int, segment: int) -> bool:
        """Whether all words of a box are there already."""
        runs = self.runs.get(mem, {}) if mem is not None else {}
        return all(runs.get((first, first + n)) == (segment, dram) for first, n, dram in _rows(box, base))

    def of(self, mem: Mem, word: int) -> tuple[int, int]:
        """(segment, DRAM word) that a word holds.

        Raises
        ------
        CodegenError
            If nothing was loaded there.
        """
        for (lo, hi), (segment, dram) in self.runs.get(mem, {}).items():
            if lo <= word < hi:
                return segment, dram + word - lo
        raise unmapped(f"a read of {mem.name} before it is loaded", word)


def _rows(box: Box, base: int) -> Iterator[tuple[int, int, int]]:
    """(first word on chip, words, DRAM word) of each contiguous row of a box of constants."""
    for plane in range(box.z.lo, box.z.hi):
        for row in range(box.y.lo, box.y.hi):
            first = base + box.chip + plane * box.z.chip + row * box.y.chip + box.x.lo
            dram = box.dram + (plane - box.z.lo) * box.z.dram + (row - box.y.lo) * box.y.dram
            yield first, box.x.hi - box.x.lo, dram
