"""On-chip words that an instruction reads and writes, from its fields and the SETW before it.

Two reads depend on data: rows that a SHARED pattern keeps (all rows are given instead) and the bases that
codebook ids name (only the first word is given, with ``Access.whole``: the rest of what was loaded with it).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sd_tvm.accelerator.isa.spec import (
    MEMORIES,
    AccInit,
    AluOp,
    AluSrcB,
    BasisKind,
    Mem,
    RowKind,
    WMode,
    Xform,
)

_DRAM_WORD = 16
_TILE = 16
_INP_ADDRESSES = 1 << 16
_WORD_BYTES = {m.mem: m.word_bytes for m in MEMORIES}
_KEPT_OF_16 = {WMode.N8: 8, WMode.N4: 4, WMode.N2: 2}
_B_MEMORY = {AluSrcB.ACC: Mem.ACC, AluSrcB.INP: Mem.INP, AluSrcB.QP: Mem.QP, AluSrcB.LUT: Mem.LUT}
_WORD_PER_LANE = 4

Fields = Mapping[str, "int | None"]


@dataclass(frozen=True)
class Access:
    """Words of a memory.

    Attributes
    ----------
    mem
        The memory.
    words
        Their numbers; any order, may repeat.
    whole
        Whether everything is meant that was loaded together with the first of them.
    """

    mem: Mem
    words: npt.NDArray[np.int64]
    whole: bool = False


def accesses(name: str, fields: Fields, setw: Fields | None) -> tuple[list[Access], list[Access]]:
    """(reads, writes) of a valid instruction.

    Parameters
    ----------
    name
        Its row of the instruction table.
    fields
        Its fields, header included.
    setw
        Fields of the SETW in force; only GEMM looks at it.
    """
    f = {key: 0 if value is None else value for key, value in fields.items()}
    if name == "LOAD":
        return [], [Access(Mem(f["mem"]), _loaded(f))]
    if name == "STORE":
        return [
            Access(
                Mem(f["mem"]), _box(f["sram"], (f["z"], f["sram_zs"]), (f["y"], f["sram_ys"]), (f["x"], 1))
            )
        ], []
    if name == "ALU":
        return _alu(f)
    if name == "GEMM" and setw is not None:
        return _gemm(f, {key: 0 if value is None else value for key, value in setw.items()})
    return [], []


def _box(base: int, *dims: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Base plus every combination of index x stride; repeated offsets of a dimension once."""
    out = np.array([base], dtype=np.int64)
    for count, stride in dims:
        steps = np.arange(count if stride else min(count, 1), dtype=np.int64) * stride
        out = (out[:, None] + steps[None, :]).reshape(-1)
    return out


def _loaded(f: Mapping[str, int]) -> npt.NDArray[np.int64]:
    mem = Mem(f["mem"])
    per_word = _WORD_BYTES[mem] // _DRAM_WORD if f["xform"] == Xform.COPY else 1
    columns = -(-f["x"] // per_word) + f["pad_l"] + f["pad_r"]
    rows = f["y"] + f["pad_t"] + f["pad_b"]
    return _box(f["sram"], (f["z"], f["sram_zs"]), (rows, f["sram_ys"]), (columns, 1))


def _alu(f: Mapping[str, int]) -> tuple[list[Access], list[Access]]:
    def words(operand: str) -> npt.NDArray[np.int64]:
        return _box(f[operand], *((f[f"n{i}"], f[f"{operand}_s{i}"]) for i in (2, 1, 0)))

    immediate = f["op"] == AluOp.MOV and f["b_src"] == AluSrcB.IMM
    reads = [] if immediate else [Access(Mem(f["a_mem"]), words("a"))]
    mem = _B_MEMORY.get(AluSrcB(f["b_src"]))
    if mem is not None:
        b = words("b")
        if mem == Mem.QP and f["flags"] & _WORD_PER_LANE:
            b = (b[:, None] + np.arange(_TILE)).reshape(-1)
        reads.append(Access(mem, b))
    return reads, [Access(Mem(f["dst_mem"]), words("dst"))]


def _gemm(f: Mapping[str, int], s: Mapping[str, int]) -> tuple[list[Access], list[Access]]:
    tiles = -(-f["n_m"] // _TILE)
    sums = _box(f["acc"], (tiles, f["acc_mb"]), (f["n_oy"], f["acc_oy"]), (f["n_ox"], 1))
    reads = [Access(Mem.INP, _inputs(f, s)), *_weights(f, s, tiles)]
    if f["acc_init"] == AccInit.BIAS:
        reads.append(Access(Mem.QP, _box(f["qp"], (f["n_m"], 1))))
    if f["acc_init"] == AccInit.KEEP:
        reads.append(Access(Mem.ACC, sums))
    return reads, [Access(Mem.ACC, sums)]


def _inputs(f: Mapping[str, int], s: Mapping[str, int]) -> npt.NDArray[np.int64]:
    first_group, last_group = f["m_base"] // s["mg"], (f["m_base"] + f["n_m"] - 1) // s["mg"]
    first = first_group * s["cg"] // _TILE
    last = ((last_group + 1) * s["cg"] - 1) // _TILE
    rows = np.unique(_box(0, (f["n_oy"], f["inp_oy"]), (s["n_ky"], f["inp_ky"])))
    columns = np.unique(_box(0, (f["n_ox"], f["inp_ox"]), (s["n_kx"], s["inp_kx"])))
    blocks = np.arange(first, last + 1, dtype=np.int64) * f["inp_cb"] + f["inp"]
    plane = (rows[:, None] + columns[None, :]).reshape(-1)
    words: npt.NDArray[np.int64] = (blocks[:, None] + plane[None, :]).reshape(-1) % _INP_ADDRESSES
    return words


def _weights(f: Mapping[str, int], s: Mapping[str, int], tiles: int) -> list[Access]:
    mode, size = WMode(s["wmode"]), s["s"]
    taps = s["cg"] * s["n_ky"] * s["n_kx"]
    if mode == WMode.RAW8:
        return [Access(Mem.CODE, _box(f["code"], (tiles * taps, 1)))]
    rows = (
        s["cg"] * s["n_ky"] if s["rowkind"] == RowKind.TAPS else -(-s["cg"] // size) * s["n_ky"] * s["n_kx"]
    )
    kept = _KEPT_OF_16.get(mode)
    used = s["kept_rows"] if mode == WMode.SHARED else rows if kept is None else kept * -(-rows // 16)
    octet = -(-used // 4) * (size + (kept is not None))
    out = [Access(Mem.CODE, _box(f["code"], (-(-f["n_m"] // 8) * octet, 1)))]
    if s["basis_kind"] == BasisKind.SLICE:
        slices = -(-rows // (16 * s["slice_blocks"])) if s["slice_blocks"] else 1
        words = slices * -(-size * size // 16)
        out.append(Access(Mem.BASIS, _box(f["basis"], (f["n_m"] * words, 1))))
    else:
        out.append(Access(Mem.IDX, _box(f["ids"], (tiles, 1))))
        out.append(Access(Mem.BASIS, _box(f["basis"]), whole=True))
    if mode == WMode.SHARED:
        first = f["m_base"] // _TILE
        groups = (first + tiles - 1) // s["group_tiles"] - first // s["group_tiles"] + 1
        out.append(Access(Mem.IDX, _box(f["idx"], (groups * -(-rows // 128), 1))))
    return out
