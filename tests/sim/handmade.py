"""Whole layers as hand-made programs: everything on chip at once, no overlap."""

from __future__ import annotations

import numpy as np
from sim.kit import Builder

from sd_tvm.accelerator.isa import encode_table
from sd_tvm.accelerator.isa.spec import AccInit, AluOp, AluSrcB, BasisKind, Mem, RowKind, WMode, Xform
from sd_tvm.layers import AddLayer, ConvLayer, PoolLayer, RequantLayer, blocks16

_WMODES = {"16:16": WMode.DENSE, "8:16": WMode.N8, "4:16": WMode.N4, "2:16": WMode.N2, "shared": WMode.SHARED}
_SIGNED_SOURCE, _SIGNED_RESULT, _WORD_PER_LANE = 1, 2, 4
FULL = dict.fromkeys(Mem, 4096) | {
    Mem.INP: 60000,
    Mem.CODE: 60000,
    Mem.ACC: 60000,
    Mem.OUT: 60000,
    Mem.LUT: 1,
}


def _setw(layer: ConvLayer) -> dict[str, int]:
    m, cg, kh, kw = layer.weight_shape
    fields = {
        "cg": cg,
        "mg": m // layer.groups,
        "n_ky": kh,
        "n_kx": kw,
        "inp_kx": layer.dilation[1],
        "flags": int(layer.in_dtype == "int8"),
        "wmode": WMode.RAW8,
    }
    form = layer.form
    if form is None:
        return fields
    codebook = form.basis_kind == "codebook"
    return (
        fields
        | encode_table(form.table.table.tolist())
        | {
            "wmode": _WMODES[form.pattern],
            "rowkind": RowKind.TAPS if layer.geometry.kind == "taps" else RowKind.CHANNELS,
            "s": layer.geometry.s,
            "basis_kind": BasisKind.CODEBOOK if codebook else BasisKind.SLICE,
            "slice_blocks": form.slice_rows // 16,
            "kept_rows": form.kept_rows,
            "group_tiles": form.group_filters // 16,
        }
    )


