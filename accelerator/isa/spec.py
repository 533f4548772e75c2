"""The sd_accel instruction set as one declarative table (standard library only).

The encoder, the decoder, the disassembler, ``docs/isa.md`` and the C++ header
``isa_generated.h`` all follow from :data:`INSTRUCTIONS` and :data:`MEMORIES`. To add an instruction,
add a row here, then its execution in ``accelerator/sim``.

An instruction is 256 bits, little endian; bit 0 is the least significant bit of byte 0. Every
instruction starts with the fields of :data:`HEADER` (32 bits); its own fields follow without gaps
in the order of the table; the bits that remain are zero and checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

ISA_VERSION = 2
INSTRUCTION_BITS = 256
INSTRUCTION_BYTES = INSTRUCTION_BITS // 8
N_SEMAPHORES = 32
MAX_SEGMENTS = 1024
MAGIC = b"SDAP"


class Mem(IntEnum):
    """On-chip memories."""

    INP = 0
    CODE = 1
    BASIS = 2
    IDX = 3
    QP = 4
    LUT = 5
    ACC = 6
    OUT = 7


class Queue(IntEnum):
    """In-order instruction queues."""

    LD = 0
    GE = 1
    AL = 2
    ST = 3


class WMode(IntEnum):
    """How GEMM reads weights from CODE."""

    RAW8 = 0
    DENSE = 1
    N8 = 2
    N4 = 3
    N2 = 4
    SHARED = 5


class RowKind(IntEnum):
    """What the S elements of one coefficient row are."""

    TAPS = 0
    CHANNELS = 1


class BasisKind(IntEnum):
    """Which basis a row uses."""

    SLICE = 0
    CODEBOOK = 1


class AccInit(IntEnum):
    """What GEMM adds its products to."""

    BIAS = 0
    ZERO = 1
    KEEP = 2


class AluOp(IntEnum):
    """Vector operations on 16 lanes."""

    MOV = 0
    ADD = 1
    SUB = 2
    MUL = 3
    MAX = 4
    MIN = 5
    SHR = 6
    SHL = 7
    REQ = 8
    REQ32 = 9
    LUT = 10
    ABS = 11


class AluSrcB(IntEnum):
    """Second operand of an ALU instruction."""

    NONE = 0
    IMM = 1
    ACC = 2
    INP = 3
    QP = 4
    LUT = 5


class Xform(IntEnum):
    """What LOAD does to the bytes it moves."""

    COPY = 0
    WIDEN = 1
    EXPAND4 = 2
    SPREAD9 = 3


@dataclass(frozen=True)
class Field:
    """One bit field of an instruction."""

    name: str
    bits: int
    doc: str
    signed: bool = False


@dataclass(frozen=True)
class Instruction:
    """One row of the instruction table."""

    name: str
    opcode: int
    queue: Queue | None
    doc: str
    fields: tuple[Field, ...]


@dataclass(frozen=True)
class Memory:
    """One on-chip memory."""

    mem: Mem
    word_bytes: int
    config_key: str
    doc: str


MEMORIES: tuple[Memory, ...] = (
    Memory(Mem.INP, 16, "inp_kb", "8-bit activations, 16 channels of one pixel a word"),
    Memory(Mem.CODE, 16, "code_kb", "packed coefficient blocks or raw int8 weights"),
    Memory(Mem.BASIS, 16, "basis_kb", "int8 basis matrices, row major, padded to words"),
    Memory(Mem.IDX, 16, "idx_kb", "row bitmaps of shared patterns, codebook ids"),
    Memory(Mem.QP, 16, "qp_kb", "bias i32, multiplier i32, shift i8, zp, lo, hi, 4 spare bytes"),
    Memory(Mem.LUT, 256, "lut_kb", "8-bit to 8-bit tables"),
    Memory(Mem.ACC, 64, "acc_kb", "16 int32 partial sums"),
    Memory(Mem.OUT, 16, "out_kb", "8-bit results, 16 channels of one pixel a word"),
)

HEADER: tuple[Field, ...] = (
    Field("opcode", 4, "row of the instruction table"),
    Field("wait0", 6, "semaphore to wait for: valid bit 5, index bits 4..0"),
    Field("wait1", 6, "second semaphore to wait for"),
    Field("signal0", 6, "semaphore to signal at the end"),
    Field("signal1", 6, "second semaphore to signal"),
    Field("flags", 4, "per instruction, see its doc"),
)

_DMA: tuple[Field, ...] = (
    Field("mem", 3, "on-chip memory"),
    Field(
        "xform",
        2,
        "COPY; WIDEN: 8-bit lanes minus pad_value become int32 lanes of ACC; EXPAND4: a DRAM word of 4 "
        "pixels x 4 channels becomes 4 words of INP; SPREAD9: 9 bytes become a word of BASIS or QP",
    ),
    Field("seg", 10, "operand of the call whose bytes are addressed (base register)"),
    Field("dram", 28, "first 16-byte word inside the segment"),
    Field("sram", 16, "first word in the memory"),
    Field(
        "x", 16, "16-byte DRAM words a row (consecutive in DRAM and on chip); EXPAND4, SPREAD9: words on chip"
    ),
    Field("y", 12, "rows"),
    Field("z", 12, "planes"),
    Field("sram_ys", 12, "on-chip words between rows"),
    Field("sram_zs", 16, "on-chip words between planes"),
    Field("dram_ys", 22, "DRAM words between rows"),
    Field("dram_zs", 26, "DRAM words between planes"),
)

INSTRUCTIONS: tuple[Instruction, ...] = (
    Instruction(
        "NOP",
        0,
        None,
        "Occupies one cycle of a queue; carries further waits and signals.",
        (Field("queue", 2, "queue that executes it"),),
    ),
    Instruction(
        "LOAD",
        1,
        Queue.LD,
        "DRAM to on-chip, 3-D affine. The x, y, z box counts real data; pads are written around "
        "each plane: the padded plane has y+pad_t+pad_b rows of x+pad_l+pad_r words, starts at "
        "sram, rows sram_ys apart. x is a multiple of the DRAM words of a word of the memory (ACC 4 "
        "unless WIDEN, LUT 16). EXPAND4: pixel p of a DRAM word is its bytes 4p..4p+3; they become lanes "
        "0..3 of an INP word, lanes 4..15 become 0 (pads hold pad_value in all 16 lanes, as always). x "
        "counts pixels, any number: a row reads the ceil((skip+x)/4) DRAM words from its first one, drops "
        "the first skip pixels and whatever follows pixel skip+x-1. Rows that DRAM stores start at whole "
        "words, so that a row of W pixels is stored in ceil(W/4) words. SPREAD9: word i of a row has bytes "
        "9i..9i+8 of it as its bytes 0..8, then pad_value, fill (low byte first) and zeros: a basis of order "
        "3, or a quantisation word whose zero point and bounds all filters share; no pads. flags bit 0: "
        "WIDEN reads signed bytes; bits 2..1: skip of EXPAND4.",
        (
            *_DMA,
            Field("pad_l", 5, "words written before each row"),
            Field("pad_r", 5, "words written after each row"),
            Field("pad_t", 5, "rows written above each plane"),
            Field("pad_b", 5, "rows written below each plane"),
            Field("pad_value", 8, "byte that pads hold; zero point that WIDEN subtracts; byte 9 of SPREAD9"),
            Field("fill", 16, "bytes 10 and 11 of SPREAD9; else 0"),
        ),
    ),
    Instruction(
        "STORE",
        2,
        Queue.ST,
        "On-chip to DRAM, 3-D affine, from OUT (16 B words) or ACC (64 B words: x, sram strides "
        "count ACC words, a row of x ACC words is 4x DRAM words). seg is a result, one of the last "
        "segments; xform is COPY.",
        _DMA,
    ),
    Instruction(
        "GEMM",
        3,
        Queue.GE,
        "For each filter m < n_m and pixel (oy, ox): ACC[acc + (m//16)*acc_mb + oy*acc_oy + ox]"
        ".lane[m%16] = init + sum over c, ky, kx of x * w, with the weight form of the last SETW. "
        "Filter m is the layer's filter m_base+m; its group is (m_base+m)//mg, its channels start "
        "at group*cg. Sums are modulo 2^32. Lanes beyond n_m become 0 (unchanged if KEEP). "
        "Tables start at filter m_base: CODE has slots/4 units of as many words as a slot has "
        "nibbles for every 8 filters (RAW8: cg*n_ky*n_kx words for every 16), BASIS ceil(s*s/16) "
        "words a basis, IDX ceil(rows/128) words a bitmap and a word of ids for every 16 filters.",
        (
            Field("acc_init", 2, "BIAS (QP word qp+m), ZERO or KEEP"),
            Field("inp", 16, "INP word of the layer's channel block 0, pixel (0, 0), modulo 2^16"),
            Field("code", 16, "CODE word of the first tile"),
            Field("basis", 12, "BASIS word of the first basis"),
            Field("idx", 12, "IDX word of the first row bitmap (SHARED)"),
            Field("ids", 12, "IDX word of the first codebook ids (CODEBOOK)"),
            Field("qp", 12, "QP word of filter 0"),
            Field("acc", 16, "ACC word of filter 0, pixel (0, 0)"),
            Field("n_oy", 8, "output rows"),
            Field("n_ox", 10, "output columns"),
            Field("n_m", 12, "filters"),
            Field("m_base", 16, "index of filter 0 inside the layer; multiple of 16"),
            Field("inp_oy", 12, "INP words between output rows"),
            Field("inp_ox", 5, "INP words between output columns (the stride)"),
            Field("inp_ky", 13, "INP words between kernel rows"),
            Field("inp_cb", 16, "INP words between blocks of 16 channels"),
            Field("acc_oy", 10, "ACC words between output rows"),
            Field("acc_mb", 12, "ACC words between blocks of 16 filters"),
        ),
    ),
    Instruction(
        "ALU",
        4,
        Queue.AL,
        "For i2 < n2, i1 < n1, i0 < n0: dst = op(a, b) on 16 lanes. Values are int32; 8-bit "
        "destinations saturate. REQ: clip(zp + mbqm(a, multiplier, shift), lo, hi); REQ32: "
        "mbqm(a, multiplier, shift); LUT: byte a of table b; SHR is arithmetic, shifts are 0..31. "
        "MOV with b IMM writes the immediate and reads nothing. "
        "Elements execute in order, so a zero stride of dst = b reduces. Arithmetic is modulo 2^32. "
        "flags bit 0: 8-bit sources are signed, bit 1: 8-bit destination (and zp, lo, hi) is "
        "signed, bit 2: lane l of REQ uses QP word b + l.",
        (
            Field("op", 4, "operation"),
            Field("a_mem", 3, "memory of a: ACC, INP or OUT"),
            Field("b_src", 3, "kind of b"),
            Field("dst_mem", 3, "memory of dst: ACC, INP or OUT"),
            Field("dst", 16, "word"),
            Field("a", 16, "word"),
            Field("b", 16, "word"),
            Field("n0", 10, "innermost extent"),
            Field("n1", 10, "middle extent"),
            Field("n2", 10, "outermost extent"),
            Field("dst_s0", 6, "words"),
            Field("dst_s1", 11, "words"),
            Field("dst_s2", 13, "words"),
            Field("a_s0", 6, "words"),
            Field("a_s1", 11, "words"),
            Field("a_s2", 13, "words"),
            Field("b_s0", 6, "words"),
            Field("b_s1", 11, "words"),
            Field("b_s2", 13, "words"),
            Field("imm", 32, "immediate", signed=True),
        ),
    ),
    Instruction(
        "SETW",
        5,
        Queue.GE,
        "Sets the weight form and the kernel for the GEMMs that follow. flags bit 0: activations "
        "are signed bytes.",
        (
            *(
                Field(
                    f"code{i}",
                    8,
                    f"value of nibble {i}: bit 7 sign, 6..4 p1, 3 has2, 2..0 p2; +-(2^p1 + 2^p2); "
                    "0x07 is zero",
                )
                for i in range(16)
            ),
            Field("wmode", 3, "weight mode"),
            Field("rowkind", 1, "TAPS or CHANNELS"),
            Field("s", 5, "elements of a row and order of a basis, 1..16"),
            Field("basis_kind", 1, "SLICE or CODEBOOK"),
            Field("slice_blocks", 9, "16-row blocks that share a basis; 0: the whole filter"),
            Field("kept_rows", 13, "SHARED: rows kept in each group of filters"),
            Field("group_tiles", 4, "SHARED: 16-filter tiles that share a bitmap"),
            Field("cg", 15, "input channels a group"),
            Field("mg", 15, "filters a group"),
            Field("n_ky", 5, "kernel rows"),
            Field("n_kx", 5, "kernel columns"),
            Field("inp_kx", 10, "INP words between kernel columns (the dilation)"),
        ),
    ),
    Instruction(
        "MARK",
        6,
        None,
        "Statistics belong to this layer from here on; no cycles.",
        (Field("layer", 24, "layer id"),),
    ),
    Instruction("FENCE", 7, None, "Waits until all queues are empty.", ()),
    Instruction("FINISH", 8, None, "Ends the program; must be its last instruction.", ()),
)

BY_NAME: dict[str, Instruction] = {i.name: i for i in INSTRUCTIONS}
BY_OPCODE: dict[int, Instruction] = {i.opcode: i for i in INSTRUCTIONS}
HEADER_BITS = sum(f.bits for f in HEADER)


def used_bits(instruction: Instruction) -> int:
    """Bits that the header and the fields of an instruction take."""
    return HEADER_BITS + sum(f.bits for f in instruction.fields)


for _i in INSTRUCTIONS:
    if used_bits(_i) > INSTRUCTION_BITS:
        raise ValueError(f"{_i.name} takes {used_bits(_i)} bits of {INSTRUCTION_BITS}")
