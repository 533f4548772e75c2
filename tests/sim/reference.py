"""The GEMM instruction in slow, plain Python, straight from the text of the instruction table."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sd_tvm.accelerator.isa.spec import BasisKind, RowKind, WMode

KEEP = {WMode.N8: 8, WMode.N4: 4, WMode.N2: 2}


@dataclass
class Form:
    """Fields of SETW and the packed weights of m filters, with the exact weights beside them."""

    setw: dict[str, int]
    weights: np.ndarray  # int64 (M, cg, ky, kx)
    code: np.ndarray  # uint8 words (n, 16)
    basis: np.ndarray = field(default_factory=lambda: np.zeros((1, 16), np.uint8))
    bitmaps: np.ndarray = field(default_factory=lambda: np.zeros((1, 16), np.uint8))
    ids: np.ndarray = field(default_factory=lambda: np.zeros((1, 16), np.uint8))


def _place(row: int, t: int, kind: RowKind, s: int, ky: int, kx: int) -> tuple[int, int, int]:
    if kind == RowKind.TAPS:
        return row // ky, row % ky, t
    return row // (ky * kx) * s + t, row % (ky * kx) // kx, row % kx


def random_table(rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """Bytes of a code table and their values."""
    codes, values = [], []
    for _ in range(16):
        p1, p2, sign = int(rng.integers(0, 8)), int(rng.integers(0, 8)), int(rng.integers(0, 2))
        kind = rng.integers(0, 3)
        if kind == 0:
            codes.append(7)
            values.append(0)
        elif kind == 1 or p2 >= p1:
            codes.append(sign << 7 | p1 << 4)
            values.append((-1) ** sign * 2**p1)
        else:
            codes.append(sign << 7 | p1 << 4 | 8 | p2)
            values.append((-1) ** sign * (2**p1 + 2**p2))
    return codes, values


def pack_lanes(lanes: np.ndarray) -> np.ndarray:
    """Storage units as words: lanes are nibbles (octets, units, planes, 32)."""
    octets, units, planes, _ = lanes.shape
    unit = np.zeros((octets, units, 16 * planes), np.uint8)
    for plane in range(0, planes - 1, 2):
        at = 16 * plane
        unit[:, :, at : at + 32] = lanes[:, :, plane] | lanes[:, :, plane + 1] << 4
    if planes % 2:
        last = lanes[:, :, planes - 1]
        unit[:, :, 16 * (planes - 1) :] = last[:, :, :16] | last[:, :, 16:] << 4
    return unit.reshape(-1, 16)


def raw_form(rng: np.random.Generator, m: int, cg: int, mg: int, ky: int, kx: int, inp_kx: int) -> Form:
    """Raw int8 weights."""
    w = rng.integers(-128, 128, (m, cg, ky, kx))
    tiles = -(-m // 16)
    padded = np.zeros((tiles * 16, cg * ky * kx), np.int8)
    padded[:m] = w.reshape(m, -1)
    code = padded.reshape(tiles, 16, -1).transpose(0, 2, 1).reshape(-1, 16)
    setw = {"wmode": WMode.RAW8, "cg": cg, "mg": mg, "n_ky": ky, "n_kx": kx, "inp_kx": inp_kx}
    return Form(setw, w.astype(np.int64), np.ascontiguousarray(code).view(np.uint8))


def coded_form(
    rng: np.random.Generator,
    mode: WMode,
    m: int,
    cg: int,
    mg: int,
    ky: int,
    kx: int,
    inp_kx: int,
    *,
    kind: RowKind,
    s: int,
    basis_kind: BasisKind,
    slice_blocks: int,
    group_tiles: int,
    table: tuple[list[int], list[int]] | None = None,
) -> Form:
    """Random weights in SD form, packed nibble by nibble."""
    rows = cg * ky if kind == RowKind.TAPS else -(-cg // s) * ky * kx
    codes, values = table or random_table(rng)
    bitmap_words = -(-rows // 128)
    kept_rows = int(rng.integers(0, rows + 1)) if mode == WMode.SHARED else 0
    used = {WMode.DENSE: rows, WMode.SHARED: kept_rows}.get(mode, KEEP.get(mode, 0) * -(-rows // 16))
    planes = s + (mode in KEEP)
    slots = -(-used // 4) * 4
    groups = -(-m // (16 * group_tiles)) if mode == WMode.SHARED else 1
    kept = [np.sort(rng.permutation(rows)[:kept_rows]) for _ in range(groups)]
    bitmaps = np.zeros((groups, bitmap_words * 16), np.uint8)
    for g, chosen in enumerate(kept):
        for r in chosen:
            bitmaps[g, r // 8] |= 1 << (r % 8)
    slices = -(-rows // (16 * slice_blocks)) if basis_kind == BasisKind.SLICE and slice_blocks else 1
    n_bases = 9 if basis_kind == BasisKind.CODEBOOK else m * slices
    bases = rng.integers(-128, 128, (n_bases, s, s))
    ids = rng.integers(0, 9, -(-m // 16) * 16).astype(np.uint8)
    octets = -(-m // 8)
    lanes = np.zeros((octets, max(slots // 4, 1), planes, 32), np.uint8)
    weights = np.zeros((m, cg, ky, kx), np.int64)
    for f in range(m):
        for slot in range(used):
            if mode in KEEP:
                block = slot // KEEP[mode]
                index = int(rng.integers(0, min(16, rows - 16 * block)))
                row, head = 16 * block + index, [index]
            else:
                row = int(kept[f // (16 * group_tiles)][slot]) if mode == WMode.SHARED else slot
                head = []
            nibbles = rng.integers(0, 16, s)
            lanes[f // 8, slot // 4, :, 4 * (f % 8) + slot % 4] = [*head, *nibbles]
            which = int(ids[f]) if basis_kind == BasisKind.CODEBOOK else f * slices
            if slices > 1:
                which += row // (16 * slice_blocks)
            for t in range(s):
                c, y, x = _place(row, t, kind, s, ky, kx)
                if c < cg:
                    weights[f, c, y, x] += sum(values[nibbles[k]] * int(bases[which, k, t]) for k in range(s))
    padded = np.zeros((n_bases, -(-s * s // 16) * 16), np.int8)
    padded[:, : s * s] = bases.reshape(n_bases, -1)
    setw = {f"code{i}": c for i, c in enumerate(codes)} | {
        "wmode": mode,
        "rowkind": kind,
        "s": s,
        "basis_kind": basis_kind,
        "slice_blocks": slice_blocks,
        "kept_rows": kept_rows,
        "group_tiles": group_tiles if mode == WMode.SHARED else 0,
        "cg": cg,
        "mg": mg,
        "n_ky": ky,
        "n_kx": kx,
        "inp_kx": inp_kx,
    }
    return Form(
        setw,
        weights,
        pack_lanes(lanes),
        padded.view(np.uint8).reshape(-1, 16),
        bitmaps.reshape(-1, 16),
        ids.reshape(-1, 16),
    )


def gemm(
    inp: np.ndarray, acc: np.ndarray, weights: np.ndarray, bias: np.ndarray | None, f: dict[str, int]
) -> None:
    """Execute a GEMM on acc, int64 (words, 16); inp is (words, 16); weights and bias of the layer."""
    _, cg, n_ky, n_kx = weights.shape
    for i in range(f["n_m"]):
        layer_filter = f["m_base"] + i
        group = layer_filter // f["mg"]
        for oy in range(f["n_oy"]):
            for ox in range(f["n_ox"]):
                total = 0
                for c in range(cg):
                    channel = group * cg + c
                    for ky in range(n_ky):
                        for kx in range(n_kx):
                            word = (
                                f["inp"]
                                + channel // 16 * f["inp_cb"]
                                + oy * f["inp_oy"]
                                + ox * f["inp_ox"]
                                + ky * f["inp_ky"]
                                + kx * f["inp_kx"]
                            ) % 65536
                            total += int(inp[word, channel % 16]) * int(weights[layer_filter, c, ky, kx])
                word = f["acc"] + i // 16 * f["acc_mb"] + oy * f["acc_oy"] + ox
                if bias is not None:
                    acc[word, i % 16] = int(bias[layer_filter])
                acc[word, i % 16] += total
