"""Disassembler (one readable line an instruction) and the assembler that reads the lines back.

A line is the name, then ``field=value`` for every field that is not zero, in the order of the table.
Values of enumerations are names (numbers where there is none); semaphores read ``wait0=s3``. ``;`` starts a
comment.
"""

from __future__ import annotations

from enum import IntEnum

from sd_tvm.accelerator.isa.encode import defaults, encode
from sd_tvm.accelerator.isa.program import Program
from sd_tvm.accelerator.isa.spec import (
    BY_NAME,
    AccInit,
    AluOp,
    AluSrcB,
    BasisKind,
    Mem,
    Queue,
    RowKind,
    WMode,
    Xform,
)
from sd_tvm.errors import CodegenError

_ENUMS: dict[str, type[IntEnum]] = {
    "mem": Mem,
    "a_mem": Mem,
    "dst_mem": Mem,
    "queue": Queue,
    "wmode": WMode,
    "rowkind": RowKind,
    "basis_kind": BasisKind,
    "acc_init": AccInit,
    "op": AluOp,
    "b_src": AluSrcB,
    "xform": Xform,
}
_SEMAPHORES = ("wait0", "wait1", "signal0", "signal1")


def format_instruction(name: str, fields: dict[str, int | None]) -> str:
    """One line of assembly; fields that are zero are left out."""
    parts = [f"{name:<6}"]
    for key in defaults(name):
        value = fields.get(key)
        if value is None:
            continue
        if key in _SEMAPHORES:
            parts.append(f"{key}=s{value}")
        elif key in _ENUMS:
            known = value in _ENUMS[key].__members__.values()
            parts.append(f"{key}={_ENUMS[key](value).name if known else value}")
        elif value:
            parts.append(f"{key}={value}")
    return " ".join(parts).rstrip()


def disassemble(program: Program | bytes) -> str:
    """Listing of a program: needs as comments, then a numbered line an instruction.

    Raises
    ------
    ProgramError
        If the bytes are not a program.
    """
    if isinstance(program, bytes):
        program = Program.from_bytes(program)
    words = " ".join(f"{m.name}={n}" for m, n in program.required_words.items())
    lines = [
        f"; segments {' '.join(map(str, program.segment_bytes))}",
        f"; results {program.n_results}",
        f"; words {words}",
    ]
    lines += [
        f"{i:5d}  {format_instruction(name, fields)}" for i, (name, fields) in enumerate(program.decoded())
    ]
    return "\n".join(lines) + "\n"


def _value(key: str, text: str) -> int:
    if key in _SEMAPHORES:
        return int(text.removeprefix("s"))
    if key in _ENUMS and not text.lstrip("-").isdigit():
        return int(_ENUMS[key][text])
    return int(text, 0)


def assemble(text: str) -> tuple[bytes, ...]:
    """Instructions of a listing; line numbers and comments are ignored.

    Raises
    ------
    CodegenError
        If a line does not parse.
    """
    out = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split(";", 1)[0].split()
        if words and words[0].isdigit():
            words = words[1:]
        if not words:
            continue
        try:
            fields = {k: _value(k, v) for k, v in (w.split("=", 1) for w in words[1:])}
        except (ValueError, KeyError) as error:
            raise CodegenError(
                f"line {number} of the listing does not parse: {line.strip()!r}",
                expected=f"NAME field=value ..., NAME one of {sorted(BY_NAME)}",
            ) from error
        out.append(encode(words[0], **fields))
    return tuple(out)
