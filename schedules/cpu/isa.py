"""Instruction sets that kernels are written for, and the few instructions of each that they use.

An instruction is an LLVM intrinsic, so a kernel is TensorIR from end to end and LLVM allocates its registers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from sd_tvm._tvm import tirx, tvm
from sd_tvm.schedules.cpu.vec import as_type, pick, plus

Expr = Any


@dataclass(frozen=True)
class Isa(ABC):
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
        Whether four products of bytes are added to int32 in one instruction.
    platform
        What has it, as :func:`platform_of` names it.
    triple
        LLVM's triple of the processor; empty: this machine's.
    operand
        Type of the bytes of x in products of bytes; codes and weights are int8
        (:mod:`sd_tvm.schedules.cpu.operand`).
    """

    name: str
    features: tuple[str, ...]
    width: int
    cpu: str
    dot: bool = False
    platform: str = "x86_64"
    triple: str = ""
    operand: str = "uint8"

    @property
    def target(self) -> dict[str, Any]:
        """TVM target of the least processor that has this instruction set."""
        where = {"mtriple": self.triple} if self.triple else {}
        return {"kind": "llvm", "mcpu": self.cpu, "mattr": [f"+{f}" for f in self.features], **where}

    @property
    def words(self) -> int:
        """int32 lanes of a vector."""
        return self.width // 4

    @abstractmethod
    def lookup(self, table: Expr, index: Expr) -> Expr:
        """Bytes of ``table`` (each 16 bytes of the vector its own) at ``index``; 0 where bit 7 is set."""

    @abstractmethod
    def add_pairs16(self, total: Expr, a: Expr, b: Expr) -> Expr:
        """``total`` (uint32) plus sums of two neighbouring products of int16, modulo 2^32."""

    def add_low16(self, total: Expr, a: Expr, b: Expr) -> Expr:
        """The same where the second int16 of every pair of ``b`` is zero."""
        return self.add_pairs16(total, a, b)

    @abstractmethod
    def add_quads8(self, total: Expr, x: Expr, signed: Expr) -> Expr:
        """``total`` (uint32) plus sums of four neighbouring products of bytes, modulo 2^32.

        With ``dot`` only. Bytes of ``x`` are of type :attr:`operand`.
        """

    @abstractmethod
    def pairs8(self, x: Expr, signed: Expr) -> Expr:
        """int16: sums of two neighbouring products of bytes, saturating (the caller rules that out).

        Without ``dot`` only. Bytes of ``x`` are of type :attr:`operand`.
        """

    @abstractmethod
    def shift_left(self, x: Expr, count: Expr) -> Expr:
        """uint32: each lane by its own count; 0 from 32 on. Of x86 only."""


class X86(Isa):
    """AVX2 (32 bytes), or AVX-512 with VNNI (64 bytes)."""

    def lookup(self, table: Expr, index: Expr) -> Expr:
        """As :meth:`Isa.lookup`."""
        name = {32: "llvm.x86.avx2.pshuf.b", 64: "llvm.x86.avx512.pshuf.b.512"}[self.width]
        return _call(f"int8x{self.width}", name, table, index)

    def pairs8(self, x: Expr, signed: Expr) -> Expr:
        """As :meth:`Isa.pairs8`."""
        name = {32: "llvm.x86.avx2.pmadd.ub.sw", 64: "llvm.x86.avx512.pmaddubs.w.512"}[self.width]
        return _call(f"int16x{self.width // 2}", name, x, signed)

    def add_pairs16(self, total: Expr, a: Expr, b: Expr) -> Expr:
        """As :meth:`Isa.add_pairs16`."""
        dtype = f"uint32x{self.words}"
        if self.dot:
            # LLVM names int16 operands as they are; the result wraps
            return _call(dtype, "llvm.x86.avx512.vpdpwssd.512", total, a, b)
        name = {32: "llvm.x86.avx2.pmadd.wd", 64: "llvm.x86.avx512.pmaddw.d.512"}[self.width]
        return plus(total, _call(dtype, name, a, b))

    def add_quads8(self, total: Expr, x: Expr, signed: Expr) -> Expr:
        """As :meth:`Isa.add_quads8`."""
        return _call(f"uint32x{self.words}", "llvm.x86.avx512.vpdpbusd.512", total, x, signed)

    def shift_left(self, x: Expr, count: Expr) -> Expr:
        """As :meth:`Isa.shift_left`."""
        name = {32: "llvm.x86.avx2.psllv.d.256", 64: "llvm.x86.avx512.psllv.d.512"}[self.width]
        return _call(f"uint32x{self.words}", name, x, count)


