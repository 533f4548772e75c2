"""Dense layers at one pixel, straight from the codes: the weights are read once and never rebuilt.

With per-filter bases, T[k, t] = sum over rows of code[k] * x[t] is what the inner loop adds, and the
filter's result is sum over k, t of B[k, t] * T[k, t]: exact integers, and the basis is met once a filter.

Codes are looked up in the alphabet's 16 entries and x by the row's index in its block of 16, both with one
byte shuffle. Products of bytes are added in pairs; as |x| <= 255 and codes are bounded, ``chain`` results add
up in int16 without overflow for any input. VNNI and NEON add four products to int32 at once instead.

x is what the instruction set multiplies, unsigned or signed (:mod:`sd_tvm.schedules.cpu.operand`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm._tvm import ir_builder, tirx
from sd_tvm.layers import LANES, ConvLayer, blocks16
from sd_tvm.schedules.cpu.epilogue import Epilogue
from sd_tvm.schedules.cpu.guard import kernel_body
from sd_tvm.schedules.cpu.isa import Isa
from sd_tvm.schedules.cpu.operand import Operand
from sd_tvm.schedules.cpu.vec import (
    LINE,
    Buffer,
    Expr,
    Registers,
    as_type,
    bind,
    concat,
    filters,
    flat,
    i64,
    load,
    part,
    pick,
    plus,
    prefetch,
    repeat,
    scratch,
    splat,
    store,
    t,
    times,
)
from sd_tvm.schedules.ops.tir import dims, mark_layer
from sd_tvm.weights.packing import from_tiles
from sd_tvm.weights.rows import CHANNEL_ROW, ROWS_PER_BLOCK
from sd_tvm.weights.tensor import ROWS_KEPT, SDWeight, WeightForm

_S = CHANNEL_ROW
_SLOTS = 4
_INT16_MAX = 32767
#: Codes are asked for so many bytes before they are used: several times what memory sends in its latency.
_AHEAD = 16384
#: Bases and words are asked for so many blocks of filters before.
_BLOCKS_AHEAD = 4


def chain(form: WeightForm) -> int:
    """How many sums of two products of a byte and a code add up in int16 for any input."""
    return _INT16_MAX // (2 * 255 * form.table.max_code)


@dataclass(frozen=True)
class Units:
    """How codes lie in memory: units of one vector of lanes, 4 slots of each filter.

    Attributes
    ----------
    layer, isa
        What for.
    """

    layer: ConvLayer
    isa: Isa

    @property
    def form(self) -> WeightForm:
        """Form of the weight."""
        assert self.layer.form is not None
        return self.layer.form

    @property
    def filters(self) -> int:
        """Filters of a unit."""
        return self.isa.width // _SLOTS

    @property
    def halves(self) -> int:
        """Units side by side in a block of 16 filters."""
        return LANES // self.filters

    @property
    def two_blocks(self) -> bool:
        """Whether a unit holds two slots of two blocks (2:16)."""
        return self.form.pattern == "2:16"

    @property
    def apart(self) -> bool:
        """Whether the slots of two blocks have 16 lanes each, so that one shuffle picks from both."""
        return self.two_blocks and not self.isa.dot

    @property
    def blocks(self) -> int:
        """Blocks of 16 rows; of 2:16 an even number."""
        blocks = self.layer.geometry.blocks
        return -(-blocks // 2) * 2 if self.two_blocks else blocks

    @property
    def slices(self) -> int:
        """Bases of a filter."""
        return self.form.n_slices(self.layer.geometry)

    @property
    def per_block(self) -> tuple[int, int]:
        """(units, blocks) that go together."""
        keep = ROWS_KEPT[self.form.pattern]
        return (1, 2) if self.two_blocks else (keep // _SLOTS, 1)

    @property
    def count(self) -> int:
        """Units of a filter."""
        units, blocks = self.per_block
        return self.blocks // blocks * units

    @property
    def bytes(self) -> int:
        """Bytes of a unit."""
        return self.isa.width * self.form.planes(_S) // 2

    def range_of(self, which: int) -> tuple[int, int]:
        """First unit of a slice, and how many it has."""
        if self.slices == 1:
            return 0, self.count
        units, blocks = self.per_block
        size = self.form.slice_rows // ROWS_PER_BLOCK // blocks * units
        first = which * size
        return first, min(size, self.count - first)


def pack_codes(units: Units, codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """uint8 (MB, halves, units, bytes of a unit) from the bytes in use (``docs/weights.md``)."""
    form, lanes = units.form, units.isa.width
    nibbles = from_tiles(codes, form.planes(_S))
    slots = units.count * _SLOTS
    padded = np.zeros((blocks16(units.layer.out_channels) * LANES, slots, form.planes(_S)), dtype=np.uint8)
    taken = min(slots, nibbles.shape[1])
    padded[: nibbles.shape[0], :taken] = nibbles[:, :taken]
    shape = (-1, units.filters, units.count, _SLOTS, form.planes(_S))
    if units.apart:  # per 8 filters: block, filter, slot
        split = padded.reshape(-1, units.filters // 8, 8, units.count, 2, 2, form.planes(_S))
        ordered = split.transpose(0, 3, 6, 1, 4, 2, 5)
    else:
        ordered = padded.reshape(shape).transpose(0, 2, 4, 1, 3)
    flat_lanes = ordered.reshape(-1, units.count, form.planes(_S), lanes)
    even = form.planes(_S) // 2 * 2
    pairs = flat_lanes[:, :, 0:even:2] | (flat_lanes[:, :, 1:even:2] << 4)
    parts = [pairs.reshape(pairs.shape[0], units.count, -1)]
    if form.planes(_S) % 2:
        last = flat_lanes[:, :, -1]
        parts.append(last[..., : lanes // 2] | (last[..., lanes // 2 :] << 4))
    packed = np.concatenate(parts, axis=2)
    return np.ascontiguousarray(packed.reshape(-1, units.halves, units.count, units.bytes))


def pack_bases(units: Units, weight: SDWeight) -> npt.NDArray[np.int8]:
    """int8 (MB, halves, slices, 9, filters of a unit): element (k, t) of the filters' bases."""
    m = weight.shape[0]
    first_rows = np.arange(units.slices) * max(units.form.slice_rows, 1)
    which = weight.basis_of_rows()[:, first_rows if units.slices > 1 else [0]]
    bases = np.zeros((blocks16(m) * LANES, units.slices, _S * _S), dtype=np.int8)
    bases[:m] = weight.basis.reshape(-1, _S * _S)[which]
    shaped = bases.reshape(-1, units.halves, units.filters, units.slices, _S * _S)
    return np.ascontiguousarray(shaped.transpose(0, 1, 3, 4, 2))


