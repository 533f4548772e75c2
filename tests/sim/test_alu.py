"""ALU against NumPy: every operation, operand kind, signedness, stride and reduction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sim.kit import Builder

from sd_tvm.accelerator.isa.spec import AluOp, AluSrcB, Mem
from sd_tvm.numerics.fixedpoint import rounding_divide_by_pot, saturating_rounding_doubling_high_mul
from sd_tvm.numerics.qp import unpack_qp

N = 40  # words of each memory
MEMS = (Mem.ACC, Mem.INP, Mem.OUT)


def _wrap(x: np.ndarray) -> np.ndarray:
    return np.asarray(x, dtype=np.int64).astype(np.int32)


def _wrapped_mbqm(x: np.ndarray, m0: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """The golden model's mbqm, without its check that the left shift stays in int32."""
    shifted = _wrap(x.astype(np.int64) << np.maximum(shift, 0)).astype(np.int64)
    high = saturating_rounding_doubling_high_mul(shifted, m0)
    return rounding_divide_by_pot(high, np.maximum(-shift, 0))


def _apply(op: AluOp, a: np.ndarray, b: Any, qp: Any) -> np.ndarray:
    a = a.astype(np.int64)
    if op in (AluOp.REQ, AluOp.REQ32):
        value = _wrapped_mbqm(a, qp["m0"], qp["shift"])
        return np.clip(value + qp["zp"], qp["lo"], qp["hi"]) if op == AluOp.REQ else _wrap(value)
    table = {
        AluOp.MOV: lambda: a if b is None else np.full_like(a, b),
        AluOp.ABS: lambda: np.abs(a),
        AluOp.ADD: lambda: a + b,
        AluOp.SUB: lambda: a - b,
        AluOp.MUL: lambda: (a * b) & 0xFFFFFFFF,
        AluOp.MAX: lambda: np.maximum(a, b),
        AluOp.MIN: lambda: np.minimum(a, b),
        AluOp.SHR: lambda: a >> b,
        AluOp.SHL: lambda: a << b,
    }
    return _wrap(table[op]())


@st.composite
def cases(draw: Any) -> dict[str, Any]:
    op = draw(st.sampled_from(list(AluOp)))
    sources = {
        AluOp.MOV: [AluSrcB.NONE, AluSrcB.IMM],
        AluOp.ABS: [AluSrcB.NONE],
        AluOp.REQ: [AluSrcB.QP],
        AluOp.REQ32: [AluSrcB.QP],
        AluOp.LUT: [AluSrcB.LUT],
        AluOp.SHR: [AluSrcB.IMM],
        AluOp.SHL: [AluSrcB.IMM],
    }
    b_src = draw(st.sampled_from(sources.get(op, [AluSrcB.IMM, AluSrcB.ACC, AluSrcB.INP])))
    fields = {
        "op": op,
        "b_src": b_src,
        "dst_mem": draw(st.sampled_from(MEMS)),
        "a_mem": draw(st.sampled_from(MEMS[1:] if op == AluOp.LUT else MEMS)),
        "imm": draw(st.integers(0, 31) if op in (AluOp.SHR, AluOp.SHL) else st.integers(-(2**31), 2**31 - 1)),
        "flags": draw(st.integers(0, 3)),
    }
    per_lane = op in (AluOp.REQ, AluOp.REQ32) and draw(st.booleans())
    fields["flags"] |= 4 * per_lane
    for i in range(3):
        fields[f"n{i}"] = draw(st.integers(1, 3))
        for name in ("dst", "a", "b"):
            limit = {"b": 1 if b_src in (AluSrcB.LUT, AluSrcB.QP) else 4}.get(name, 4)
            fields[f"{name}_s{i}"] = draw(st.integers(0, limit))
    for name in ("dst", "a"):
        fields[name] = draw(st.integers(0, 15))
    fields["b"] = draw(st.integers(0, 15)) if b_src in (AluSrcB.ACC, AluSrcB.INP, AluSrcB.QP) else 0
    return fields