class Neon(Isa):
    """AArch64's 16 bytes, with the dot product of ARMv8.2."""

    def lookup(self, table: Expr, index: Expr) -> Expr:
        """As :meth:`Isa.lookup`."""
        return _call("int8x16", "llvm.aarch64.neon.tbl1.v16i8", table, index)

    def pairs8(self, x: Expr, signed: Expr) -> Expr:
        """As :meth:`Isa.pairs8`."""
        raise NotImplementedError("kernels add four products at once here")

    def add_pairs16(self, total: Expr, a: Expr, b: Expr) -> Expr:
        """As :meth:`Isa.add_pairs16`."""
        # even and odd lanes apart: each is one widening multiply-accumulate
        return self._add_every_other(self.add_low16(total, a, b), a, b, 1)

    def add_low16(self, total: Expr, a: Expr, b: Expr) -> Expr:
        """As :meth:`Isa.add_low16`."""
        return self._add_every_other(total, a, b, 0)

    def shift_left(self, x: Expr, count: Expr) -> Expr:
        """As :meth:`Isa.shift_left`."""
        raise NotImplementedError("no kernel here shifts")

    def _add_every_other(self, total: Expr, a: Expr, b: Expr, first: int) -> Expr:
        lanes = range(first, 2 * self.words, 2)
        x, y = (pick([v], lanes).astype(f"int32x{self.words}") for v in (a, b))
        return plus(total, as_type(x * y, f"uint32x{self.words}"))

    def add_quads8(self, total: Expr, x: Expr, signed: Expr) -> Expr:
        """As :meth:`Isa.add_quads8`."""
        return _call("uint32x4", "llvm.aarch64.neon.sdot.v4i32.v16i8", total, x, signed)


def _call(dtype: str, name: str, *args: Expr) -> Expr:
    return tirx.call_llvm_pure_intrin(dtype, name, *args)


AVX2 = X86("avx2", ("fma", "avx2"), 32, "x86-64-v3")  # fma: requantisation by float32
AVX512_VNNI = X86(
    "avx512vnni", ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni"), 64, "x86-64-v4", dot=True
)
NEON_DOT = Neon(
    "neondot",
    ("neon", "dotprod"),
    16,
    "cortex-a76",
    dot=True,
    platform="aarch64-linux",
    triple="aarch64-linux-gnu",
    operand="int8",
)

#: Best first, within an architecture; features of two architectures have no names in common.
ISAS: tuple[Isa, ...] = (AVX512_VNNI, AVX2, NEON_DOT)


def available(target: Any) -> tuple[Isa, ...]:
    """Instruction sets that a TVM target has, best first; none for a target without features we know."""
    features, platform = features_of(target), platform_of(target)
    return tuple(isa for isa in ISAS if platform == isa.platform and features.issuperset(isa.features))


def platform_of(target: Any) -> str:
    """``x86_64`` or ``aarch64-linux``: platform of a TVM target, empty for any other."""
    if target is None or str(target.kind.name) != "llvm":
        return ""
    here = tvm.get_global_func("tvm.codegen.llvm.GetDefaultTargetTriple")
    first, *rest = str(target.attrs.get("mtriple") or here()).split("-")
    if first in ("aarch64", "arm64") and "linux" in rest:
        return "aarch64-linux"
    return "x86_64" if first in ("x86_64", "amd64") else ""


def features_of(target: Any) -> set[str]:
    """LLVM's names of the features of a TVM target; none if it is not compiled by LLVM."""
    if target is None or str(target.kind.name) != "llvm":
        return set()
    return {str(f) for f in tvm.get_global_func("target.llvm_get_cpu_features")(target)}
