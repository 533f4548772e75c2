"""Words that instructions touch, against loops over the definition of each instruction."""

from __future__ import annotations

import random
from typing import Any

import pytest
from timing.asm import program
from timing.random_programs import generate

from sd_tvm.accelerator.isa import Program
from sd_tvm.accelerator.isa.accesses import accesses
from sd_tvm.accelerator.isa.spec import Mem


def found(name: str, fields: dict[str, Any], setw: dict[str, Any] | None) -> tuple[Any, Any]:
    sides = []
    for side in accesses(name, fields, setw):
        words: dict[Mem, set[int]] = {}
        for access in side:
            words.setdefault(access.mem, set()).update(int(w) for w in access.words)
        sides.append(words)
    return sides[0], sides[1]


def by_loops(name: str, f: dict[str, Any], s: dict[str, Any] | None) -> tuple[Any, Any]:
    """LOAD, STORE, ALU, and what GEMM does with INP and ACC."""
    reads: dict[Mem, set[int]] = {}
    writes: dict[Mem, set[int]] = {}
    if name == "LOAD":
        per_word = {Mem.ACC: 4, Mem.LUT: 16}.get(Mem(f["mem"]), 1) if f["xform"] == 0 else 1
        for z in range(f["z"]):
            for y in range(f["y"] + f["pad_t"] + f["pad_b"]):
                for x in range(-(-f["x"] // per_word) + f["pad_l"] + f["pad_r"]):
                    word = f["sram"] + z * f["sram_zs"] + y * f["sram_ys"] + x
                    writes.setdefault(Mem(f["mem"]), set()).add(word)
    elif name == "STORE":
        for z in range(f["z"]):
            for y in range(f["y"]):
                for x in range(f["x"]):
                    word = f["sram"] + z * f["sram_zs"] + y * f["sram_ys"] + x
                    reads.setdefault(Mem(f["mem"]), set()).add(word)
    elif name == "GEMM" and s is not None:
        for m in range(f["n_m"]):
            group = (f["m_base"] + m) // s["mg"]
            for oy in range(f["n_oy"]):
                for ox in range(f["n_ox"]):
                    word = f["acc"] + m // 16 * f["acc_mb"] + oy * f["acc_oy"] + ox
                    writes.setdefault(Mem.ACC, set()).add(word)
                    for ky in range(s["n_ky"]):
                        for kx in range(s["n_kx"]):
                            for block in {(group * s["cg"] + c) // 16 for c in (0, s["cg"] - 1)}:
                                at = f["inp"] + block * f["inp_cb"] + oy * f["inp_oy"] + ky * f["inp_ky"]
                                at += ox * f["inp_ox"] + kx * s["inp_kx"]
                                reads.setdefault(Mem.INP, set()).add(at % 65536)
    return reads, writes


@pytest.mark.parametrize("seed", range(20))
def test_against_loops(seed: int) -> None:
    setw: dict[str, Any] | None = None
    checked = 0
    for name, fields in Program.from_bytes(program(generate(random.Random(seed), 40))).decoded():
        f = {key: 0 if value is None else value for key, value in fields.items()}
        if name == "SETW":
            setw = f
        reads, writes = found(name, fields, setw)
        if name == "ALU":
            ends = {
                side: f[side] + sum((f[f"n{i}"] - 1) * f[f"{side}_s{i}"] for i in range(3))
                for side in ("a", "dst")
            }
            (dst,) = writes.values()
            assert (min(dst), max(dst)) == (f["dst"], ends["dst"])
            continue
        loop_reads, loop_writes = by_loops(name, f, setw)
        assert writes == loop_writes
        for mem, words in loop_reads.items():
            assert words <= reads[mem]
            if name == "STORE" or (setw and setw["cg"] <= 32):
                assert reads[mem] == words
        checked += bool(loop_writes or loop_reads)
    assert checked


def test_nothing_for_control() -> None:
    for name in ("NOP", "SETW", "MARK", "FENCE", "FINISH"):
        assert accesses(name, {}, None) == ([], [])


def test_words_of_a_program_are_those_it_asks_for() -> None:
    """A compiled layer touches no word beyond those that its header says, and all of its weights."""
    from sd_tvm.accelerator.codegen import compile_program
    from sd_tvm.accelerator.config import AcceleratorConfig
    from sd_tvm.layers import ConvLayer
    from sd_tvm.schedules.ops import build_primfunc
    from sd_tvm.weights.tensor import WeightForm

    layer = ConvLayer("a", 1, 32, (9, 9), 40, (3, 3), padding=(1, 1, 1, 1), form=WeightForm(), n_bases=40)
    compiled = compile_program(build_primfunc(layer, "main"), AcceleratorConfig.load())
    setw: dict[str, Any] | None = None
    last: dict[Mem, int] = {}
    for name, fields in compiled.decoded():
        setw = fields if name == "SETW" else setw
        for access in [a for side in accesses(name, fields, setw) for a in side]:
            last[access.mem] = max(last.get(access.mem, 0), int(access.words.max()) + 1)
    assert set(last) == {Mem.INP, Mem.CODE, Mem.BASIS, Mem.QP, Mem.ACC, Mem.OUT}
    for mem, words in last.items():
        assert words <= compiled.required_words[mem]
    for mem in (Mem.CODE, Mem.BASIS, Mem.QP):  # the others are allocated for whole tiles
        assert last[mem] == compiled.required_words[mem]