def _load_image(
    builder: Builder,
    seg: int,
    layer: ConvLayer | PoolLayer,
    n: int,
    cb: int,
    pad_value: int,
    *,
    packed: bool = False,
) -> None:
    """Loads image n, padded on chip; packed: 4 pixels of 4 channels a DRAM word."""
    (h, w), (top, left, bottom, right) = layer.in_hw, layer.padding
    width = w + left + right
    row = -(-w // 4) if packed else w
    builder.add(
        "LOAD",
        mem=Mem.INP,
        xform=Xform.EXPAND4 if packed else Xform.COPY,
        seg=seg,
        dram=n * cb * h * row,
        x=w,
        y=h,
        z=cb,
        sram_ys=width,
        sram_zs=(h + top + bottom) * width,
        dram_ys=row,
        dram_zs=h * row,
        pad_l=left,
        pad_r=right,
        pad_t=top,
        pad_b=bottom,
        pad_value=pad_value & 0xFF,
    )


def pack_pixels(x: np.ndarray) -> np.ndarray:
    """Blocked input (N, 1, H, W, 16) of at most 4 channels as EXPAND4 reads it."""
    n, _, h, w, _ = x.shape
    out = np.zeros((n, h, -(-w // 4) * 4, 4), x.dtype)
    out[:, :, :w] = x[:, 0, :, :, :4]
    return out


def packed_conv(layer: ConvLayer, operands: list[np.ndarray], result: np.ndarray) -> Builder:
    """Program of a convolution of at most 4 channels whose input is packed in DRAM."""
    return conv(layer, [pack_pixels(operands[0]), *operands[1:]], result, packed=True)


def conv(
    layer: ConvLayer, operands: list[np.ndarray], result: np.ndarray, *, packed: bool = False
) -> Builder:
    """Program of a convolution; `result` receives the blocked output."""
    (sh, sw), dh = layer.stride, layer.dilation[0]
    (h, w), (oh, ow) = layer.in_hw, layer.out_hw
    top, left, bottom, right = layer.padding
    width, plane = w + left + right, (h + top + bottom) * (w + left + right)
    cb, mb = blocks16(layer.in_channels), blocks16(layer.out_channels)
    builder = Builder(FULL)
    x_seg = builder.operand(operands[0])
    named = dict(zip(["code", "basis", "table", "bitmap", "ids"], operands[1:-1], strict=False))
    if layer.form is not None and layer.form.pattern != "shared" and layer.form.basis_kind == "codebook":
        named["ids"] = named.pop("bitmap")
    builder.load_all(Mem.CODE, named["code"])
    bitmap_words = 0
    if layer.form is not None:
        builder.load_all(Mem.BASIS, named["basis"])
        builder.operand(named["table"])
    if "bitmap" in named:
        builder.load_all(Mem.IDX, named["bitmap"])
        bitmap_words = named["bitmap"].nbytes // 16
    if "ids" in named:
        seg = builder.operand(named["ids"])
        builder.add("LOAD", mem=Mem.IDX, seg=seg, sram=bitmap_words, x=mb, y=1, z=1)
    builder.load_all(Mem.QP, operands[-1])
    seg = builder.operand(result)
    builder.add("SETW", **_setw(layer))
    for n in range(layer.batch):
        _load_image(builder, x_seg, layer, n, cb, layer.in_zero_point, packed=packed)
        builder.add(
            "GEMM",
            acc_init=AccInit.BIAS,
            ids=bitmap_words,
            n_oy=oh,
            n_ox=ow,
            n_m=layer.out_channels,
            inp_oy=sh * width,
            inp_ox=sw,
            inp_ky=dh * width,
            inp_cb=plane,
            acc_oy=ow,
            acc_mb=oh * ow,
        )
        if layer.out == "i32":
            words = mb * oh * ow
            builder.add("STORE", mem=Mem.ACC, seg=seg, dram=4 * n * words, x=words, y=1, z=1)
            continue
        builder.add(
            "ALU",
            op=AluOp.REQ,
            a_mem=Mem.ACC,
            b_src=AluSrcB.QP,
            dst_mem=Mem.OUT,
            n0=ow,
            n1=oh,
            n2=mb,
            a_s0=1,
            a_s1=ow,
            a_s2=oh * ow,
            dst_s0=1,
            dst_s1=ow,
            dst_s2=oh * ow,
            b_s2=16,
            flags=_WORD_PER_LANE | (_SIGNED_RESULT if layer.out_dtype == "int8" else 0),
        )
        builder.add("STORE", mem=Mem.OUT, seg=seg, dram=n * mb * oh * ow, x=mb * oh * ow, y=1, z=1)
    return builder


def _widen(builder: Builder, seg: int, words: int, at: int, dtype: str, zero_point: int) -> None:
    builder.add(
        "LOAD",
        mem=Mem.ACC,
        xform=Xform.WIDEN,
        seg=seg,
        sram=at,
        x=words,
        y=1,
        z=1,
        pad_value=zero_point & 0xFF,
        flags=int(dtype == "int8"),
    )


def _requant(builder: Builder, op: AluOp, words: int, a: int, qp: int, dtype: str, **dst: int) -> None:
    builder.add(
        "ALU",
        op=op,
        a_mem=Mem.ACC,
        a=a,
        b_src=AluSrcB.QP,
        b=qp,
        n0=1,
        n1=1,
        n2=words,
        a_s2=1,
        dst_s2=1,
        flags=_SIGNED_RESULT if dtype == "int8" else 0,
        **dst,
    )


def add(layer: AddLayer, operands: list[np.ndarray], result: np.ndarray) -> Builder:
    """Program of an addition of at most 1023 words."""
    words = result.nbytes // 16
    builder = Builder(FULL)
    segments = [builder.operand(x) for x in operands[:2]]
    builder.load_all(Mem.QP, operands[2])
    _widen(builder, segments[0], words, 0, layer.a_dtype, layer.a_zero_point)
    _widen(builder, segments[1], words, words, layer.b_dtype, layer.b_zero_point)
    for side in range(2):
        at = side * words
        _requant(builder, AluOp.REQ32, words, at, side, layer.out_dtype, dst_mem=Mem.ACC, dst=at)
    builder.add(
        "ALU",
        op=AluOp.ADD,
        a_mem=Mem.ACC,
        b_src=AluSrcB.ACC,
        b=words,
        dst_mem=Mem.ACC,
        n0=1,
        n1=1,
        n2=words,
        a_s2=1,
        b_s2=1,
        dst_s2=1,
    )
    _requant(builder, AluOp.REQ, words, 0, 2, layer.out_dtype, dst_mem=Mem.OUT)
    seg = builder.operand(result)
    return builder.add("STORE", mem=Mem.OUT, seg=seg, x=words, y=1, z=1)


def requant(layer: RequantLayer, operands: list[np.ndarray], result: np.ndarray) -> Builder:
    """Program of a requantisation of at most 1023 words."""
    words = result.nbytes // 16
    builder = Builder(FULL)
    seg = builder.operand(operands[0])
    builder.load_all(Mem.QP, operands[1])
    _widen(builder, seg, words, 0, layer.in_dtype, layer.in_zero_point)
    _requant(builder, AluOp.REQ, words, 0, 0, layer.out_dtype, dst_mem=Mem.OUT)
    seg = builder.operand(result)
    return builder.add("STORE", mem=Mem.OUT, seg=seg, x=words, y=1, z=1)


def pool(layer: PoolLayer, operands: list[np.ndarray], result: np.ndarray) -> Builder:
    """Program of a pooling: one reduction over (ky, kx) for each output pixel."""
    (h, w), (oh, ow) = layer.in_hw, layer.out_hw
    (kh, kw), (sh, sw) = layer.kernel, layer.stride
    top, left, bottom, right = layer.padding
    width, plane = w + left + right, (h + top + bottom) * (w + left + right)
    cb = result.shape[1]
    average = layer.mode == "avg"
    signed = layer.in_dtype == "int8"
    builder = Builder(FULL)
    x_seg = builder.operand(operands[0])
    if average:
        builder.load_all(Mem.QP, operands[1])
    seg = builder.operand(result)
    pad = layer.in_zero_point if average else (-128 if signed else 0)
    for n in range(layer.batch):
        _load_image(builder, x_seg, layer, n, cb, pad)
        for c in range(cb):
            for oy in range(oh):
                for ox in range(ow):
                    out = (c * oh + oy) * ow + ox
                    first = c * plane + oy * sh * width + ox * sw
                    builder.add(
                        "ALU",
                        op=AluOp.MUL,
                        a_mem=Mem.INP,
                        a=first,
                        b_src=AluSrcB.IMM,
                        imm=0,
                        dst_mem=Mem.ACC,
                        dst=out,
                        n0=1,
                        n1=1,
                        n2=1,
                    )
                    builder.add(
                        "ALU",
                        op=AluOp.ADD,
                        a_mem=Mem.ACC,
                        a=out,
                        b_src=AluSrcB.IMM,
                        dst_mem=Mem.ACC,
                        dst=out,
                        imm=-layer.in_zero_point * kh * kw if average else -(2**20),
                        n0=1,
                        n1=1,
                        n2=1,
                    )
                    builder.add(
                        "ALU",
                        op=AluOp.ADD if average else AluOp.MAX,
                        a_mem=Mem.INP,
                        a=first,
                        b_src=AluSrcB.ACC,
                        b=out,
                        dst_mem=Mem.ACC,
                        dst=out,
                        n0=kw,
                        n1=kh,
                        n2=1,
                        a_s0=1,
                        a_s1=width,
                        flags=_SIGNED_SOURCE if signed else 0,
                    )
        words = cb * oh * ow
        if average:
            _requant(builder, AluOp.REQ, words, 0, 0, layer.out_dtype, dst_mem=Mem.OUT)
        else:
            builder.add(
                "ALU",
                op=AluOp.MOV,
                a_mem=Mem.ACC,
                dst_mem=Mem.OUT,
                n0=1,
                n1=1,
                n2=words,
                a_s2=1,
                dst_s2=1,
                flags=_SIGNED_RESULT if signed else 0,
            )
        builder.add("STORE", mem=Mem.OUT, seg=seg, dram=n * words, x=words, y=1, z=1)
    return builder
