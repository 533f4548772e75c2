"""Rebuild stages: packed weights (``docs/weights.md``) to exact integers, as TE stages.

The result of every form is one stage ``w`` (MB, Cg, KH, KW, 16): sixteen filters innermost, as the
MAC reads them; filters beyond M are zero.
"""

from __future__ import annotations

from sd_tvm._tvm import te, tirx
from sd_tvm.layers import LANES, ConvLayer, blocks16
from sd_tvm.schedules.ops.tir import Expr, Tensor, const, dims, i64
from sd_tvm.weights.rows import ROWS_PER_BLOCK
from sd_tvm.weights.tensor import ROWS_KEPT, WeightForm

_INT16_MAX = 32767


def weight_dtype(layer: ConvLayer) -> str:
    """Narrowest of int16 and int32 that holds every rebuilt weight of this form."""
    form = layer.form
    if form is None:
        return "int8"
    worst = layer.geometry.s * form.table.max_code * 128
    return "int16" if worst <= _INT16_MAX else "int32"


def weight_operands(layer: ConvLayer) -> list[Tensor]:
    """Placeholders of the weight operands, in operand order."""
    m, form, geometry = layer.out_channels, layer.form, layer.geometry
    if form is None:
        k = layer.weight_shape[1] * layer.weight_shape[2] * layer.weight_shape[3]
        return [te.placeholder(dims(blocks16(m), k, LANES), "int8", name="w8")]
    s = geometry.s
    out = [
        te.placeholder(
            dims(-(-m // 8), form.slots(geometry) // 4, 16 * form.planes(s)), "uint8", name="codes"
        ),
        te.placeholder(dims(layer.n_bases, blocks16(s * s) * 16), "int8", name="basis"),
        te.placeholder(dims(16), "int8", name="table"),
    ]
    if form.pattern == "shared":
        groups = -(-m // form.group_filters)
        row_bytes = blocks16(-(-geometry.rows // 8)) * 16
        out.append(te.placeholder(dims(groups, row_bytes), "uint8", name="bitmap"))
    if form.basis_kind == "codebook":
        out.append(te.placeholder(dims(blocks16(m) * 16), "uint8", name="ids"))
    return out


def weight_stage(layer: ConvLayer, operands: list[Tensor]) -> Tensor:
    """``w`` (MB, Cg, KH, KW, 16) of a layer from its weight operands."""
    m, cg, kh, kw = layer.weight_shape
    shape = dims(blocks16(m), cg, kh, kw, LANES)
    if layer.form is None:
        w8 = operands[0]
        return te.compute(
            shape,
            lambda mb, c, ky, kx, ln: w8[mb, (c * i64(kh) + ky) * i64(kw) + kx, ln],
            name="w",
        )
    rows = _row_stage(layer, layer.form, operands)

    def taps(mb: Expr, c: Expr, ky: Expr, kx: Expr, ln: Expr) -> Expr:
        return rows(mb, c * i64(kh) + ky, kx, ln)

    def channels(mb: Expr, c: Expr, ky: Expr, kx: Expr, ln: Expr) -> Expr:
        s = i64(layer.geometry.s)
        row = (tirx.floordiv(c, s) * i64(kh) + ky) * i64(kw) + kx
        return rows(mb, row, tirx.floormod(c, s), ln)

    body = taps if layer.geometry.kind == "taps" else channels
    return te.compute(shape, body, name="w")


def _padded_operand(layer: ConvLayer, tensor: Tensor, per_block: int, rows: int, name: str) -> Tensor:
    """Copy of packed weights (rows * n, ...) as (per_block * MB, n, ...), zero beyond the last filter.

    ``rows`` of the operand's first axis belong together; there are ``per_block`` such groups in 16 filters.
    """
    first, *rest = (int(d) for d in tensor.shape)
    groups = first // rows

    def body(g: Expr, r: Expr, *at: Expr) -> Expr:
        value = tensor[(g * i64(rows) + r, *at)]
        if groups == per_block * blocks16(layer.out_channels):
            return value
        return tirx.if_then_else(g < i64(groups), value, const(0, tensor.dtype))

    shape = dims(per_block * blocks16(layer.out_channels), rows, *rest)
    if len(rest) == 2:
        return te.compute(shape, lambda g, r, x, y: body(g, r, x, y), name=name)
    return te.compute(shape, lambda g, r, x: body(g, r, x), name=name)


class _Decoder:
    """Expressions that read packed codes and bases of filter 16*mb + ln."""

    def __init__(self, layer: ConvLayer, form: WeightForm, operands: list[Tensor]) -> None:
        self.layer, self.form = layer, form
        codes, basis, self.table = operands[:3]
        rest = operands[3:]
        self.bitmap = rest.pop(0) if form.pattern == "shared" else None
        self.ids = rest.pop(0) if form.basis_kind == "codebook" else None
        self.s = layer.geometry.s
        self.planes = form.planes(self.s)
        self.codes = _padded_operand(layer, codes, 2, 1, "codes_c")
        if self.ids is None:
            self.basis = _padded_operand(layer, basis, LANES, form.n_slices(layer.geometry), "basis_c")
        else:
            self.basis = te.compute(basis.shape, lambda i, e: basis[i, e], name="basis_c")

    def nibble(self, mb: Expr, ln: Expr, slot: Expr, plane: Expr) -> Expr:
        """Nibble ``plane`` of a slot, int32; 0 for filters beyond the last."""
        tile = mb * i64(2) + tirx.floordiv(ln, i64(8))
        lane = tirx.floormod(ln, i64(8)) * i64(4) + tirx.floormod(slot, i64(4))
        at = tirx.floordiv(plane, i64(2)) * i64(32) + lane
        shift = tirx.floormod(plane, i64(2)) * i64(4)
        if self.planes % 2:
            last = tirx.EQ(plane, i64(self.planes - 1))
            odd = i64(16 * (self.planes - 1)) + tirx.floormod(lane, i64(16))
            at = tirx.Select(last, odd, at)
            shift = tirx.Select(last, tirx.floordiv(lane, i64(16)) * i64(4), shift)
        byte = self.codes[tile, i64(0), tirx.floordiv(slot, i64(4)), at].astype("int32")
        return (byte >> shift.astype("int32")) & const(15, "int32")

    def coefficient(self, mb: Expr, ln: Expr, slot: Expr, k: Expr) -> Expr:
        """Coefficient k of a slot, int8."""
        plane = k + i64(1) if self.form.indexed else k
        return self.table[self.nibble(mb, ln, slot, plane)]

    def basis_at(self, mb: Expr, ln: Expr, row: Expr, k: Expr, t: Expr) -> Expr:
        """Element (k, t) of the basis of a row, int8."""
        m, at = mb * i64(LANES) + ln, k * i64(self.s) + t
        if self.ids is not None:
            return self.basis[self.ids[m].astype("int64"), at]
        slices = self.form.n_slices(self.layer.geometry)
        which = i64(0) if slices == 1 else tirx.floordiv(row, i64(self.form.slice_rows))
        return self.basis[m, which, at]


def _row_stage(layer: ConvLayer, form: WeightForm, operands: list[Tensor]) -> Tensor:
    """Callable (mb, r, t, ln) -> element t of row r of filter 16*mb + ln."""
    dec = _Decoder(layer, form, operands)
    dtype, geometry = weight_dtype(layer), layer.geometry
    mbs, rows, s = blocks16(layer.out_channels), geometry.rows, geometry.s
    keep = ROWS_KEPT.get(form.pattern, 0)
    slots = {"16:16": rows, "shared": form.kept_rows}.get(form.pattern, keep * geometry.blocks)

    ce = te.compute(
        dims(mbs, slots, s, LANES),
        lambda mb, j, k, ln: dec.coefficient(mb, ln, j, k),
        name="ce",
    )
    if form.pattern == "shared":
        return _shared_rows(dec, ce, dtype)

    def first_row(slot: Expr) -> Expr:
        return slot if keep == ROWS_PER_BLOCK else tirx.floordiv(slot, i64(keep)) * i64(16)

    def value(mb: Expr, j: Expr, t: Expr, ln: Expr) -> Expr:
        terms = [
            ce[mb, j, i64(k), ln].astype(dtype) * dec.basis_at(mb, ln, first_row(j), i64(k), t).astype(dtype)
            for k in range(s)
        ]
        return sum(terms[1:], terms[0])

    kept = te.compute(dims(mbs, slots, s, LANES), value, name="rows")
    if not form.indexed:
        return kept
    index = te.compute(
        dims(mbs, slots, LANES),
        lambda mb, j, ln: dec.nibble(mb, ln, j, i64(0)).astype("int8"),
        name="index",
    )

    def pick(mb: Expr, r: Expr, t: Expr, ln: Expr) -> Expr:
        first = tirx.floordiv(r, i64(ROWS_PER_BLOCK)) * i64(keep)
        inside = tirx.floormod(r, i64(ROWS_PER_BLOCK)).astype("int8")
        terms = [
            tirx.Select(
                tirx.EQ(index[mb, first + i64(j), ln], inside),
                kept[mb, first + i64(j), t, ln],
                const(0, dtype),
            )
            for j in range(keep)
        ]
        return sum(terms[1:], terms[0])

    return te.compute(dims(mbs, rows, s, LANES), pick, name="picked")


def _shared_rows(dec: _Decoder, ce: Tensor, dtype: str) -> Tensor:
    """Rows of the shared pattern: a row's slot is the number of kept rows before it."""
    layer, form, geometry = dec.layer, dec.form, dec.layer.geometry
    bitmap: Tensor = dec.bitmap
    mbs, used = blocks16(layer.out_channels), -(-geometry.rows // 8)

    def group(mb: Expr) -> Expr:
        return tirx.floordiv(mb, i64(form.group_filters // LANES))

    def popcount(byte: Expr) -> Expr:
        return tirx.popcount(byte.astype("int32"))

    before = te.reduce_axis((i64(0), i64(used)), name="before")
    prefix = te.compute(
        dims(mbs, used),
        lambda mb, b: te.sum(
            tirx.Select(before < b, popcount(bitmap[group(mb), before]), const(0, "int32")), axis=before
        ),
        name="prefix",
    )

    def slot(mb: Expr, r: Expr) -> Expr:
        byte, bit = tirx.floordiv(r, i64(8)), tirx.floormod(r, i64(8)).astype("int32")
        word = bitmap[group(mb), byte].astype("int32")
        below = word & ((const(1, "int32") << bit) - const(1, "int32"))
        kept = tirx.NE((word >> bit) & const(1, "int32"), const(0, "int32"))
        return tirx.Select(kept, prefix[mb, byte] + tirx.popcount(below), const(-1, "int32"))

    rank = te.compute(dims(mbs, geometry.rows), slot, name="rank")

    def value(mb: Expr, r: Expr, t: Expr, ln: Expr) -> Expr:
        j = rank[mb, r].astype("int64")
        at = tirx.max(j, i64(0))
        terms = [
            ce[mb, at, i64(k), ln].astype(dtype) * dec.basis_at(mb, ln, r, i64(k), t).astype(dtype)
            for k in range(dec.s)
        ]
        return tirx.if_then_else(j >= i64(0), sum(terms[1:], terms[0]), const(0, dtype))

    return te.compute(dims(mbs, geometry.rows, dec.s, LANES), value, name="rows")
