"""Encoder and decoder of single instructions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sd_tvm.accelerator.isa import decode, encode, encode_code, encode_table
from sd_tvm.accelerator.isa.spec import BY_NAME, HEADER, INSTRUCTION_BYTES, INSTRUCTIONS, Field, used_bits
from sd_tvm.errors import CodegenError, ProgramError
from sd_tvm.weights.alphabet import ALPHABETS

SEMAPHORES = ("wait0", "wait1", "signal0", "signal1")


def _limits(field: Field) -> tuple[int, int]:
    half = 1 << (field.bits - 1)
    return (-half, half - 1) if field.signed else (0, 2 * half - 1)


@st.composite
def instructions(draw: Any) -> tuple[str, dict[str, int | None]]:
    """Any instruction with any values in its fields."""
    row = draw(st.sampled_from(INSTRUCTIONS))
    fields: dict[str, int | None] = {}
    for field in (*HEADER, *row.fields):
        if field.name in SEMAPHORES:
            fields[field.name] = draw(st.none() | st.integers(0, 31))
        elif field.name != "opcode":
            fields[field.name] = draw(st.integers(*_limits(field)))
    return row.name, fields


@settings(max_examples=300)
@given(instructions())
def test_round_trip(instruction: tuple[str, dict[str, int | None]]) -> None:
    name, fields = instruction
    data = encode(name, **fields)
    assert len(data) == INSTRUCTION_BYTES
    assert decode(data) == (name, fields)


@pytest.mark.parametrize("row", INSTRUCTIONS, ids=lambda r: r.name)
def test_bits_stand_where_the_table_says(row: Any) -> None:
    """Each field alone, all ones: exactly its bits, no gap, no overlap, opcode in the low four."""
    offset = 0
    for field in (*HEADER, *row.fields):
        if field.name not in ("opcode", *SEMAPHORES):
            value = -1 if field.signed else (1 << field.bits) - 1
            word = int.from_bytes(encode(row.name, **{field.name: value}), "little")
            assert word == row.opcode | ((1 << field.bits) - 1) << offset, field.name
        offset += field.bits
    assert offset == used_bits(row) <= 256


def test_semaphores_carry_a_valid_bit() -> None:
    word = int.from_bytes(encode("FENCE", wait0=0, signal1=31), "little")
    assert word == BY_NAME["FENCE"].opcode | 0b100000 << 4 | 0b111111 << 22


@pytest.mark.parametrize("row", INSTRUCTIONS, ids=lambda r: r.name)
def test_range_errors_name_the_field(row: Any) -> None:
    for field in (*HEADER, *row.fields):
        if field.name == "opcode":
            continue
        low, high = (0, 31) if field.name in SEMAPHORES else _limits(field)
        for value in (low - 1, high + 1):
            with pytest.raises(CodegenError) as caught:
                encode(row.name, **{field.name: value})
            named = "semaphore" if field.name in SEMAPHORES else field.name
            assert named in str(caught.value)


def test_unknown_names() -> None:
    with pytest.raises(CodegenError, match="no instruction 'JUMP'"):
        encode("JUMP")
    with pytest.raises(CodegenError, match="LOAD has no field n_oy"):
        encode("LOAD", n_oy=1)
    with pytest.raises(CodegenError, match="no field opcode"):
        encode("LOAD", opcode=1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes"),
        (b"\x0e" + bytes(31), "opcode 14"),
        (b"\x08" + bytes(30) + b"\x01", "FINISH: unused bits"),
        (b"\x11" + bytes(31), "LOAD: unused wait0"),
    ],
)
def test_decode_errors(data: bytes, message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        decode(data)


def test_code_table() -> None:
    assert [encode_code(v) for v in (0, 1, -1, 3, 8, -6, 64, 127 - 63)] == [
        0x07, 0x00, 0x80, 0x18, 0x30, 0xA9, 0x60, 0x60,
    ]  # fmt: skip
    with pytest.raises(CodegenError, match="code 7"):
        encode_code(7)
    with pytest.raises(CodegenError, match="15 codes"):
        encode_table([0] * 15)


@pytest.mark.parametrize("name", ALPHABETS)
def test_every_alphabet_is_expressible(name: str) -> None:
    table = ALPHABETS[name].table.tolist()
    for value, byte in zip(table, encode_table(table).values(), strict=True):
        magnitude = 0 if byte == 7 else (1 << (byte >> 4 & 7)) + ((1 << (byte & 7)) if byte & 8 else 0)
        assert value == (-magnitude if byte & 0x80 else magnitude)
