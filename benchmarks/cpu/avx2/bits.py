"""What `cpuid` no longer says: everything that Zen 3, the machine the bars were set on, does not have."""

from __future__ import annotations

from dataclasses import dataclass

REGISTERS = ("eax", "ebx", "ecx", "edx")


@dataclass(frozen=True)
class Masked:
    """Bits of one register of one leaf.

    Attributes
    ----------
    leaf, subleaf
        What was asked (eax, ecx).
    register
        Of the answer.
    bits
        Number -> name of the feature.
    """

    leaf: int
    subleaf: int
    register: str
    bits: dict[int, str]


_ALL = dict.fromkeys(range(32), "all")
_STATES = {5: "opmask state", 6: "ZMM_Hi256 state", 7: "Hi16_ZMM state", 17: "tile state", 18: "tile data"}

#: Intel SDM volume 2A (CPUID) and the extensions' programming reference.
MASKED: tuple[Masked, ...] = (
    Masked(7, 0, "ebx", {
        16: "AVX512F", 17: "AVX512DQ", 21: "AVX512_IFMA", 26: "AVX512PF", 27: "AVX512ER", 28: "AVX512CD",
        30: "AVX512BW", 31: "AVX512VL",
    }),
    Masked(7, 0, "ecx", {
        1: "AVX512_VBMI", 6: "AVX512_VBMI2", 8: "GFNI", 11: "AVX512_VNNI", 12: "AVX512_BITALG",
        14: "AVX512_VPOPCNTDQ",
    }),
    Masked(7, 0, "edx", {
        2: "AVX512_4VNNIW", 3: "AVX512_4FMAPS", 8: "AVX512_VP2INTERSECT", 22: "AMX-BF16", 23: "AVX512_FP16",
        24: "AMX-TILE", 25: "AMX-INT8",
    }),
    Masked(7, 1, "eax", {4: "AVX-VNNI", 5: "AVX512_BF16", 21: "AMX-FP16", 23: "AVX-IFMA"}),
    Masked(7, 1, "edx", {
        4: "AVX-VNNI-INT8", 5: "AVX-NE-CONVERT", 8: "AMX-COMPLEX", 10: "AVX-VNNI-INT16", 19: "AVX10",
    }),
    Masked(0xD, 0, "eax", _STATES),
    *(Masked(0xD, state, register, _ALL) for state in _STATES for register in REGISTERS),
)  # fmt: skip


def names() -> list[str]:
    """The features, for the page."""
    return sorted({n for row in MASKED for n in row.bits.values() if n not in ("all", *_STATES.values())})


def header() -> str:
    """C initialisers: leaf, subleaf, what stays of the four registers."""
    keep: dict[tuple[int, int], list[int]] = {}
    for row in MASKED:
        kept = keep.setdefault((row.leaf, row.subleaf), [0xFFFFFFFF] * 4)
        kept[REGISTERS.index(row.register)] &= ~sum(1 << b for b in row.bits)
    rows = [
        f"{{{leaf}u, {sub}u, {{{', '.join(f'{k:#x}u' for k in kept)}}}}},"
        for (leaf, sub), kept in keep.items()
    ]
    return "\n".join(rows) + "\n"