def build_gemv(layer: ConvLayer, isa: Isa, symbol: str, epilogue: Epilogue) -> Any:
    """PrimFunc of a dense layer at one pixel. Operands: x, codes, bases, table, the epilogue's.

    Parameters
    ----------
    layer
        Batch 1, 1x1 image and kernel, no groups; pattern N:16.
    isa
        Instruction set.
    symbol
        Name of the function.
    epilogue
        Of the layer.
    """
    return Gemv(layer, isa, Units(layer, isa), epilogue).build(symbol)


class Gemv:
    """Builds the kernel, statement by statement.

    Parameters
    ----------
    layer, isa
        As for :func:`build_gemv`.
    units
        How codes lie in memory.
    epilogue
        Of the layer.
    """

    #: Tables of 16 bytes that codes are looked up in.
    tables = 1

    def __init__(self, layer: ConvLayer, isa: Isa, units: Units, epilogue: Epilogue) -> None:
        self.layer, self.isa, self.units, self.epilogue = layer, isa, units, epilogue
        self.rows = self.units.blocks * ROWS_PER_BLOCK
        self.mbs = blocks16(layer.out_channels)

    def build(self, symbol: str) -> Any:
        """The PrimFunc."""
        layer, units, mbs = self.layer, self.units, self.mbs
        cbs = blocks16(layer.in_channels)
        basis_shape = (mbs, units.halves, units.slices, _S * _S, units.filters)
        with ir_builder.IRBuilder() as frame, t.prim_func(s_tir=True):
            t.func_name(symbol)
            x = t.arg("x", t.Buffer(dims(1, cbs, 1, 1, LANES), layer.in_dtype))
            shape = (mbs, units.halves, units.count, units.bytes)
            codes = t.arg("codes", t.Buffer(dims(*shape), "uint8"))
            bases = t.arg("bases", t.Buffer(dims(*basis_shape), "int8"))
            table = t.arg("table", t.Buffer(dims(self.tables * LANES), "int8"))
            self.epilogue.arguments()
            self.codes = flat(codes, mbs * units.halves * units.count * units.bytes, "uint8")
            self.bases = flat(bases, mbs * units.halves * units.slices * _S * _S * units.filters, "int8")
            with kernel_body(self.isa, symbol):
                self.xs = scratch(_S * self.rows, "uint8")
                with t.serial(i64(_AHEAD // 2 // LINE)) as line:
                    prefetch(self.codes, line * i64(LINE))
                self._planes(flat(x, cbs * LANES, layer.in_dtype))
                lanes = self.isa.width // LANES
                each = [load(table, i64(i * LANES), LANES) for i in range(self.tables)]
                self.looked = [bind(repeat(value, LANES, lanes)) for value in each]
                with filters(mbs, layer.macs) as mb:
                    self._ask(mb + i64(_BLOCKS_AHEAD))
                    y = scratch(LANES, "uint32")
                    with t.serial(i64(units.halves)) as half:
                        self._filters(y, bind(mb * i64(units.halves) + half), half)
                    results = self.epilogue.of(mb)
                    results.store(mb, bind(plus(load(y, i64(0), LANES), results.bias())))
        return mark_layer(frame.get(), symbol, layer)

    def _planes(self, x: Buffer) -> None:
        """Element t of every row side by side; zero beyond the channels."""
        channels, operand = self.layer.in_channels, Operand(self.layer, self.isa.operand)
        wide, rows = channels // (_S * LANES), -(-channels // _S)
        if wide:
            with t.serial(i64(wide)) as i:
                three = [bind(load(x, (i * i64(_S) + i64(k)) * i64(LANES), LANES)) for k in range(_S)]
                for k in range(_S):
                    value = operand.of(pick(three, range(k, _S * LANES, _S)), LANES)
                    store(self.xs, i64(k * self.rows) + i * i64(LANES), value, LANES)
        for r in range(wide * LANES, rows):
            for k in range(_S):
                c = r * _S + k
                value = operand.of(x[i64(c)], 1) if c < channels else tirx.const(0, "uint8")
                t.buffer_store(self.xs, value, [i64(k * self.rows + r)])
        if rows < self.rows:
            with t.serial(i64(self.rows - rows)) as r:
                for k in range(_S):
                    t.buffer_store(self.xs, tirx.const(0, "uint8"), [i64(k * self.rows + rows) + r])

    def _ask(self, mb: Expr) -> None:
        """Ask for what a block of filters reads besides its codes, too little at a time to be foreseen."""
        bases = self.units.slices * _S * _S * LANES
        block = self.epilogue.scaling.block_bytes
        words = 4 * LANES if self.layer.out == "i32" else block
        for buffer, step, size in ((self.bases, bases, bases), (self.epilogue.qp, block, words)):
            with t.serial(i64(-(-size // LINE))) as line:
                prefetch(buffer, mb * i64(step) + line * i64(LINE))

    def _filters(self, y: Buffer, which: Expr, half: Expr) -> None:
        """Sums of the filters of one unit, without bias."""
        units, n = self.units, self.units.filters
        sums = Registers(_S * _S, "uint32", n)
        result = Registers(1, "uint32", n)
        result.clear()
        for s in range(units.slices):
            sums.clear()
            first, count = units.range_of(s)
            self.add_units(sums, which * i64(units.count) + i64(first), i64(first), count)
            for i in range(_S * _S):
                at = ((which * i64(units.slices) + i64(s)) * i64(_S * _S) + i64(i)) * i64(n)
                basis = as_type(load(self.bases, at, n).astype(f"int32x{n}"), f"uint32x{n}")
                result[0] = plus(result[0], times(basis, sums[i]))
        store(y, half * i64(n), result[0], n)

    def add_units(self, sums: Registers, at: Expr, unit: Expr, count: int) -> None:
        """Add ``count`` units; ``at`` counts units in memory, ``unit`` those of a filter."""
        if self.isa.dot:
            with t.serial(i64(count)) as j:
                for i, (x, code) in enumerate(self._products(at + j, unit + j)):
                    sums[i] = self.isa.add_quads8(sums[i], x, code)
            return
        length = chain(self.units.form)
        whole, rest = divmod(count, length)
        if whole:
            with t.serial(i64(whole)) as g:
                self._chain(sums, at + g * i64(length), unit + g * i64(length), length)
        if rest:
            self._chain(sums, at + i64(whole * length), unit + i64(whole * length), rest)

    def _chain(self, sums: Registers, at: Expr, unit: Expr, count: int) -> None:
        """Add ``count`` units in int16, then to the sums."""
        short = Registers(_S * _S, "int16", self.isa.width // 2)
        short.clear()
        with t.serial(i64(count)) as j:
            for i, (x, code) in enumerate(self._products(at + j, unit + j)):
                short[i] = plus(short[i], self.isa.pairs8(x, code))
        n = self.units.filters
        for i in range(_S * _S):
            if not self.units.apart:
                ones = splat(1, "int16", self.isa.width // 2)
                sums[i] = self.isa.add_pairs16(sums[i], short[i], ones)
                continue
            value = bind(short[i])
            for block in range(2):
                eights = [part(value, 8 * (2 * e + block), 8) for e in range(n // 8)]
                wide = concat(eights, 8).astype(f"int32x{n}")
                sums[i] = plus(sums[i], as_type(wide, f"uint32x{n}"))

    def _products(self, at: Expr, unit: Expr) -> list[tuple[Expr, Expr]]:
        """The nine pairs (x of t, code k) of a unit, in the order (k, t)."""
        xs, nibbles = self.picked(at, unit)
        codes = [bind(self.looked_up(0, n)) for n in nibbles]
        return [(xs[i % _S], codes[i // _S]) for i in range(_S * _S)]

    def looked_up(self, table: int, nibbles: Expr) -> Expr:
        """Entries of a table at nibbles, a byte each."""
        return self.isa.lookup(self.looked[table], as_type(nibbles, f"int8x{self.isa.width}"))

    def picked(self, at: Expr, unit: Expr) -> tuple[list[Expr], list[Expr]]:
        """(bytes of x of each t, nibbles of each k) of a unit."""
        units, lanes = self.units, self.isa.width
        indexed = units.form.indexed
        first = bind(at * i64(units.bytes))
        for line in range(0, units.bytes, LINE):
            prefetch(self.codes, first + i64(_AHEAD + line))
        nibbles = self._nibbles(first)
        index = nibbles.pop(0) if indexed else None
        xs = []
        for k in range(_S):
            base = i64(k * self.rows)
            if index is None:
                four = as_type(load(self.xs, base + unit * i64(_SLOTS), _SLOTS), "int32")
                xs.append(bind(as_type(tirx.Broadcast(four, lanes // 4), f"int8x{lanes}")))
                continue
            per, blocks = units.per_block
            size = ROWS_PER_BLOCK * blocks
            block = tirx.floordiv(unit, i64(per)) if per > 1 else unit
            at = base + block * i64(size)
            if units.two_blocks and not units.apart:
                sides = [self._picked(at + i64(i * ROWS_PER_BLOCK), index, ROWS_PER_BLOCK) for i in range(2)]
                xs.append(bind(pick(sides, [i + lanes * (i % _SLOTS // 2) for i in range(lanes)])))
                continue
            xs.append(bind(self._picked(at, index, size)))
        return xs, nibbles

    def _picked(self, at: Expr, index: Expr, size: int) -> Expr:
        """Bytes of ``size`` bytes of x from ``at`` on, repeated, at the rows' indices."""
        lanes = self.isa.width
        table = as_type(load(self.xs, at, size), f"int8x{size}")
        return self.isa.lookup(repeat(table, size, lanes // size), as_type(index, f"int8x{lanes}"))

    def _nibbles(self, at: Expr) -> list[Expr]:
        """Planes of the unit at a byte, uint8 each."""
        lanes, planes = self.isa.width, self.units.form.planes(_S)
        out = []
        for pair in range(planes // 2):
            value = bind(load(self.codes, at + i64(pair * lanes), lanes))
            out += [_low(value, lanes), _low(_shifted(value, lanes), lanes)]
        if planes % 2:
            value = bind(load(self.codes, at + i64(planes // 2 * lanes), lanes // 2))
            both = concat([value, _shifted(value, lanes // 2)], lanes // 2)
            out.append(_low(both, lanes))
        return [bind(v) for v in out]


def _low(value: Expr, lanes: int) -> Expr:
    return tirx.bitwise_and(value, splat(15, "uint8", lanes))


def _shifted(value: Expr, lanes: int) -> Expr:
    """High nibbles of bytes moved down; the bits above them mean nothing."""
    words = as_type(value, f"uint16x{lanes // 2}")
    return as_type(tirx.shift_right(words, splat(4, "uint16", lanes // 2)), f"uint8x{lanes}")
