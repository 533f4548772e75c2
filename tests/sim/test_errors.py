"""Everything that can be wrong with a program is a typed error that says where and what."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pytest
from sim.kit import CONFIG

from sd_tvm.accelerator.isa import Program, encode
from sd_tvm.accelerator.isa.spec import AluOp, AluSrcB, Mem, Queue, WMode
from sd_tvm.accelerator.simulator import run_program
from sd_tvm.errors import ConfigError, ConfigMismatchError, DeadlockError, ProgramError

WORDS = dict.fromkeys(Mem, 64) | {Mem.LUT: 4}
X = np.arange(1024, dtype=np.uint32).astype(np.uint8)
LOAD = {"mem": Mem.INP, "x": 4, "y": 1, "z": 1}
GEMM = {"n_oy": 1, "n_ox": 1, "n_m": 1, "acc_init": 1}
SETW = {"wmode": WMode.RAW8, "cg": 1, "mg": 1, "n_ky": 1, "n_kx": 1}
ALU = {"op": AluOp.MOV, "a_mem": Mem.ACC, "dst_mem": Mem.OUT, "n0": 1, "n1": 1, "n2": 1}
SD = {"wmode": WMode.DENSE, "cg": 4, "mg": 8, "n_ky": 1, "n_kx": 1, "rowkind": 1, "s": 3}
SD |= {f"code{i}": 7 for i in range(16)}


def program(*instructions: bytes, finish: bool = True, words: dict[Mem, int] = WORDS) -> bytes:
    end = (encode("FINISH"),) if finish else ()
    return Program((*instructions, *end), (1024, 1024), words).to_bytes()


def run(data: bytes, config: str = CONFIG) -> None:
    run_program(data, config, [X, np.zeros(1024, np.uint8)])


def with_bit(instruction: bytes, bit: int) -> bytes:
    return (int.from_bytes(instruction, "little") | 1 << bit).to_bytes(32, "little")


def loaded(*instructions: bytes, **memories: int) -> bytes:
    """Instructions after loads of some memories, one FENCE apart."""
    loads = [
        encode(
            "LOAD",
            mem=Mem[name.upper()],
            x=16 * n if name == "lut" else n * (4 if name == "acc" else 1),
            y=1,
            z=1,
        )
        for name, n in memories.items()
    ]
    out: list[bytes] = []
    for i in (*loads, *instructions):
        out += [i, encode("FENCE")]
    return program(*out)


STATIC: dict[str, tuple[Callable[[], bytes], str]] = {
    "opcode": (lambda: program(b"\x0f" + bytes(31)), "instruction 0: opcode 15 does not exist"),
    "unused bits": (
        lambda: program(with_bit(encode("FENCE"), 200)),
        r"instruction 0 \(FENCE\): bits beyond 32",
    ),
    "unused top bit": (lambda: program(with_bit(encode("GEMM", **GEMM), 255)), "bits beyond 244"),
    "unused semaphore": (
        lambda: program(with_bit(encode("LOAD", **LOAD), 4)),
        "unused semaphore field holds 1",
    ),
    "flags": (lambda: program(encode("GEMM", flags=1, **GEMM)), "flags are 1"),
    "queueless wait": (lambda: program(encode("FENCE", wait0=1)), "belongs to no queue"),
    "no FINISH": (lambda: program(encode("FENCE"), finish=False), "no FINISH"),
    "empty": (lambda: program(finish=False), "no FINISH"),
    "after FINISH": (lambda: program(encode("FINISH")), "instruction 1 follows FINISH"),
    "store memory": (lambda: program(encode("STORE", **LOAD)), "stores from INP"),
    "store xform": (lambda: program(encode("STORE", **{**LOAD, "mem": Mem.OUT, "xform": 1})), "xform is 1"),
    "acc_init": (lambda: program(encode("GEMM", **{**GEMM, "acc_init": 3})), "acc_init is 3"),
    "no filters": (lambda: program(encode("GEMM", **{**GEMM, "n_m": 0})), "n_m is 0"),
    "no rows": (lambda: program(encode("GEMM", **{**GEMM, "n_oy": 0})), "n_oy is 0"),
    "no columns": (lambda: program(encode("GEMM", **{**GEMM, "n_ox": 0})), "n_ox is 0"),
    "unaligned filter": (lambda: program(encode("GEMM", m_base=8, **GEMM)), "m_base is 8"),
    "alu op": (lambda: program(encode("ALU", **{**ALU, "op": 15})), "op is 15"),
    "alu b": (lambda: program(encode("ALU", b_src=7, **ALU)), "b_src is 7"),
    "alu memory": (lambda: program(encode("ALU", **{**ALU, "a_mem": Mem.CODE})), "a_mem is CODE"),
    "alu extent": (lambda: program(encode("ALU", **{**ALU, "n1": 0})), "extent is 0"),
    "wmode": (lambda: program(encode("SETW", **{**SETW, "wmode": 7})), "wmode is 7"),
    "cg": (lambda: program(encode("SETW", **{**SETW, "cg": 0})), "cg is 0"),
    "mg": (lambda: program(encode("SETW", **{**SETW, "mg": 0})), "mg is 0"),
    "kernel": (lambda: program(encode("SETW", **{**SETW, "n_kx": 0})), "n_kx is 0"),
    "s": (lambda: program(encode("SETW", **{**SD, "s": 17})), "s is 17"),
    "no s": (lambda: program(encode("SETW", **{**SD, "s": 0})), "s is 0"),
    "taps": (lambda: program(encode("SETW", **{**SD, "rowkind": 0})), "s is 3 and n_kx 1"),
    "code": (lambda: program(encode("SETW", **{**SD, "code3": 0x1F})), "entry 31 is not canonical"),
    "negative zero": (lambda: program(encode("SETW", **{**SD, "code3": 0x87})), "entry 135 is not canonical"),
    "kept rows": (
        lambda: program(encode("SETW", **{**SD, "wmode": 5, "kept_rows": 3, "group_tiles": 1})),
        "kept_rows is 3",
    ),
    "group tiles": (lambda: program(encode("SETW", **{**SD, "wmode": 5})), "group_tiles is 0"),
    "two waiting queues": (
        lambda: program(encode("NOP", queue=Queue.LD, wait0=3), encode("NOP", queue=Queue.ST, wait1=3)),
        r"instruction 1 \(NOP\): queue ST waits for semaphore 3 and so does queue LD",
    ),
    "two signalling queues": (
        lambda: program(encode("NOP", queue=Queue.LD, signal0=3), encode("NOP", queue=Queue.GE, signal0=3)),
        "queue GE signals semaphore 3",
    ),
    "short": (lambda: program()[:20], "20 bytes"),
    "cut": (lambda: program()[:-1], "Expected"),
    "trailing": (lambda: program() + b"\0", "Expected"),
    "magic": (lambda: b"X" + program()[1:], "does not start with 'SDAP'"),
    "version": (lambda: program()[:4] + struct.pack("<H", 99) + program()[6:], "instruction set version 99"),
    "no results": (lambda: program()[:12] + b"\0" + program()[13:], "0 results"),
    "many results": (lambda: program()[:12] + b"\3" + program()[13:], "3 results. Expected: 1..2"),
    "no segments": (lambda: program()[:6] + b"\0\0" + program()[8:], "0 segments"),
    "many segments": (lambda: program()[:6] + b"\1\4" + program()[8:], "1025 segments"),
    "words": (lambda: program()[:16] + struct.pack("<I", 65537) + program()[20:], "65537 words of INP"),
}


@pytest.mark.parametrize("case", STATIC)
def test_static(case: str) -> None:
    make, message = STATIC[case]
    with pytest.raises(ProgramError, match=message) as caught:
        run(make())
    assert caught.type is ProgramError
    assert "Expected" in str(caught.value)


DYNAMIC: dict[str, tuple[Callable[[], bytes], str]] = {
    "load beyond memory": (lambda: program(encode("LOAD", sram=61, **LOAD)), "touches INP word 64"),
    "load plane beyond": (
        lambda: program(encode("LOAD", **{**LOAD, "z": 2, "sram_zs": 63})),
        "touches INP word 66",
    ),
    "load beyond segment": (lambda: program(encode("LOAD", dram=61, **LOAD)), "byte 1039 of segment 0"),
    "load segment": (lambda: program(encode("LOAD", seg=2, **LOAD)), "segment 2 does not exist"),
    "load nothing": (lambda: program(encode("LOAD", mem=Mem.INP, x=0, y=1, z=1)), "moves nothing"),
    "load no planes": (lambda: program(encode("LOAD", mem=Mem.INP, x=1, y=1)), "moves nothing"),
    "load half a word": (lambda: program(encode("LOAD", mem=Mem.ACC, x=5, y=1, z=1)), "x is 5"),
    "widen": (lambda: program(encode("LOAD", xform=1, **LOAD)), "WIDEN into another memory"),
    "expand": (
        lambda: program(encode("LOAD", xform=2, **{**LOAD, "mem": Mem.CODE})),
        "EXPAND4 into another memory",
    ),
    "spread": (lambda: program(encode("LOAD", xform=3, **LOAD)), "SPREAD9 into another memory"),
    "spread with pads": (
        lambda: program(encode("LOAD", xform=3, pad_l=1, **{**LOAD, "mem": Mem.QP})),
        "SPREAD9 with pads",
    ),
    "filled copy": (lambda: program(encode("LOAD", fill=1, **LOAD)), "fill without SPREAD9"),
    "skipping copy": (lambda: program(encode("LOAD", flags=2, **LOAD)), "flag 1 or 2 without EXPAND4"),
    "signed expand": (lambda: program(encode("LOAD", xform=2, flags=1, **LOAD)), "flag 0 without WIDEN"),
    "signed copy": (lambda: program(encode("LOAD", flags=1, **LOAD)), "flag 0 without WIDEN"),
    "store to an input": (
        lambda: loaded(encode("STORE", mem=Mem.OUT, x=1, y=1, z=1), out=1),
        "stores to segment 0",
    ),
    "store beyond": (
        lambda: loaded(encode("STORE", mem=Mem.OUT, seg=1, dram=64, x=1, y=1, z=1), out=1),
        "of segment 1",
    ),
    "store nothing": (lambda: program(encode("STORE", mem=Mem.OUT, seg=1)), "moves nothing"),
    "store unwritten": (
        lambda: program(encode("STORE", mem=Mem.OUT, seg=1, x=1, y=1, z=1)),
        "uninitialised OUT word 0",
    ),
    "no SETW": (lambda: program(encode("GEMM", **GEMM)), "no SETW came before"),
    "acc": (lambda: program(encode("SETW", **SETW), encode("GEMM", acc=64, **GEMM)), "touches ACC word 64"),
    "code unwritten": (
        lambda: program(encode("SETW", **SETW), encode("GEMM", **GEMM)),
        "uninitialised CODE word 0",
    ),
    "code beyond": (
        lambda: loaded(encode("SETW", **{**SETW, "cg": 65}), encode("GEMM", **GEMM), code=64),
        "touches CODE word 64",
    ),
    "inp unwritten": (
        lambda: loaded(encode("SETW", **SETW), encode("GEMM", **GEMM), code=1),
        "uninitialised INP word 0",
    ),
    "inp beyond": (
        lambda: loaded(encode("SETW", **SETW), encode("GEMM", inp=64, **GEMM), code=1),
        "touches INP word 64",
    ),
    "inp wrapped": (
        lambda: loaded(encode("SETW", **SETW), encode("GEMM", inp=65535, **GEMM), code=1),
        "touches INP word 65535",
    ),
    "qp unwritten": (
        lambda: loaded(encode("SETW", **SETW), encode("GEMM", **{**GEMM, "acc_init": 0}), code=1),
        "uninitialised QP word 0",
    ),
    "keep unwritten": (
        lambda: loaded(encode("SETW", **SETW), encode("GEMM", **{**GEMM, "acc_init": 2}), code=1),
        "uninitialised ACC word 0",
    ),
    "basis unwritten": (
        lambda: loaded(encode("SETW", **SD), encode("GEMM", **GEMM), code=3),
        "uninitialised BASIS word 0",
    ),
    "ids unwritten": (
        lambda: loaded(encode("SETW", **{**SD, "basis_kind": 1}), encode("GEMM", **GEMM), code=3),
        "uninitialised IDX word 0",
    ),
    "basis id": (
        lambda: loaded(
            encode("SETW", **{**SD, "basis_kind": 1}), encode("GEMM", basis=64, **GEMM), code=3, idx=1
        ),
        "touches BASIS word 64",
    ),
    "row index": (
        lambda: loaded(
            encode("SETW", **{**SD, "wmode": WMode.N4}), encode("GEMM", code=1, **GEMM), code=8, basis=8
        ),
        "names row",
    ),
    "bitmap": (
        lambda: loaded(
            encode("SETW", **{**SD, "wmode": WMode.SHARED, "kept_rows": 2, "group_tiles": 1}),
            encode("GEMM", idx=2, **GEMM),
            code=3,
            basis=1,
            idx=4,
        ),
        "a bitmap keeps",
    ),
    "too many inputs": (
        lambda: loaded(
            encode(
                "SETW",
                **{
                    **SD,
                    "cg": 32767,
                    "n_ky": 31,
                    "n_kx": 31,
                    "wmode": WMode.SHARED,
                    "kept_rows": 0,
                    "group_tiles": 1,
                },
            ),
            encode("GEMM", **GEMM),
            basis=1,
            idx=64,
        ),
        "Expected",
    ),
    "alu a": (lambda: loaded(encode("ALU", a=64, **ALU), acc=1), "touches ACC word 64"),
    "alu dst": (
        lambda: loaded(encode("ALU", dst=63, dst_s0=1, **{**ALU, "n0": 2}), acc=1),
        "touches OUT word 64",
    ),
    "alu unwritten": (lambda: program(encode("ALU", **ALU)), "uninitialised ACC word 0"),
    "alu operand": (
        lambda: loaded(encode("ALU", b_src=AluSrcB.IMM, **{**ALU, "op": AluOp.ABS}), acc=1),
        "b_src is 1",
    ),
    "alu no operand": (lambda: loaded(encode("ALU", **{**ALU, "op": AluOp.ADD}), acc=1), "b_src is 0"),
    "alu lut of acc": (
        lambda: loaded(encode("ALU", b_src=AluSrcB.LUT, **{**ALU, "op": AluOp.LUT}), acc=1, lut=1),
        "LUT reads ACC",
    ),
    "alu flag": (lambda: loaded(encode("ALU", flags=4, **ALU), acc=1), "flag 2 without REQ"),
    "alu shift": (
        lambda: loaded(encode("ALU", b_src=AluSrcB.IMM, imm=32, **{**ALU, "op": AluOp.SHR}), acc=1),
        "shifts by 32",
    ),
    "alu qp": (
        lambda: loaded(
            encode("ALU", b_src=AluSrcB.QP, b=50, flags=4, **{**ALU, "op": AluOp.REQ}), acc=1, qp=60
        ),
        "touches QP word 65",
    ),
    "alu qp shift": (
        lambda: loaded(encode("ALU", b_src=AluSrcB.QP, b=3, **{**ALU, "op": AluOp.REQ}), acc=1, qp=60),
        "QP word 3 shifts by 56",
    ),
    "overflow": (
        lambda: program(*[encode("NOP", queue=Queue.LD, signal0=9)] * 256),
        r"instruction 255 \(NOP\): semaphore 9 overflows",
    ),
    "left over": (lambda: program(encode("NOP", queue=Queue.LD, signal0=9)), "semaphore 9 holds 1 at FINISH"),
}


@pytest.mark.parametrize("case", DYNAMIC)
def test_dynamic(case: str) -> None:
    make, message = DYNAMIC[case]
    with pytest.raises(ProgramError, match=message) as caught:
        run(make())
    assert caught.type is ProgramError


def test_deadlock_names_every_head() -> None:
    """U11 of the design study: two queues wait for each other."""
    data = program(
        encode("NOP", queue=Queue.LD, wait0=0, signal0=1),
        encode("NOP", queue=Queue.GE, wait0=1, wait1=2, signal0=0),
        encode("NOP", queue=Queue.ST),
    )
    with pytest.raises(DeadlockError) as caught:
        run(data)
    text = str(caught.value)
    assert "LD at instruction 0 (NOP) waits for semaphore 0 (0)" in text
    assert "GE at instruction 1 (NOP) waits for semaphore 1 (0) and semaphore 2 (0)" in text
    assert "AL is done; ST is done" in text


def test_a_wait_twice_on_one_semaphore_needs_two() -> None:
    nop = {"queue": Queue.GE, "wait0": 0, "wait1": 0}
    with pytest.raises(DeadlockError):
        run(program(encode("NOP", queue=Queue.LD, signal0=0), encode("NOP", **nop)))
    run(program(encode("NOP", queue=Queue.LD, signal0=0, signal1=0), encode("NOP", **nop)))


def test_missing_synchronisation_is_seen() -> None:
    """The reading queue runs in its turn, before what it needs: an uninitialised read, every time."""
    gemm = [encode("SETW", **SETW), encode("GEMM", signal0=1, **GEMM)]
    loads = [encode("LOAD", **{**LOAD, "mem": m}) for m in (Mem.INP, Mem.CODE)]
    store = encode("STORE", mem=Mem.ACC, seg=1, x=1, y=1, z=1)
    run(program(*loads, *gemm, encode("STORE", mem=Mem.ACC, seg=1, x=1, y=1, z=1, wait0=1)))
    late = encode("NOP", queue=Queue.LD, wait0=2)
    with pytest.raises(ProgramError, match="uninitialised"):
        run(program(late, *loads, *gemm, encode("NOP", queue=Queue.ST, signal0=2), store))


def test_configuration_too_small() -> None:
    config = CONFIG.replace("acc_kb=4096", "acc_kb=2")
    with pytest.raises(
        ConfigMismatchError, match="needs 64 words of ACC and the configuration has 32"
    ) as caught:
        run(program(), config)
    assert "acc_kb" in str(caught.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("inp_kb", "line 1"),
        ("inp_kb=x\n", "line 1"),
        ("=1\n", "line 1"),
        ("a=1\na=2\n", "repeats 'a'"),
        ("code_kb=1\n", "no 'inp_kb'"),
        (CONFIG.replace("inp_kb=4096", "inp_kb=-1"), "'inp_kb' is -1"),
        ("inp_kb=99999999999999999999\n", "line 1"),
    ],
)
def test_configuration_malformed(config: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(program(), config)


def test_operands() -> None:
    data, result = program(), np.zeros(1024, np.uint8)
    with pytest.raises(ProgramError, match=r"1 operands\. Expected: 2"):
        run_program(data, CONFIG, [result])
    with pytest.raises(ProgramError, match=r"operand 0 has 1023 bytes\. Expected"):
        run_program(data, CONFIG, [X[:-1], result])
    with pytest.raises(ProgramError, match="cannot be written in place"):
        run_program(data, CONFIG, [X, np.zeros((1024, 2), np.uint8)[:, 0]])


def test_mode() -> None:
    with pytest.raises(ConfigError, match="mode is 'fast'"):
        run_program(program(), CONFIG, [X, X.copy()], "fast")  # type: ignore[arg-type]
