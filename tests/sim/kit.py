"""Hand-made programs: a builder that keeps the queues in order, and a configuration with room."""

from __future__ import annotations

from typing import Any

import numpy as np

from sd_tvm.accelerator.isa import Program, encode
from sd_tvm.accelerator.isa.spec import MEMORIES, Mem, Queue
from sd_tvm.accelerator.simulator import run_program

WORD_BYTES = {m.mem: m.word_bytes for m in MEMORIES}
CONFIG = "".join(f"{m.config_key}=4096\n" for m in MEMORIES)
QUEUE_OF = {"LOAD": Queue.LD, "SETW": Queue.GE, "GEMM": Queue.GE, "ALU": Queue.AL, "STORE": Queue.ST}


class Builder:
    """Collects instructions and operands; every instruction waits for the one before it."""

    def __init__(self, words: dict[Mem, int]) -> None:
        self.words = words
        self.instructions: list[bytes] = []
        self.tensors: list[np.ndarray] = []

    def add(self, name: str, **fields: Any) -> Builder:
        """Append an instruction and a FENCE, so that queues do not matter."""
        self.instructions += [encode(name, **fields), encode("FENCE")]
        return self

    def operand(self, array: np.ndarray) -> int:
        """Add an operand; its segment."""
        self.tensors.append(array)
        return len(self.tensors) - 1

    def load_all(self, mem: Mem, array: np.ndarray, **fields: Any) -> Builder:
        """Load a whole operand to word 0 onwards, in rows that fit the x field."""
        seg = self.operand(array)
        words = array.nbytes // 16
        assert array.nbytes % 16 == 0
        ratio = WORD_BYTES[mem] // 16
        step = 60000 // ratio * ratio
        for first in range(0, words, step):
            x = min(step, words - first)
            self.add("LOAD", mem=mem, seg=seg, dram=first, sram=first // ratio, x=x, y=1, z=1, **fields)
        return self

    def program(self) -> bytes:
        """Bytes of the program, FINISH included."""
        sizes = tuple(t.nbytes for t in self.tensors)
        return Program((*self.instructions, encode("FINISH")), sizes, self.words).to_bytes()

    def run(self, config: str = CONFIG) -> dict[str, Any]:
        """Run; the last operand holds the result."""
        return run_program(self.program(), config, self.tensors)
