"""Copy nests to LOAD and STORE."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from sd_tvm._tvm import ir, tirx
from sd_tvm.accelerator.codegen.binding import Binding, Home
from sd_tvm.accelerator.codegen.boxes import Box, Dim, boxes
from sd_tvm.accelerator.codegen.expr import (
    Env,
    Linear,
    at_least_zero,
    linear,
    narrow,
    unmapped,
)
from sd_tvm.accelerator.codegen.memory import MemoryMap
from sd_tvm.accelerator.codegen.provenance import Provenance
from sd_tvm.accelerator.codegen.scopes import element_bytes, memory_of
from sd_tvm.accelerator.codegen.stream import Access, Stream
from sd_tvm.accelerator.codegen.tree import Nest, TreeBuilder
from sd_tvm.accelerator.isa.spec import BY_NAME, Mem, Xform
from sd_tvm.layers import PACKED_LANES
from sd_tvm.schedules.ops import RECORD_BYTES

_DRAM_WORD = 16
_LANES = 16
#: Elements of a word of memories that words of the DRAM do not fill.
_CHIP_WORD: dict[Mem | None, int] = {Mem.ACC: _LANES, Mem.INP: _LANES, Mem.LUT: 256}
_MAX_PAD = (1 << next(f.bits for f in BY_NAME["LOAD"].fields if f.name == "pad_l")) - 1


def _copy_dims(
    nest: Nest,
    ranges: dict[Any, tuple[int, int]],
    chip: Linear,
    dram: Linear,
    data: dict[Any, tuple[int, int]],
    home: Home,
) -> tuple[list[Dim], int, int]:
    """Dimensions and first elements of a copy over ``ranges``, of which ``data`` exist in DRAM."""
    dims, first_chip, first_dram = [], chip.const, dram.const
    for var in nest.extents:
        lo, hi = ranges[var]
        first, last = data[var]
        stride = home.stride(dram.of(var)) if hi - lo > 1 else dram.of(var)
        dims.append(Dim(hi - lo, chip.of(var), stride, first - lo, last - lo))
        first_chip += chip.of(var) * lo
        first_dram += dram.of(var) * first
    return dims, first_chip, home.at(first_dram) if first_dram >= 0 else first_dram


class LoadNest:
    """A nest that copies an operand to the chip, with padding and widening."""

    def __init__(self, nest: Nest, tree: TreeBuilder) -> None:
        self.nest = nest
        segments = tree.segments
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
            self.pad, self.param, self.dram = int(value.value), 0, Linear()
            self.signed, self.bytes, self.home, self.packed = False, 1, Home(), False
            return
        if not isinstance(value, ir.TensorLoad) or hash(value.source) not in segments:
            raise unmapped("the value of a load", value)
        self.param = segments[hash(value.source)]
        self.home = tree.homes[self.param]
        if self.home.mem is not None:
            raise unmapped("a load of something on chip", value)
        self.dram = _plain(value.indices[0])
        self.signed = str(value.source.dtype) == "int8"
        self.bytes = element_bytes(value.source)
        #: 4 channels a pixel in DRAM, a word on chip.
        self.packed = tree.packed == self.param

    def emit(self, env: Env, memory: MemoryMap, stream: Stream, binding: Binding, held: Provenance) -> None:
        """Emit the LOADs of one iteration, save those of constants that are there already."""
        ranges = self.nest.ranges(env)
        if ranges is None:
            return
        data = dict(ranges)
        exists = self.sourced
        for condition in self.conditions:
            exists = narrow(data, condition, env) and exists
        data = {v: (lo, max(lo, hi)) for v, (lo, hi) in data.items()}
        place = memory.of(self.buffer)
        chip_at, dram_at = self.chip.bind(env), self.dram.bind(env)
        dims, chip, dram = _copy_dims(self.nest, ranges, chip_at, dram_at, data, self.home)
        dram += binding.first
        if not exists:
            # Padding alone: any layout in DRAM will do, the one on chip makes one run.
            dims, dram = [replace(d, lo=0, hi=d.n, dram=d.chip) for d in dims], 0
        if self.packed and exists:
            self._emit_packed(dims, chip, dram, place.start, stream, binding.segment)
            return
        dram_word = _DRAM_WORD // self.bytes
        chip_word = PACKED_LANES if self.packed else _CHIP_WORD.get(self.mem, dram_word)
        dram_word = dram_word if exists else chip_word
        for box in boxes(dims, chip, dram, chip_word, dram_word):
            if not self.activation and held.holds(box, self.mem, place.start, binding.segment):
                continue
            for part in [box] if exists else _pads_only(box):
                if binding.records is not None:
                    self._emit_records(part, place.start, stream, binding)
                else:
                    self._emit_box(part, place.start, stream, binding.segment)
                if not self.activation:
                    held.load(part, self.mem, place.start, binding.segment)

    def _emit_packed(
        self, dims: list[Dim], chip: int, dram: int, base: int, stream: Stream, segment: int
    ) -> None:
        """One LOAD with EXPAND4: a pixel of 4 bytes becomes a word."""
        lane = next((d for d in dims if (d.n, d.chip, d.dram) == (PACKED_LANES, 1, 1)), None)
        pixels = [
            replace(d, chip=d.chip // PACKED_LANES, dram=d.dram // PACKED_LANES)
            for d in dims
            if d is not lane and (d.n > 1 or d.padded)
        ]
        x = next((d for d in pixels if d.chip == 1), Dim(1, 1, 1, 0, 1))
        rest = sorted((d for d in pixels if d is not x), key=lambda d: d.chip)
        point = Dim(1, 0, 0, 0, 1)
        y, z, *more = [*rest, point, point]
        if lane is None or z.padded or any(d is not point for d in more) or y.dram % 4 or z.dram % 4:
            raise unmapped("a copy of packed pixels", dims)
        first, skip = divmod(dram // PACKED_LANES, 4)
        y, z = replace(y, dram=y.dram // 4), replace(z, dram=z.dram // 4)
        box = Box(x, y, z, chip // PACKED_LANES, first)
        self._emit_box(box, base, stream, segment, Xform.EXPAND4, skip << 1)

    def _emit_records(self, box: Box, base: int, stream: Stream, binding: Binding) -> None:
        """A LOAD with SPREAD9; rows of the packed segment start at whole words.

        Words of filters beyond the last one are not written: no instruction reads them.
        """
        assert binding.records is not None
        box = replace(
            box,
            x=replace(box.x, n=box.x.hi - box.x.lo, lo=0, hi=box.x.hi - box.x.lo),
            y=replace(box.y, n=box.y.hi - box.y.lo, lo=0, hi=box.y.hi - box.y.lo),
            chip=box.chip + box.x.lo + box.y.lo * box.y.chip,
        )
        strides = (box.dram, box.y.dram if box.y.n > 1 else 0, box.z.dram if box.z.n > 1 else 0)
        if any(s % _DRAM_WORD for s in strides):
            raise unmapped("a load of records that start inside a word", strides)
        dram, y, z = (s // _DRAM_WORD * RECORD_BYTES for s in strides)
        packed = replace(box, dram=dram, y=replace(box.y, dram=y), z=replace(box.z, dram=z))
        zero, low, high = binding.records
        more = {"pad_value": zero, "fill": low | high << 8}
        self._emit_box(packed, base, stream, binding.segment, Xform.SPREAD9, more=more)

    @property
    def activation(self) -> bool:
        """Whether the data change from call to call; weights and quantisation words do not."""
        return self.mem in (Mem.INP, Mem.ACC, None)

    def _emit_box(
        self,
        box: Box,
        base: int,
        stream: Stream,
        segment: int,
        xform: Xform = Xform.COPY,
        flags: int = 0,
        more: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        x, y, z = box.x, box.y, box.z
        assert self.mem is not None
        first = base + box.chip
        last = first + (x.n - 1) + (y.n - 1) * y.chip + (z.n - 1) * z.chip + 1
        stream.emit(
            "LOAD",
            {
                "flags": flags or int(self.widen and self.signed),
                "mem": int(self.mem),
                "xform": int(Xform.WIDEN if self.widen else xform),
                "seg": segment,
                "dram": box.dram,
                "sram": first,
                "x": (x.hi - x.lo) * (x.dram if self.mem in (Mem.LUT, Mem.ACC) else 1),
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
                **more,
            },
            reads=[segment_access(segment, box)] if self.activation and box.y.hi > box.y.lo else [],
            writes=[Access(self.mem, first, last)],
        )


class StoreNest:
    """A nest that copies results from the chip."""

    def __init__(self, nest: Nest, tree: TreeBuilder) -> None:
        self.nest = nest
        segments = tree.segments
        store = nest.only_store()
        value = store.value
        if not isinstance(value, ir.TensorLoad) or hash(store.buffer) not in segments:
            raise unmapped("the value of a store", value)
        self.mem = memory_of(value.source)
        if self.mem not in (Mem.OUT, Mem.ACC):
            raise unmapped("a store from", self.mem)
        self.buffer = value.source
        self.param = segments[hash(store.buffer)]
        self.home = tree.homes[self.param]
        if self.home.mem is not None:
            raise unmapped("a store to something on chip", value)
        self.chip, self.dram = _plain(value.indices[0]), _plain(store.index)
        self.bytes = element_bytes(store.buffer)

    def emit(self, env: Env, memory: MemoryMap, stream: Stream, binding: Binding) -> None:
        """Emit the STOREs of one iteration."""
        ranges = self.nest.ranges(env)
        if ranges is None:
            return
        place = memory.of(self.buffer)
        chip_at, dram_at = self.chip.bind(env), self.dram.bind(env)
        dims, chip, dram = _copy_dims(self.nest, ranges, chip_at, dram_at, ranges, self.home)
        dram += binding.first
        for box in boxes(dims, chip, dram, _LANES, _DRAM_WORD // self.bytes):
            x, y, z = box.x, box.y, box.z
            first = place.start + box.chip
            last = first + (x.n - 1) + (y.n - 1) * y.chip + (z.n - 1) * z.chip + 1
            assert self.mem is not None
            stream.emit(
                "STORE",
                {
                    "mem": int(self.mem),
                    "seg": binding.segment,
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
                writes=[segment_access(binding.segment, box)],
            )


def segment_access(segment: int, box: Box) -> Access:
    """The words of a segment that a box touches, and those between them."""
    spans = [(d.hi - d.lo - 1) * d.dram for d in (box.x, box.y, box.z)]
    return Access(("dram", segment), box.dram, box.dram + sum(max(0, s) for s in spans) + 1)


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
    if mem is Mem.ACC and isinstance(value, ir.TensorLoad) and str(value.source.dtype) == "int32":
        return value, False, 0
    if mem is Mem.ACC or inner is not value:
        raise unmapped("the value of a load", value)
    return value, False, 0


def _pads_only(box: Box) -> Iterator[Box]:
    """Boxes without data that fill the same words: their rows are padding above nothing."""
    for row in range(0, box.y.n, _MAX_PAD):
        n = min(_MAX_PAD, box.y.n - row)
        yield replace(box, y=replace(box.y, n=n, lo=n, hi=n), chip=box.chip + row * box.y.chip, dram=0)
