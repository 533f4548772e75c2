"""Program container, listing, generated header, documentation."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from isa.test_encode import instructions

from sd_tvm.accelerator.isa import Program, assemble, disassemble, encode, gen_header, spec
from sd_tvm.accelerator.isa.spec import Mem
from sd_tvm.errors import CodegenError, ProgramError

PROGRAM = Program(
    (encode("LOAD", mem=Mem.INP, x=4, y=1, z=1, signal0=3), encode("FINISH")),
    (64, 32),
    {Mem.INP: 4, Mem.OUT: 2},
)


def test_bytes_are_pinned() -> None:
    """The container of version 2; a change needs a new version."""
    assert PROGRAM.to_bytes().hex() == (
        "5344415002000200020000000100000004000000000000000000000000000000000000000000000000000000"
        "0200000040000000000000002000000000000000010023000000000000000020000880000000000000000000"
        "00000000000000000800000000000000000000000000000000000000000000000000000000000000"
    )


def test_round_trip() -> None:
    assert Program.from_bytes(PROGRAM.to_bytes()) == PROGRAM


def test_limits() -> None:
    with pytest.raises(CodegenError, match="1025 segments"):
        Program((), (1,) * 1025).to_bytes()
    with pytest.raises(CodegenError, match="0 segments"):
        Program((), ()).to_bytes()
    for n in (0, 3):
        with pytest.raises(CodegenError, match=f"{n} results of 2 segments"):
            Program((), (1, 1), n_results=n).to_bytes()
    with pytest.raises(CodegenError, match="65537 words of ACC"):
        Program((), (1,), {Mem.ACC: 65537}).to_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b[:10], "10 bytes"),
        (lambda b: b"X" + b[1:], "not a program"),
        (lambda b: b[:4] + b"\x63" + b[5:], "version 99"),
        (lambda b: b + b"\0", "Expected"),
        (lambda b: b[:12] + b"\0" + b[13:], "0 of them results"),
        (lambda b: b[:12] + b"\3" + b[13:], "3 of them results"),
        (lambda b: b[:-32] + b"\x0f" + b[-31:], "opcode 15"),
    ],
)
def test_malformed(change: Any, message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        Program.from_bytes(change(PROGRAM.to_bytes()))


def test_listing() -> None:
    assert disassemble(PROGRAM.to_bytes()) == (
        "; segments 64 32\n"
        "; results 1\n"
        "; words INP=4 OUT=2\n"
        "    0  LOAD   signal0=s3 mem=INP xform=COPY x=4 y=1 z=1\n"
        "    1  FINISH\n"
    )


@settings(max_examples=150)
@given(instructions())
def test_assembler_reads_the_listing(instruction: Any) -> None:
    name, fields = instruction
    enums = {"mem": 7, "a_mem": 7, "dst_mem": 7, "xform": 2, "acc_init": 2, "op": 11, "b_src": 5, "wmode": 5}
    fields = {k: min(v, enums[k]) if k in enums else v for k, v in fields.items()}
    data = encode(name, **fields)
    assert assemble(disassemble(Program((data,), (1,)))) == (data,)


def test_assembler_errors() -> None:
    for text in ("LOAD x", "LOAD x=y", "ALU op=DIV", "LOAD 3=x=4 mem=FOO"):
        with pytest.raises(CodegenError, match="line 1"):
            assemble(text)
    assert assemble("\n; nothing\n") == ()


def test_header_has_every_name() -> None:
    text = gen_header.header_text(spec)
    for instruction in spec.INSTRUCTIONS:
        assert re.search(rf"struct {instruction.name.capitalize()} \{{", text)
    for memory in spec.MEMORIES:
        assert f'"{memory.config_key}"' in text
    assert f"kVersion = {spec.ISA_VERSION};" in text
