"""LOAD and STORE against NumPy: boxes, strides, pads, widening."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sim.kit import CONFIG, WORD_BYTES, Builder

from sd_tvm.accelerator.isa import Program, encode
from sd_tvm.accelerator.isa.spec import AluOp, AluSrcB, Mem, Xform
from sd_tvm.accelerator.simulator import run_program
from sd_tvm.errors import ProgramError


@st.composite
def loads(draw: Any) -> dict[str, int]:
    mem = draw(st.sampled_from([Mem.ACC, Mem.OUT, Mem.INP]))
    widen = mem == Mem.ACC and draw(st.booleans())
    expand = mem == Mem.INP and draw(st.booleans())
    step = 4 if mem == Mem.ACC and not widen else 1
    f = {k: draw(st.integers(0, 2)) for k in ("pad_l", "pad_r", "pad_t", "pad_b")}
    f |= {
        "mem": mem,
        "xform": Xform.WIDEN if widen else Xform.EXPAND4 if expand else Xform.COPY,
        "flags": draw(st.integers(0, 1)) if widen else 2 * draw(st.integers(0, 3)) if expand else 0,
    }
    f |= {"x": step * draw(st.integers(0, 11 if expand else 4))}
    f |= {"y": draw(st.integers(0, 3)), "z": draw(st.integers(1, 3))}
    f |= {
        "dram": draw(st.integers(0, 5)),
        "sram": draw(st.integers(0, 5)),
        "pad_value": draw(st.integers(0, 255)),
    }
    f |= {"dram_ys": draw(st.integers(0, 20)), "dram_zs": draw(st.integers(0, 50))}
    f |= {"sram_ys": draw(st.integers(0, 9)), "sram_zs": draw(st.integers(0, 60))}
    if f["x"] // step + f["pad_l"] + f["pad_r"] == 0:
        f["pad_l"] = 1
    if f["y"] + f["pad_t"] + f["pad_b"] == 0:
        f["pad_t"] = 1
    return f


@settings(max_examples=120)
@given(f=loads(), seed=st.integers(0, 2**32 - 1))
def test_load(f: dict[str, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    words = 250
    dram = rng.integers(0, 256, (300, 16)).astype(np.uint8)
    initial = rng.integers(0, 256, (words, WORD_BYTES[f["mem"]])).astype(np.uint8)
    builder = Builder({f["mem"]: words})
    builder.load_all(f["mem"], initial)
    builder.add("LOAD", seg=builder.operand(dram), **f)
    result = np.zeros_like(initial)
    from_mem = f["mem"]
    if from_mem == Mem.INP:  # reaches DRAM by way of OUT
        from_mem = Mem.OUT
        builder.words[Mem.OUT] = words
        builder.add(
            "ALU", op=AluOp.MOV, a_mem=Mem.INP, dst_mem=from_mem, n0=1, n1=1, n2=words, a_s2=1, dst_s2=1
        )
    builder.add("STORE", mem=from_mem, seg=builder.operand(result), x=words, y=1, z=1)
    stats = builder.run()

    expected = initial.copy()
    widen, expand = f["xform"] == Xform.WIDEN, f["xform"] == Xform.EXPAND4
    skip = f["flags"] // 2
    ratio = 1 if widen else WORD_BYTES[f["mem"]] // 16
    zero = int(np.uint8(f["pad_value"]).view(np.int8)) if f["flags"] else f["pad_value"]
    columns, rows = f["x"] // ratio + f["pad_l"] + f["pad_r"], f["y"] + f["pad_t"] + f["pad_b"]
    for z in range(f["z"]):
        for row in range(rows):
            for column in range(columns):
                y, x = row - f["pad_t"], column - f["pad_l"]
                word = expected[f["sram"] + z * f["sram_zs"] + row * f["sram_ys"] + column]
                if not (0 <= y < f["y"] and 0 <= x < f["x"] // ratio):
                    word[:] = 0 if widen else f["pad_value"]
                    continue
                if expand:
                    at = 4 * (f["dram"] + z * f["dram_zs"] + y * f["dram_ys"]) + skip + x
                    word[:] = [*dram.reshape(-1, 4)[at], *[0] * 12]
                    continue
                at = f["dram"] + z * f["dram_zs"] + y * f["dram_ys"] + x * ratio
                data = dram[at : at + ratio].ravel()
                if widen:
                    lanes = (data.view(np.int8) if f["flags"] else data).astype(np.int32) - zero
                    word[:] = lanes.view(np.uint8)
                else:
                    word[:] = data
    np.testing.assert_array_equal(result, expected)
    row = -(-(skip + f["x"]) // 4) if expand and f["x"] else f["x"]
    loaded = row * f["y"] * f["z"] * 16 + initial.nbytes
    assert stats["bytes"]["dram_read"] == loaded
    assert stats["bytes"]["dram_write"] == result.nbytes


@settings(max_examples=60)
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_store(data: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mem = data.draw(st.sampled_from([Mem.ACC, Mem.OUT]))
    ratio = WORD_BYTES[mem] // 16
    f = {k: data.draw(st.integers(1, 4)) for k in ("x", "y", "z")}
    f |= {"dram": data.draw(st.integers(0, 5)), "sram": data.draw(st.integers(0, 5))}
    f |= {"dram_ys": data.draw(st.integers(0, 20)), "dram_zs": data.draw(st.integers(0, 80))}
    f |= {"sram_ys": data.draw(st.integers(0, 9)), "sram_zs": data.draw(st.integers(0, 40))}
    content = rng.integers(0, 256, (200, 16 * ratio)).astype(np.uint8)
    result = rng.integers(0, 256, (400, 16)).astype(np.uint8)
    expected = result.copy()
    builder = Builder({mem: 200})
    builder.load_all(mem, content)
    builder.add("STORE", mem=mem, seg=builder.operand(result), **f)
    builder.run()
    for z in range(f["z"]):
        for y in range(f["y"]):
            at = f["dram"] + z * f["dram_zs"] + y * f["dram_ys"]
            word = f["sram"] + z * f["sram_zs"] + y * f["sram_ys"]
            expected[at : at + f["x"] * ratio] = content[word : word + f["x"]].reshape(-1, 16)
    np.testing.assert_array_equal(result, expected)


def test_several_results() -> None:
    x = np.arange(32, dtype=np.uint8)
    a, b = np.zeros(16, np.uint8), np.zeros(32, np.uint8)
    instructions = (
        encode("LOAD", mem=Mem.OUT, x=2, y=1, z=1, signal0=0),
        encode("STORE", mem=Mem.OUT, wait0=0, seg=1, sram=1, x=1, y=1, z=1),
        encode("STORE", mem=Mem.OUT, seg=2, x=2, y=1, z=1),
        encode("FINISH"),
    )
    program = Program(instructions, (32, 16, 32), {Mem.OUT: 2}, n_results=2)
    assert Program.from_bytes(program.to_bytes()) == program
    stats = run_program(program.to_bytes(), CONFIG, [x, a, b])
    np.testing.assert_array_equal(a, x[16:])
    np.testing.assert_array_equal(b, x)
    assert stats["bytes"]["dram_write"] == 48
    with pytest.raises(ProgramError, match=r"stores to segment 1\. Expected: a result, segment 2\.\.2"):
        run_program(replace(program, n_results=1).to_bytes(), CONFIG, [x, a, b])
    with pytest.raises(ProgramError, match="result array cannot be written"):
        run_program(program.to_bytes(), CONFIG, [x, np.zeros(32, np.uint8)[::2], b])


def test_every_segment_that_the_field_can_name() -> None:
    instructions = (
        encode("LOAD", mem=Mem.OUT, seg=1022, x=1, y=1, z=1, signal0=0),
        encode("STORE", mem=Mem.OUT, wait0=0, seg=1023, x=1, y=1, z=1),
        encode("FINISH"),
    )
    tensors = [np.full(16, i % 251, np.uint8) for i in range(1024)]
    run_program(Program(instructions, (16,) * 1024, {Mem.OUT: 1}).to_bytes(), CONFIG, tensors)
    assert tensors[1023].tolist() == [1022 % 251] * 16


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 3))
def test_spread9(seed: int, columns: int, rows: int) -> None:
    """Records of 9 bytes make the quantisation words that a copy of whole words makes."""
    rng = np.random.default_rng(seed)
    lo, hi = np.sort(rng.integers(0, 256, 2))
    common = np.array([rng.integers(0, 256), lo, hi], np.uint8)
    words = np.zeros((rows, columns, 16), np.uint8)
    words[..., :9] = rng.integers(0, 256, (rows, columns, 9))
    words[..., 7] &= 0x7F
    words[..., 8] = rng.integers(-31, 31, (rows, columns)).astype(np.int8).view(np.uint8)
    words[..., 9:12] = common
    length = -(-9 * columns // 16)
    packed = np.zeros((rows, length * 16), np.uint8)
    packed[:, : 9 * columns] = words[..., :9].reshape(rows, -1)
    sums = rng.integers(-(2**20), 2**20, (rows * columns, 16)).astype(np.int32)
    results, read = [], []
    for spread in (False, True):
        builder = Builder({Mem.ACC: rows * columns, Mem.OUT: rows * columns, Mem.QP: rows * columns})
        builder.load_all(Mem.ACC, sums)
        fields = {"mem": Mem.QP, "x": columns, "y": rows, "z": 1, "sram_ys": columns, "dram_ys": columns}
        if spread:
            fields |= {"xform": Xform.SPREAD9, "dram_ys": length, "pad_value": int(common[0])}
            fields |= {"fill": int(common[1]) | int(common[2]) << 8}
        builder.add("LOAD", seg=builder.operand(packed if spread else words), **fields)
        n = rows * columns
        builder.add(
            "ALU", op=AluOp.REQ, a_mem=Mem.ACC, b_src=AluSrcB.QP, dst_mem=Mem.OUT, n0=n, n1=1, n2=1,
            a_s0=1, b_s0=1, dst_s0=1,
        )  # fmt: skip
        results.append(np.zeros((n, 16), np.uint8))
        builder.add("STORE", mem=Mem.OUT, seg=builder.operand(results[-1]), x=n, y=1, z=1)
        read.append(builder.run()["bytes"]["dram_read"] - sums.nbytes)
    np.testing.assert_array_equal(*results)
    assert read == [words.nbytes, packed.nbytes]
