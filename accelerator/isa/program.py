"""Program container: what the code generator hands to the simulator.

Little endian: magic ``SDAP``, u16 version, u16 segments, u32 instructions, u32 results; u32 words that each
memory must have (order of :class:`.spec.Mem`); u64 least bytes of each segment; the instructions. A
segment is one operand of the call; the last ones are the results.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sd_tvm.accelerator.isa.encode import decode
from sd_tvm.accelerator.isa.spec import INSTRUCTION_BYTES, ISA_VERSION, MAGIC, MAX_SEGMENTS, Mem
from sd_tvm.errors import CodegenError, ProgramError

_FIXED = struct.Struct("<4sHHII")
MAX_WORDS = 1 << 16


@dataclass(frozen=True)
class Program:
    """An instruction stream and what it needs.

    Attributes
    ----------
    instructions
        32 bytes each (:func:`.encode.encode`); the last one is FINISH.
    segment_bytes
        Least bytes of each operand, the results last.
    required_words
        Words of each on-chip memory that the instructions address; memories left out: none.
    n_results
        How many of the last segments STORE may write; at least 1.
    """

    instructions: tuple[bytes, ...]
    segment_bytes: tuple[int, ...]
    required_words: Mapping[Mem, int] = field(default_factory=dict)
    n_results: int = 1

    def to_bytes(self) -> bytes:
        """Bytes of the program.

        Raises
        ------
        CodegenError
            If a count is outside the container's limits.
        """
        if not 1 <= len(self.segment_bytes) <= MAX_SEGMENTS:
            raise CodegenError(
                f"{len(self.segment_bytes)} segments",
                expected=f"1..{MAX_SEGMENTS}",
                fix="split the program: an instruction names its segment with 10 bits",
            )
        if not 1 <= self.n_results <= len(self.segment_bytes):
            raise CodegenError(
                f"{self.n_results} results of {len(self.segment_bytes)} segments",
                expected=f"1..{len(self.segment_bytes)}",
                fix="name every result as a segment, after the inputs",
            )
        words = [int(self.required_words.get(mem, 0)) for mem in Mem]
        for mem, n in zip(Mem, words, strict=True):
            if not 0 <= n <= MAX_WORDS:
                raise CodegenError(
                    f"{n} words of {mem.name}", expected=f"0..{MAX_WORDS}", fix="tile the layer smaller"
                )
        head = _FIXED.pack(
            MAGIC, ISA_VERSION, len(self.segment_bytes), len(self.instructions), self.n_results
        ) + struct.pack(f"<{len(words)}I{len(self.segment_bytes)}Q", *words, *self.segment_bytes)
        return head + b"".join(self.instructions)

    @classmethod
    def from_bytes(cls, data: bytes) -> Program:
        """Inverse of :meth:`to_bytes`; every instruction must decode.

        Raises
        ------
        ProgramError
            If the bytes are malformed or of another version.
        """
        if len(data) < _FIXED.size:
            raise ProgramError(f"a program of {len(data)} bytes", expected=f"at least {_FIXED.size}")
        magic, version, n_segments, n_instructions, n_results = _FIXED.unpack_from(data)
        if magic != MAGIC:
            raise ProgramError("not a program", expected=f"bytes that start with {MAGIC!r}")
        if version != ISA_VERSION:
            raise ProgramError(
                f"a program of instruction set version {version}",
                expected=f"{ISA_VERSION}",
                fix="compile the model again",
            )
        if not 1 <= n_segments <= MAX_SEGMENTS or not 1 <= n_results <= n_segments:
            raise ProgramError(
                f"a program of {n_segments} segments, {n_results} of them results",
                expected=f"1..{MAX_SEGMENTS} segments and at least one result",
            )
        layout = struct.Struct(f"<{len(Mem)}I{n_segments}Q")
        start = _FIXED.size + layout.size
        if len(data) != start + INSTRUCTION_BYTES * n_instructions:
            raise ProgramError(
                f"a program of {len(data)} bytes",
                expected=f"{start + INSTRUCTION_BYTES * n_instructions}",
            )
        values = layout.unpack_from(data, _FIXED.size)
        instructions = tuple(
            data[i : i + INSTRUCTION_BYTES] for i in range(start, len(data), INSTRUCTION_BYTES)
        )
        for instruction in instructions:
            decode(instruction)
        words = {mem: n for mem, n in zip(Mem, values, strict=False) if n}
        return cls(instructions, tuple(values[len(Mem) :]), words, n_results)

    def decoded(self) -> Sequence[tuple[str, dict[str, int | None]]]:
        """Name and fields of every instruction."""
        return [decode(i) for i in self.instructions]


def n_results(program: bytes) -> int:
    """Number of results of a program's bytes; 1 if they are too short to say."""
    return int(_FIXED.unpack_from(program)[4]) if len(program) >= _FIXED.size else 1