def _run(fields: dict[str, Any], seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = int(rng.choice([2**8, 2**31]))
    memory = {
        Mem.ACC: rng.integers(-size, size, (N, 16)).astype(np.int32),
        Mem.INP: rng.integers(0, 256, (N, 16)).astype(np.uint8),
        Mem.OUT: rng.integers(0, 256, (N, 16)).astype(np.uint8),
    }
    luts = rng.integers(0, 256, (7, 256)).astype(np.uint8)
    words = rng.integers(0, 256, (N, 16)).astype(np.uint8).view(np.int32)
    words[:, 1] &= 2**31 - 1
    packed = words.view(np.uint8)
    packed[:, 8] = rng.integers(-31, 31, N).astype(np.int8).view(np.uint8)
    builder = Builder({Mem.ACC: N, Mem.INP: N, Mem.OUT: N, Mem.LUT: 7, Mem.QP: N})
    for mem, array in (
        (Mem.ACC, memory[Mem.ACC]),
        (Mem.INP, memory[Mem.INP]),
        (Mem.LUT, luts),
        (Mem.QP, words),
        (Mem.OUT, memory[Mem.OUT]),
    ):
        builder.load_all(mem, array)
    builder.add("ALU", **fields)
    # All three memories come back: INP by way of OUT.
    result = np.zeros(N * (64 + 16 + 16), np.uint8)
    seg = builder.operand(result)
    builder.add("STORE", mem=Mem.ACC, seg=seg, x=N, y=1, z=1)
    builder.add("STORE", mem=Mem.OUT, seg=seg, dram=4 * N, x=N, y=1, z=1)
    builder.add("ALU", op=AluOp.MOV, a_mem=Mem.INP, dst_mem=Mem.OUT, n0=N, n1=1, n2=1, a_s0=1, dst_s0=1)
    builder.add("STORE", mem=Mem.OUT, seg=seg, dram=5 * N, x=N, y=1, z=1)
    builder.run()

    signed_source, signed_result, per_lane = (bool(fields["flags"] & bit) for bit in (1, 2, 4))
    qps = unpack_qp(words, "int8" if signed_result else "uint8")

    def read(mem: Mem, word: int) -> np.ndarray:
        value = memory[mem][word]
        return value.view(np.int8) if signed_source and mem != Mem.ACC else value

    for i2 in range(fields["n2"]):
        for i1 in range(fields["n1"]):
            for i0 in range(fields["n0"]):
                at = {
                    k: fields[k] + i2 * fields[f"{k}_s2"] + i1 * fields[f"{k}_s1"] + i0 * fields[f"{k}_s0"]
                    for k in ("dst", "a", "b")
                }
                a = read(fields["a_mem"], at["a"])
                if fields["op"] == AluOp.LUT:
                    value = luts[at["b"]][a.view(np.uint8)]
                    value = (value.view(np.int8) if signed_result else value).astype(np.int64)
                else:
                    b: Any = None if fields["b_src"] == AluSrcB.NONE else fields["imm"]
                    if fields["b_src"] in (AluSrcB.ACC, AluSrcB.INP):
                        b = read(Mem.ACC if fields["b_src"] == AluSrcB.ACC else Mem.INP, at["b"]).astype(
                            np.int64
                        )
                    lanes = slice(at["b"], at["b"] + 16) if per_lane else slice(at["b"], at["b"] + 1)
                    value = _apply(fields["op"], a, b, {k: v[lanes] for k, v in qps.items()})
                if fields["dst_mem"] != Mem.ACC:
                    lo, hi = (-128, 127) if signed_result else (0, 255)
                    value = np.clip(value, lo, hi).astype(np.int64).astype(np.uint8)
                memory[fields["dst_mem"]][at["dst"]] = value
    raw = result
    np.testing.assert_array_equal(raw[: 64 * N].view(np.int32).reshape(N, 16), memory[Mem.ACC])
    np.testing.assert_array_equal(raw[64 * N : 80 * N].reshape(N, 16), memory[Mem.OUT])
    np.testing.assert_array_equal(raw[80 * N :].reshape(N, 16), memory[Mem.INP])


@settings(max_examples=150)
@given(fields=cases(), seed=st.integers(0, 2**32 - 1))
def test_alu(fields: dict[str, Any], seed: int) -> None:
    _run(fields, seed)


@pytest.mark.parametrize("op", list(AluOp))
def test_every_operation_is_drawn(op: AluOp) -> None:
    """The random test above must not lose an operation when the table grows."""
    fields = {f"n{i}": 1 for i in range(3)} | {f"{n}_s{i}": 0 for n in ("dst", "a", "b") for i in range(3)}
    b_src = {
        AluOp.MOV: AluSrcB.NONE,
        AluOp.ABS: AluSrcB.NONE,
        AluOp.REQ: AluSrcB.QP,
        AluOp.REQ32: AluSrcB.QP,
        AluOp.LUT: AluSrcB.LUT,
    }.get(op, AluSrcB.IMM)
    _run(
        fields
        | {
            "op": op,
            "b_src": b_src,
            "a_mem": Mem.INP,
            "dst_mem": Mem.OUT,
            "imm": 3,
            "flags": 0,
            "dst": 1,
            "a": 2,
            "b": 0,
        },
        7,
    )
