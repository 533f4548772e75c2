"""Code that first asks the processor whether it can run it.

A module carries the question itself, as LLVM IR, so it is asked in any process that loads the library, with
or without this package. On x86-64 it is the ``cpuid`` instruction, whose answer is read once a process; on
AArch64 the words that Linux hands every process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from sd_tvm._tvm import tirx
from sd_tvm.schedules.cpu.isa import Isa
from sd_tvm.schedules.cpu.vec import aligned_stack, t

#: Kind of the error that code raises: :class:`sd_tvm.errors.UnsupportedCPUError`.
ERROR_KIND = "sd_tvm.UnsupportedCPUError"

#: LLVM's name of a feature -> (word, bit): cpuid leaf 1 ecx, leaf 7 ebx, ecx, edx, leaf 7.1 eax.
#: Intel SDM volume 2A, CPUID; the same bits on AMD.
FEATURE_BITS: dict[str, tuple[int, int]] = {
    "sse3": (0, 0), "pclmul": (0, 1), "ssse3": (0, 9), "fma": (0, 12), "sse4.1": (0, 19), "sse4.2": (0, 20),
    "movbe": (0, 22), "popcnt": (0, 23), "aes": (0, 25), "avx": (0, 28), "f16c": (0, 29),
    "bmi": (1, 3), "avx2": (1, 5), "bmi2": (1, 8), "avx512f": (1, 16), "avx512dq": (1, 17),
    "avx512ifma": (1, 21), "avx512cd": (1, 28), "sha": (1, 29), "avx512bw": (1, 30), "avx512vl": (1, 31),
    "avx512vbmi": (2, 1), "avx512vbmi2": (2, 6), "gfni": (2, 8), "vaes": (2, 9), "vpclmulqdq": (2, 10),
    "avx512vnni": (2, 11), "avx512bitalg": (2, 12), "avx512vpopcntdq": (2, 14),
    "avx512vp2intersect": (3, 8), "amx-bf16": (3, 22), "avx512fp16": (3, 23), "amx-tile": (3, 24),
    "amx-int8": (3, 25), "avxvnni": (4, 4), "avx512bf16": (4, 5), "amx-fp16": (4, 21), "avxifma": (4, 23),
}  # fmt: skip
#: The same of AArch64: word 0 is AT_HWCAP, word 1 AT_HWCAP2 (Linux, arch/arm64/include/uapi/asm/hwcap.h).
#: Left out is what every such processor has, and what LLVM does not use unasked (aes, sha2, ...).
AARCH64_BITS: dict[str, tuple[int, int]] = {
    "crc": (0, 7), "lse": (0, 8), "fullfp16": (0, 10), "rdm": (0, 12), "jsconv": (0, 13),
    "complxnum": (0, 14), "rcpc": (0, 15), "dotprod": (0, 20), "sve": (0, 22), "fp16fml": (0, 23),
    "flagm": (0, 27), "sve2": (1, 1), "fptoint": (1, 8), "i8mm": (1, 13), "bf16": (1, 14),
}  # fmt: skip
#: Platform (:func:`sd_tvm.schedules.cpu.isa.platform_of`) -> what can be asked there.
QUESTIONS = {"x86_64": FEATURE_BITS, "aarch64-linux": AARCH64_BITS}
#: State that the operating system must save: xcr0 bits of AVX, of AVX-512 and of AMX.
_STATE_WORD = 5
_AVX_STATE, _AVX512_STATE, _AMX_STATE = 0x6, 0xE6, 0x60000

_CPUID = (
    'call { i32, i32, i32, i32 } asm sideeffect "cpuid", '
    '"={ax},={bx},={cx},={dx},{ax},{cx},~{dirflag},~{fpsr},~{flags}"'
)
_XGETBV = 'call { i32, i32 } asm sideeffect "xgetbv", "={ax},={dx},{cx},~{dirflag},~{fpsr},~{flags}"'


def _read(name: str, leaf: int, sub: int, outputs: dict[int, int]) -> str:
    """IR that stores registers (0 = eax) of a leaf as words."""
    lines = [f"  %{name} = {_CPUID}(i32 {leaf}, i32 {sub})"]
    for register, word in outputs.items():
        value = f"%{name}{register}"
        lines.append(f"  {value} = extractvalue {{ i32, i32, i32, i32 }} %{name}, {register}")
        lines.append(
            f"  store i32 {value}, ptr getelementptr ([7 x i32], ptr @sd_cpu_words, i64 0, i64 {word})"
        )
    return "\n".join(lines)


_X86_IR = f"""
@sd_cpu_words = linkonce_odr global [7 x i32] zeroinitializer, align 4

