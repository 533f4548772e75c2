"""Writes ``docs/isa.md`` from the table: ``python -m sd_tvm.accelerator.isa.docs docs/isa.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from enum import IntEnum
from pathlib import Path

from sd_tvm.accelerator.isa import spec
from sd_tvm.accelerator.isa.disasm import _ENUMS as ENUM_FIELDS

_INTRODUCTION = """# Instruction set (version {version})

Generated from `accelerator/isa/spec.py` by `python -m sd_tvm.accelerator.isa.docs docs/isa.md`; do not
edit. `docs/accelerator.md` says what the blocks do and how long they take, `docs/numerics.md` which
integers they compute, `docs/weights.md` what the weight bytes mean.

An instruction is {bits} bits, little endian: bit 0 is the least significant bit of byte 0. It starts with
the header; its own fields follow without gaps; the bits that remain are zero, which is checked. All counts
and strides are affine loop nests in the instruction itself: there are no micro-operations, and nothing in
an instruction depends on a configuration.

## Order

Instructions are dispatched in program order to {n_queues} in-order queues: {queues}. Queues run at the same
time. What must not overlap is ordered by {n_semaphores} counting semaphores: an instruction waits until its
semaphores are above zero, takes one from each, executes, and signals at its end. Between two FENCEs a
semaphore is waited for by one queue and signalled by one queue, so that the result of a program does not
depend on time. At FINISH every signal has been waited for. A read of a word that was never written, an
address outside a memory or an operand, an unknown opcode, a full semaphore and a deadlock are errors.

## Program

| bytes | content |
|---|---|
| 4 | magic `{magic}` |
| 2 | instruction set version, {version} |
| 2 | number of segments: operands of the call, inputs, then results; 1..{max_segments} |
| 4 | number of instructions; the last one is FINISH |
| 4 | number of results, at least 1: the last segments, which alone STORE may write |
| 4 x {n_mem} | words of each memory that the program addresses, in the order of the table below |
| 8 x segments | least bytes of each segment |
| {instruction_bytes} x instructions | the instructions |
"""


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _fields(fields: Sequence[spec.Field], offset: int) -> str:
    rows = []
    for field in fields:
        kind = ENUM_FIELDS.get(field.name)
        notes = field.doc + (f" ({kind.__name__})" if kind else "") + (", signed" if field.signed else "")
        last = offset + field.bits - 1
        rows.append((f"`{field.name}`", field.bits, f"{offset}..{last}" if field.bits > 1 else offset, notes))
        offset += field.bits
    return _table(("field", "bits", "position", "meaning"), rows)


def _enum(cls: type[IntEnum]) -> str:
    doc = (cls.__doc__ or "").strip()
    return f"**{cls.__name__}**: {doc} " + ", ".join(f"{m.value} {m.name}" for m in cls) + ".\n"


def render() -> str:
    """Text of ``docs/isa.md``."""
    parts = [
        _INTRODUCTION.format(
            version=spec.ISA_VERSION,
            bits=spec.INSTRUCTION_BITS,
            instruction_bytes=spec.INSTRUCTION_BYTES,
            magic=spec.MAGIC.decode(),
            n_queues=len(spec.Queue),
            queues=", ".join(q.name for q in spec.Queue),
            n_semaphores=spec.N_SEMAPHORES,
            max_segments=spec.MAX_SEGMENTS,
            n_mem=len(spec.MEMORIES),
        ),
        "## Memories\n",
        _table(
            ("number", "memory", "bytes a word", "size in the configuration", "content"),
            ((m.mem.value, m.mem.name, m.word_bytes, f"`sram.{m.config_key}`", m.doc) for m in spec.MEMORIES),
        ),
        "DRAM is addressed in words of 16 bytes inside a segment.\n",
        "## Header of every instruction\n",
        _fields(spec.HEADER, 0),
        "## Instructions\n",
        _table(
            ("opcode", "name", "queue", "bits used"),
            (
                (
                    i.opcode,
                    f"[{i.name}](#{i.name.lower()})",
                    i.queue.name if i.queue is not None else "",
                    spec.used_bits(i),
                )
                for i in spec.INSTRUCTIONS
            ),
        ),
    ]
    for i in spec.INSTRUCTIONS:
        parts += [f"### {i.name}\n", i.doc + "\n"]
        if i.fields:
            parts.append(_fields(i.fields, spec.HEADER_BITS))
    parts += ["## Enumerations\n", *(_enum(cls) for cls in dict.fromkeys([*ENUM_FIELDS.values()]))]
    return "\n".join(parts)


def main(arguments: Sequence[str]) -> int:
    """Write to the path that is given, or print."""
    if arguments:
        Path(arguments[0]).write_text(render(), encoding="utf-8")
    else:
        sys.stdout.write(render())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
