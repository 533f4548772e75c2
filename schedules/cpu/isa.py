"""Instruction sets that kernels are written for, and the few instructions of each that they use.

An instruction is an LLVM intrinsic, so a kernel is TensorIR from end to end and LLVM allocates its registers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sd_tvm._tvm import tirx, tvm

Expr = Any


@dataclass(frozen=True)
class Isa:
    """One instruction set.

    Attributes
    ----------
    name
        As the table and reports write it.
    features
        LLVM's names of what the processor must have.
    width
        Bytes of a vector.
    cpu
        Least processor that has them, as LLVM names it.
    dot
        Whether products are added to int32 in one instruction (VNNI).
    """

    name: str
    features: tuple[str, ...]
    width: int
    cpu: str
    dot: bool = False

    @property
    def target(self) -> dict[str, Any]:
        """TVM target of the least processor that has this instruction set."""
        return {"kind": "llvm", "mcpu": self.cpu, "mattr": [f"+{f}" for f in self.features]}

    @property
    def words(self) -> int:
        """int32 lanes of a vector."""
        return self.width // 4

    def lookup(self, table: Expr, index: Expr) -> Expr:
        """Bytes of ``table`` (each 16 bytes of the vector its own) at ``index``; 0 where bit 7 is set."""
        name = {32: "llvm.x86.avx2.pshuf.b", 64: "llvm.x86.avx512.pshuf.b.512"}[self.width]
        return _call(f"int8x{self.width}", name, table, index)

    def pairs8(self, unsigned: Expr, signed: Expr) -> Expr:
        """int16: sums of two neighbouring products of bytes, saturating (the caller rules that out)."""
        name = {32: "llvm.x86.avx2.pmadd.ub.sw", 64: "llvm.x86.avx512.pmaddubs.w.512"}[self.width]
        return _call(f"int16x{self.width // 2}", name, unsigned, signed)

    def add16(self, a: Expr, b: Expr) -> Expr:
        """Sums of int16, saturating (the caller rules that out); LLVM leaves them in the order written."""
        return _call(f"int16x{self.width // 2}", "llvm.sadd.sat", a, b)

    def add_pairs16(self, total: Expr, a: Expr, b: Expr) -> Expr:
        """``total`` (uint32) plus sums of two neighbouring products of int16, modulo 2^32."""
        dtype = f"uint32x{self.words}"
        if self.dot:
            # LLVM names int16 operands as they are; the result wraps
            return _call(dtype, "llvm.x86.avx512.vpdpwssd.512", total, a, b)
        name = {32: "llvm.x86.avx2.pmadd.wd", 64: "llvm.x86.avx512.pmaddw.d.512"}[self.width]
        return total + _call(dtype, name, a, b)

    def add_quads8(self, total: Expr, unsigned: Expr, signed: Expr) -> Expr:
        """``total`` (uint32) plus sums of four neighbouring products of bytes, modulo 2^32. VNNI only."""
        return _call(f"uint32x{self.words}", "llvm.x86.avx512.vpdpbusd.512", total, unsigned, signed)


def _call(dtype: str, name: str, *args: Expr) -> Expr:
    return tirx.call_llvm_pure_intrin(dtype, name, *args)


AVX2 = Isa("avx2", ("avx2",), 32, "x86-64-v3")
AVX512_VNNI = Isa(
    "avx512vnni", ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni"), 64, "x86-64-v4", dot=True
)

#: Best first.
ISAS: tuple[Isa, ...] = (AVX512_VNNI, AVX2)


def available(target: Any) -> tuple[Isa, ...]:
    """Instruction sets that a TVM target has, best first; none for a target without features we know."""
    features = features_of(target)
    return tuple(isa for isa in ISAS if features.issuperset(isa.features))


def features_of(target: Any) -> set[str]:
    """LLVM's names of the features of a TVM target; none if it is not compiled by LLVM."""
    if target is None or str(target.kind.name) != "llvm":
        return set()
    return {str(f) for f in tvm.get_global_func("target.llvm_get_cpu_features")(target)}
