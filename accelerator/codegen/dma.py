"""Copy nests to LOAD and STORE."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from sd_tvm._tvm import ir, tirx
from sd_tvm.accelerator.codegen.expr import (
    Env,
    Key,
    Linear,
    at_least_zero,
    linear,
    narrow,
    unmapped,
)
from sd_tvm.accelerator.codegen.memory import MemoryMap, element_bytes, memory_of
from sd_tvm.accelerator.codegen.stream import Access, Stream
from sd_tvm.accelerator.codegen.tree import Nest
from sd_tvm.accelerator.isa.spec import BY_NAME, Mem, Xform

_DRAM_WORD = 16
_LANES = 16
_MAX_PAD = (1 << next(f.bits for f in BY_NAME["LOAD"].fields if f.name == "pad_l")) - 1


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


def _copy_dims(
    nest: Nest,
    ranges: dict[Any, tuple[int, int]],
    chip: Linear,
    dram: Linear,
    data: dict[Any, tuple[int, int]],
) -> tuple[list[Dim], int, int]:
    """Dimensions and first elements of a copy over ``ranges``, of which ``data`` exist in DRAM."""
    dims, first_chip, first_dram = [], chip.const, dram.const
    for var in nest.extents:
        lo, hi = ranges[var]
        first, last = data[var]
        dims.append(Dim(hi - lo, chip.of(var), dram.of(var), first - lo, last - lo))
        first_chip += chip.of(var) * lo
        first_dram += dram.of(var) * first
    return dims, first_chip, first_dram


class LoadNest:
    """A nest that copies an operand to the chip, with padding and widening."""

    def __init__(self, nest: Nest, segments: dict[Key, int]) -> None:
        self.nest = nest
        store = nest.only_store()
        self.buffer = store.buffer
        self.mem = memory_of(store.buffer)
        self.chip = _plain(store.index)
        value, self.widen, self.zero_point = _unwiden(store.value, self.mem)
        self.conditions: list[Linear] = []
        self.pad = self.zero_point
        if isinstance(value, ir.Call) and str(value.op.name).endswith("if_then_else"):
            condition, value, otherwise = value.args
            if not isinstance(otherwise, tirx.IntImm):
                raise unmapped("padding with something else than a constant", otherwise)
            self.conditions = at_least_zero(condition)
            self.pad = int(otherwise.value)
            if self.widen and self.pad != self.zero_point:
                raise unmapped("a widening copy padded with another value than its zero point", self.pad)
        #: Without a source everything is padding.
        self.sourced = not isinstance(value, tirx.IntImm)
        if not self.sourced:
            self.pad, self.segment, self.dram = int(value.value), 0, Linear()
            self.signed, self.bytes = False, 1
            return
        if not isinstance(value, ir.TensorLoad) or hash(value.source) not in segments:
            raise unmapped("the value of a load", value)
        self.segment = segments[hash(value.source)]
        self.dram = _plain(value.indices[0])
        self.signed = str(value.source.dtype) == "int8"
        self.bytes = element_bytes(value.source)

    def emit(self, env: Env, memory: MemoryMap, stream: Stream) -> list[tuple[Box, int]]:
        """Emit the LOADs of one iteration; returns the boxes with their first on-chip word."""
        ranges = self.nest.ranges(env)
        if ranges is None:
            return []
        data = dict(ranges)
        exists = self.sourced
        for condition in self.conditions:
            exists = narrow(data, condition, env) and exists
        data = {v: (lo, max(lo, hi)) for v, (lo, hi) in data.items()}
        place = memory.of(self.buffer)
        dims, chip, dram = _copy_dims(self.nest, ranges, self.chip.bind(env), self.dram.bind(env), data)
        if not exists:
            # Padding alone: any layout in DRAM will do, the one on chip makes one run.
            dims, dram = [replace(d, lo=0, hi=d.n, dram=d.chip) for d in dims], 0
        dram_word = _DRAM_WORD // self.bytes
        chip_word = _LANES if self.mem in (Mem.ACC, Mem.INP) else dram_word
        dram_word = dram_word if exists else chip_word
        out = []
        for box in boxes(dims, chip, dram, chip_word, dram_word):
            for part in [box] if exists else _pads_only(box):
                self._emit_box(part, place.start, stream)
                out.append((part, place.start + part.chip))
        return out

    def _emit_box(self, box: Box, base: int, stream: Stream) -> None:
        x, y, z = box.x, box.y, box.z
        assert self.mem is not None
        first = base + box.chip
        last = first + (x.n - 1) + (y.n - 1) * y.chip + (z.n - 1) * z.chip + 1
        stream.emit(
            "LOAD",
            {
                "flags": int(self.widen and self.signed),
                "mem": int(self.mem),
                "xform": int(Xform.WIDEN if self.widen else Xform.COPY),
                "seg": self.segment,
                "dram": box.dram,
                "sram": first,
                "x": x.hi - x.lo,
                "y": y.hi - y.lo,
                "z": z.n,
                "sram_ys": y.chip,
                "sram_zs": z.chip,
                "dram_ys": y.dram,
                "dram_zs": z.dram,
                "pad_l": x.lo,
                "pad_r": x.n - x.hi,
                "pad_t": y.lo,
                "pad_b": y.n - y.hi,
                "pad_value": self.pad & 0xFF,
            },
            writes=[Access(self.mem, first, last)],
        )


class StoreNest:
    """A nest that copies results from the chip."""

    def __init__(self, nest: Nest, segments: dict[Key, int]) -> None:
        self.nest = nest
        store = nest.only_store()
        value = store.value
        if not isinstance(value, ir.TensorLoad) or hash(store.buffer) not in segments:
            raise unmapped("the value of a store", value)
        self.mem = memory_of(value.source)
        if self.mem not in (Mem.OUT, Mem.ACC):
            raise unmapped("a store from", self.mem)
        self.buffer = value.source
        self.segment = segments[hash(store.buffer)]
        self.chip, self.dram = _plain(value.indices[0]), _plain(store.index)
        self.bytes = element_bytes(store.buffer)

    def emit(self, env: Env, memory: MemoryMap, stream: Stream) -> None:
        """Emit the STOREs of one iteration."""
        ranges = self.nest.ranges(env)
        if ranges is None:
            return
        place = memory.of(self.buffer)
        dims, chip, dram = _copy_dims(self.nest, ranges, self.chip.bind(env), self.dram.bind(env), ranges)
        for box in boxes(dims, chip, dram, _LANES, _DRAM_WORD // self.bytes):
            x, y, z = box.x, box.y, box.z
            first = place.start + box.chip
            last = first + (x.n - 1) + (y.n - 1) * y.chip + (z.n - 1) * z.chip + 1
            assert self.mem is not None
            stream.emit(
                "STORE",
                {
                    "mem": int(self.mem),
                    "seg": self.segment,
                    "dram": box.dram,
                    "sram": first,
                    "x": x.n,
                    "y": y.n,
                    "z": z.n,
                    "sram_ys": y.chip,
                    "sram_zs": z.chip,
                    "dram_ys": y.dram,
                    "dram_zs": z.dram,
                },
                reads=[Access(self.mem, first, last)],
            )


def _plain(index: Any) -> Linear:
    out = linear(index)
    if out.atoms:
        raise unmapped("the address of a copy", index)
    return out


def _unwiden(value: Any, mem: Mem | None) -> tuple[Any, bool, int]:
    """(8-bit value, True, zero point) of int32(value) - zero point; (value, False, 0) of others."""
    zero = 0
    inner = value
    if isinstance(value, tirx.Sub) and isinstance(value.b, tirx.IntImm):
        inner, zero = value.a, int(value.b.value)
    elif isinstance(value, tirx.Add) and isinstance(value.b, tirx.IntImm):
        inner, zero = value.a, -int(value.b.value)
    if isinstance(inner, tirx.Cast) and mem is Mem.ACC:
        return inner.value, True, zero
    if mem is Mem.ACC or inner is not value:
        raise unmapped("the value of a load", value)
    return value, False, 0


def _pads_only(box: Box) -> Iterator[Box]:
    """Boxes without data that fill the same words: their rows are padding above nothing."""
    for row in range(0, box.y.n, _MAX_PAD):
        n = min(_MAX_PAD, box.y.n - row)
        yield replace(box, y=replace(box.y, n=n, lo=n, hi=n), chip=box.chip + row * box.y.chip, dram=0)