define linkonce_odr void @sd_cpu_read() noinline {{
{_read("a", 1, 0, {2: 0})}
  %os = and i32 %a2, 134217728
  %has = icmp ne i32 %os, 0
  br i1 %has, label %on, label %done
on:
  %x = {_XGETBV}(i32 0)
  %state = extractvalue {{ i32, i32 }} %x, 0
  store i32 %state, ptr getelementptr ([7 x i32], ptr @sd_cpu_words, i64 0, i64 {_STATE_WORD})
  %m = {_CPUID}(i32 0, i32 0)
  %last = extractvalue {{ i32, i32, i32, i32 }} %m, 0
  %seven = icmp uge i32 %last, 7
  br i1 %seven, label %more, label %done
more:
{_read("b", 7, 0, {1: 1, 2: 2, 3: 3})}
{_read("c", 7, 1, {0: 4})}
  br label %done
done:
  ret void
}}

define linkonce_odr i32 @sd_cpu_word(i32 %i) {{
  %known = load i32, ptr getelementptr ([7 x i32], ptr @sd_cpu_words, i64 0, i64 6)
  %new = icmp eq i32 %known, 0
  br i1 %new, label %read, label %ok
read:
  call void @sd_cpu_read()
  store i32 1, ptr getelementptr ([7 x i32], ptr @sd_cpu_words, i64 0, i64 6)
  br label %ok
ok:
  %e = sext i32 %i to i64
  %p = getelementptr [7 x i32], ptr @sd_cpu_words, i64 0, i64 %e
  %v = load i32, ptr %p
  ret i32 %v
}}
"""


_AARCH64_IR = """
declare i64 @getauxval(i64)

define linkonce_odr i32 @sd_cpu_word(i32 %i) {
  %second = icmp eq i32 %i, 1
  %kind = select i1 %second, i64 26, i64 16
  %v = call i64 @getauxval(i64 %kind)
  %w = trunc i64 %v to i32
  ret i32 %w
}
"""
_IR = {"x86_64": _X86_IR, "aarch64-linux": _AARCH64_IR}


def masks(features: Iterable[str], platform: str = "x86_64") -> dict[int, int]:
    """Word -> bits that must be set for these features; those without a bit here are left out."""
    out: dict[int, int] = {}
    bits = QUESTIONS[platform]
    known = [f for f in features if f in bits]
    for feature in known:
        word, bit = bits[feature]
        out[word] = out.get(word, 0) | 1 << bit
    if platform != "x86_64":
        return out
    state = 0
    if any(f.startswith(("avx", "fma", "f16c", "vaes", "vpcl")) for f in known):
        state |= _AVX_STATE
    if any(f.startswith("avx512") for f in known):
        state |= _AVX512_STATE
    if any(f.startswith("amx") for f in known):
        state |= _AMX_STATE
    if state:
        out[_STATE_WORD] = state
    return out


@contextmanager
def guarded(features: Iterable[str], what: str, platform: str = "x86_64") -> Iterator[None]:
    """Statements that only run where the processor has the features; else the typed error.

    Parameters
    ----------
    features
        LLVM's names. None of them: no question is asked.
    what
        Subject of the message: what was compiled.
    platform
        Of :data:`QUESTIONS`.
    """
    wanted = sorted(f for f in features if f in QUESTIONS[platform])
    if not wanted:
        yield
        return
    conditions: list[Any] = []
    for word, mask in sorted(masks(wanted, platform).items()):
        # the mask as a signed number: the word is int32
        bits = tirx.const(mask - (1 << 32) if mask >> 31 else mask, "int32")
        conditions.append(
            tirx.EQ(tirx.bitwise_and(tirx.call_extern("int32", "sd_cpu_word", word), bits), bits)
        )
    message = (
        f"{what} was compiled for a processor that this one is not. Expected: {', '.join(wanted)}. "
        "What to do: compile the model for this processor."
    )
    with (
        t.attr(tirx.IntImm("int32", 0), "pragma_import_llvm", _IR[platform]),
        t.Assert(tirx.all(*conditions), [message], error_kind=ERROR_KIND),
    ):
        yield


@contextmanager
def kernel_body(isa: Isa, symbol: str) -> Iterator[None]:
    """Statements of a kernel: where the processor has its instruction set, on an aligned stack."""
    with guarded(isa.features, symbol, isa.platform), aligned_stack():
        yield
