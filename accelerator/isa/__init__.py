"""The instruction set of sd_accel: table, encoder, program container, disassembler (TVM-free)."""

from sd_tvm.accelerator.isa.disasm import assemble, disassemble
from sd_tvm.accelerator.isa.encode import decode, encode, encode_code, encode_table, semaphore
from sd_tvm.accelerator.isa.program import Program

__all__ = [
    "Program",
    "assemble",
    "decode",
    "disassemble",
    "encode",
    "encode_code",
    "encode_table",
    "semaphore",
]
