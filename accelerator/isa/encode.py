"""Encoder and decoder of single instructions, driven by the table in :mod:`.spec`."""

from __future__ import annotations

from collections.abc import Mapping

from sd_tvm.accelerator.isa.spec import (
    BY_NAME,
    BY_OPCODE,
    HEADER,
    INSTRUCTION_BYTES,
    N_SEMAPHORES,
    Field,
    used_bits,
)
from sd_tvm.errors import CodegenError, ProgramError, RecipeError
from sd_tvm.weights.alphabet import N_CODES, two_power_terms

ZERO_CODE = 0x07
_SEMAPHORE_VALID = 1 << 5
_SEMAPHORES = ("wait0", "wait1", "signal0", "signal1")


def semaphore(index: int | None) -> int:
    """Header field that names a semaphore; None: none.

    Raises
    ------
    CodegenError
        If there is no semaphore of that index.
    """
    if index is None:
        return 0
    if not 0 <= index < N_SEMAPHORES:
        raise CodegenError(
            f"semaphore {index}", expected=f"0..{N_SEMAPHORES - 1}", fix="use fewer semaphores"
        )
    return _SEMAPHORE_VALID | index


def encode_code(value: int) -> int:
    """Byte of SETW's code table for a coefficient value.

    Raises
    ------
    CodegenError
        If the value is not zero, +-2^p1 or +-(2^p1 + 2^p2) with exponents 0..7.
    """
    if value == 0:
        return ZERO_CODE
    try:
        p1, p2 = two_power_terms(value)
    except RecipeError as error:
        raise CodegenError(
            f"code {value} has no table entry", expected=error.expected, fix="use another alphabet"
        ) from error
    byte = (0x80 if value < 0 else 0) | p1 << 4
    return byte if p2 is None else byte | 8 | p2


def encode_table(values: list[int] | tuple[int, ...]) -> dict[str, int]:
    """Fields code0..code15 of SETW for the 16 values of an alphabet's table.

    Raises
    ------
    CodegenError
        If there are not 16 values or one cannot be encoded.
    """
    if len(values) != N_CODES:
        raise CodegenError(
            f"{len(values)} codes", expected=f"{N_CODES}", fix="pass the whole table of the alphabet"
        )
    return {f"code{i}": encode_code(int(v)) for i, v in enumerate(values)}


def _field_bits(instruction: str, field: Field, value: int) -> int:
    low = -(1 << (field.bits - 1)) if field.signed else 0
    high = (1 << (field.bits - (1 if field.signed else 0))) - 1
    if not low <= value <= high:
        raise CodegenError(
            f"{instruction}: field {field.name} is {value}",
            expected=f"{low}..{high} ({field.bits} bits)",
            fix="tile the layer smaller",
        )
    return value & ((1 << field.bits) - 1)


def encode(name: str, **fields: int | None) -> bytes:
    """One instruction.

    Parameters
    ----------
    name
        Row of :data:`.spec.INSTRUCTIONS`.
    **fields
        Its fields and those of the header; missing ones are zero. wait0, wait1, signal0 and
        signal1 are semaphore indices or None.

    Returns
    -------
    bytes
        32 bytes.

    Raises
    ------
    CodegenError
        If there is no such instruction or field, or a value does not fit its field.
    """
    row = BY_NAME.get(name)
    if row is None:
        raise CodegenError(
            f"no instruction {name!r}", expected=f"one of {sorted(BY_NAME)}", fix="correct the name"
        )
    table = {f.name: f for f in (*HEADER, *row.fields)}
    unknown = sorted(set(fields) - set(table) | ({"opcode"} & set(fields)))
    if unknown:
        raise CodegenError(
            f"{name} has no field {', '.join(unknown)}",
            expected=f"some of {sorted(set(table) - {'opcode'})}",
            fix="correct the name",
        )
    word = offset = 0
    for field in (*HEADER, *row.fields):
        value = fields.get(field.name)
        if field.name == "opcode":
            value = row.opcode
        elif field.name in _SEMAPHORES:
            value = semaphore(value)
        word |= _field_bits(name, field, int(value or 0)) << offset
        offset += field.bits
    return word.to_bytes(INSTRUCTION_BYTES, "little")


def decode(data: bytes) -> tuple[str, dict[str, int | None]]:
    """Name and all fields of an instruction; inverse of :func:`encode`.

    Raises
    ------
    ProgramError
        If the bytes are no instruction.
    """
    if len(data) != INSTRUCTION_BYTES:
        raise ProgramError(f"an instruction of {len(data)} bytes", expected=f"{INSTRUCTION_BYTES}")
    word = int.from_bytes(data, "little")
    row = BY_OPCODE.get(word & 0xF)
    if row is None:
        raise ProgramError(f"opcode {word & 0xF} does not exist", expected=f"0..{max(BY_OPCODE)}")
    if word >> used_bits(row):
        raise ProgramError(f"{row.name}: unused bits are not zero", expected="zero")
    fields: dict[str, int | None] = {}
    offset = 0
    for field in (*HEADER, *row.fields):
        value = word >> offset & ((1 << field.bits) - 1)
        offset += field.bits
        if field.name == "opcode":
            continue
        if field.name in _SEMAPHORES:
            fields[field.name] = _semaphore_index(row.name, field.name, value)
        elif field.signed and value >> (field.bits - 1):
            fields[field.name] = value - (1 << field.bits)
        else:
            fields[field.name] = value
    return row.name, fields


def _semaphore_index(instruction: str, field: str, value: int) -> int | None:
    if value & _SEMAPHORE_VALID:
        return value & (_SEMAPHORE_VALID - 1)
    if value:
        raise ProgramError(f"{instruction}: unused {field} holds {value}", expected="0")
    return None


def defaults(name: str) -> Mapping[str, int | None]:
    """Value of every field that :func:`encode` uses when it is not given."""
    return {
        f.name: None if f.name in _SEMAPHORES else 0
        for f in (*HEADER, *BY_NAME[name].fields)
        if f.name != "opcode"
    }
