// ALU: element-wise operations, requantisation and reductions on 16 lanes.
#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include "kernels.h"
#include "unit.h"

namespace sd {
namespace {

using isa::AluOp;
using isa::AluSrcB;
using isa::Mem;

constexpr uint32_t kSignedSource = 1;
constexpr uint32_t kSignedResult = 2;
constexpr uint32_t kWordPerLane = 4;

using Lanes = std::array<int32_t, 16>;

/*! \brief Two's complement arithmetic without undefined overflow. */
int32_t Wrap(uint32_t value) { return static_cast<int32_t>(value); }
uint32_t U(int32_t value) { return static_cast<uint32_t>(value); }

/*! \brief Whether memory words hold 16 bytes, not 16 int32. */
bool IsNarrow(Mem mem) { return mem != Mem::kAcc; }

Lanes LoadLanes(const Unit& unit, Mem mem, uint64_t word, bool is_signed) {
  unit.CheckWritten(mem, word);
  const uint8_t* from = unit.memories.Word(mem, word);
  Lanes lanes;
  if (!IsNarrow(mem)) {
    std::memcpy(lanes.data(), from, sizeof(lanes));
  } else if (is_signed) {
    for (int i = 0; i < 16; ++i) lanes[i] = static_cast<int8_t>(from[i]);
  } else {
    for (int i = 0; i < 16; ++i) lanes[i] = from[i];
  }
  return lanes;
}

void StoreLanes(Unit& unit, Mem mem, uint64_t word, const Lanes& lanes, bool is_signed) {
  uint8_t* to = unit.memories.Word(mem, word);
  if (!IsNarrow(mem)) {
    std::memcpy(to, lanes.data(), sizeof(lanes));
  } else {
    Kernels().narrow(lanes.data(), to, is_signed);
  }
  unit.memories.MarkWritten(mem, word);
}

/*! \brief Calls body(dst word, a word, b word) for every element, in order. */
template <typename Body>
void ForEach(const isa::Alu& alu, Body body) {
  for (uint64_t i2 = 0; i2 < alu.n[2]; ++i2) {
    for (uint64_t i1 = 0; i1 < alu.n[1]; ++i1) {
      uint64_t dst = alu.dst + i2 * alu.dst_s[2] + i1 * alu.dst_s[1];
      uint64_t a = alu.a + i2 * alu.a_s[2] + i1 * alu.a_s[1];
      uint64_t b = alu.b + i2 * alu.b_s[2] + i1 * alu.b_s[1];
      for (uint64_t i0 = 0; i0 < alu.n[0]; ++i0) {
        body(dst, a, b);
        dst += alu.dst_s[0];
        a += alu.a_s[0];
        b += alu.b_s[0];
      }
    }
  }
}

uint64_t LastWord(uint64_t base, const uint32_t (&n)[3], const uint32_t (&strides)[3]) {
  uint64_t last = base;
  for (int i = 0; i < 3; ++i) last += uint64_t{n[i] - 1} * strides[i];
  return last;
}

void CheckShift(const Unit& unit, int32_t amount) {
  if (amount < 0 || amount > 31) unit.Fail("shifts by " + std::to_string(amount), "0..31");
}

int32_t Apply(AluOp op, int32_t a, int32_t b) {
  switch (op) {
    case AluOp::kAdd:
      return Wrap(U(a) + U(b));
    case AluOp::kSub:
      return Wrap(U(a) - U(b));
    case AluOp::kMul:
      return Wrap(U(a) * U(b));
    case AluOp::kMax:
      return std::max(a, b);
    case AluOp::kMin:
      return std::min(a, b);
    case AluOp::kShr:
      return a >> (b & 31);
    case AluOp::kShl:
      return Wrap(U(a) << (b & 31));
    case AluOp::kAbs:
      return a < 0 ? Wrap(0U - U(a)) : a;
    default:
      return a;
  }
}

/*! \brief Compile-time operation, so that the lane loop vectorises. */
template <AluOp kOp>
void RunBinary(Unit& unit, const isa::Alu& alu, Mem b_mem, bool has_b) {
  const auto a_mem = static_cast<Mem>(alu.a_mem);
  const auto dst_mem = static_cast<Mem>(alu.dst_mem);
  const bool source = (unit.event.instruction->flags & kSignedSource) != 0;
  const bool result = (unit.event.instruction->flags & kSignedResult) != 0;
  Lanes constant;
  constant.fill(alu.imm);
  ForEach(alu, [&](uint64_t dst, uint64_t a, uint64_t b) {
    Lanes lanes = LoadLanes(unit, a_mem, a, source);
    const Lanes other = has_b ? LoadLanes(unit, b_mem, b, source) : constant;
    if (kOp == AluOp::kShr || kOp == AluOp::kShl) {
      for (const int32_t amount : other) CheckShift(unit, amount);
    }
    for (int i = 0; i < 16; ++i) lanes[i] = Apply(kOp, lanes[i], other[i]);
    StoreLanes(unit, dst_mem, dst, lanes, result);
  });
}

/*! \brief The immediate into all lanes; nothing is read. */
void RunSet(Unit& unit, const isa::Alu& alu) {
  const auto dst_mem = static_cast<Mem>(alu.dst_mem);
  const bool result = (unit.event.instruction->flags & kSignedResult) != 0;
  Lanes lanes;
  lanes.fill(alu.imm);
  ForEach(alu,
          [&](uint64_t dst, uint64_t, uint64_t) { StoreLanes(unit, dst_mem, dst, lanes, result); });
}

void RunLut(Unit& unit, const isa::Alu& alu) {
  const auto a_mem = static_cast<Mem>(alu.a_mem);
  const auto dst_mem = static_cast<Mem>(alu.dst_mem);
  const bool result = (unit.event.instruction->flags & kSignedResult) != 0;
  if (!IsNarrow(a_mem)) unit.Fail("LUT reads ACC", "8-bit lanes of INP or OUT");
  ForEach(alu, [&](uint64_t dst, uint64_t a, uint64_t b) {
    const Lanes index = LoadLanes(unit, a_mem, a, false);
    unit.CheckWritten(Mem::kLut, b);
    const uint8_t* table = unit.memories.Word(Mem::kLut, b);
    Lanes lanes;
    for (int i = 0; i < 16; ++i) {
      const uint8_t value = table[index[i]];
      lanes[i] = result ? static_cast<int8_t>(value) : value;
    }
    StoreLanes(unit, dst_mem, dst, lanes, result);
  });
}

/*! \brief Quantisation words of 16 lanes that start at word b. */
RequantWords LoadQuantisation(const Unit& unit, uint64_t b, bool per_lane, bool is_signed) {
  RequantWords words;
  for (uint64_t lane = 0; lane < 16; ++lane) {
    const uint64_t word = per_lane ? b + lane : b;
    unit.CheckWritten(Mem::kQp, word);
    const uint8_t* bytes = unit.memories.Word(Mem::kQp, word);
    std::memcpy(&words.m0[lane], bytes + 4, 4);
    const int shift = static_cast<int8_t>(bytes[8]);
    if (shift < -31 || shift > 30) {
      unit.Fail("QP word " + std::to_string(word) + " shifts by " + std::to_string(shift),
                "-31..30");
    }
    words.left[lane] = std::max(shift, 0);
    words.right[lane] = std::max(-shift, 0);
    const auto value = [&](uint8_t byte) {
      return is_signed ? static_cast<int32_t>(static_cast<int8_t>(byte)) : int32_t{byte};
    };
    words.zp[lane] = value(bytes[9]);
    words.lo[lane] = value(bytes[10]);
    words.hi[lane] = value(bytes[11]);
  }
  return words;
}

/*! \brief n words from `first` on, `stride` apart, were written. */
void CheckRow(const Unit& unit, Mem mem, uint64_t first, uint64_t stride, uint64_t n) {
  if (stride == 1) {
    const int64_t hole = unit.memories.FirstUnwritten(mem, first, n);
    if (hole >= 0) unit.FailUnwritten(mem, static_cast<uint64_t>(hole));
    return;
  }
  for (uint64_t i = 0; i < n; ++i) unit.CheckWritten(mem, first + i * stride);
}

void MarkRow(const Unit& unit, Mem mem, uint64_t first, uint64_t stride, uint64_t n) {
  if (stride == 1) return unit.memories.MarkWritten(mem, first, n);
  for (uint64_t i = 0; i < n; ++i) unit.memories.MarkWritten(mem, first + i * stride);
}

/*! \brief REQ of sums to bytes with one quantisation a row, which is what follows a GEMM. */
void RunRequantRows(Unit& unit, const isa::Alu& alu) {
  const auto dst_mem = static_cast<Mem>(alu.dst_mem);
  const uint32_t flags = unit.event.instruction->flags;
  const bool result = (flags & kSignedResult) != 0;
  const RequantRowFn requant = Kernels().requant_row;
  RequantWords words;
  uint64_t held = UINT64_MAX;
  for (uint64_t i2 = 0; i2 < alu.n[2]; ++i2) {
    for (uint64_t i1 = 0; i1 < alu.n[1]; ++i1) {
      const uint64_t dst = alu.dst + i2 * alu.dst_s[2] + i1 * alu.dst_s[1];
      const uint64_t a = alu.a + i2 * alu.a_s[2] + i1 * alu.a_s[1];
      const uint64_t b = alu.b + i2 * alu.b_s[2] + i1 * alu.b_s[1];
      if (b != held) {
        words = LoadQuantisation(unit, b, (flags & kWordPerLane) != 0, result);
        held = b;
      }
      CheckRow(unit, Mem::kAcc, a, alu.a_s[0], alu.n[0]);
      requant(unit.memories.Word(Mem::kAcc, a), 64 * alu.a_s[0], unit.memories.Word(dst_mem, dst),
              16 * alu.dst_s[0], alu.n[0], words, result);
      MarkRow(unit, dst_mem, dst, alu.dst_s[0], alu.n[0]);
    }
  }
}

void RunRequant(Unit& unit, const isa::Alu& alu, bool clip) {
  const auto a_mem = static_cast<Mem>(alu.a_mem);
  const auto dst_mem = static_cast<Mem>(alu.dst_mem);
  const uint32_t flags = unit.event.instruction->flags;
  const bool source = (flags & kSignedSource) != 0;
  const bool result = (flags & kSignedResult) != 0;
  if (clip && a_mem == Mem::kAcc && IsNarrow(dst_mem) && alu.b_s[0] == 0) {
    return RunRequantRows(unit, alu);
  }
  const bool per_lane = (flags & kWordPerLane) != 0;
  const RequantFn requant = Kernels().requant;
  RequantWords words;
  uint64_t held = UINT64_MAX;
  ForEach(alu, [&](uint64_t dst, uint64_t a, uint64_t b) {
    if (b != held) {
      words = LoadQuantisation(unit, b, per_lane, result);
      held = b;
    }
    Lanes lanes = LoadLanes(unit, a_mem, a, source);
    requant(lanes.data(), words, clip);
    StoreLanes(unit, dst_mem, dst, lanes, result);
  });
}

/*! \brief Which kind of b an operation takes. */
void CheckOperand(const Unit& unit, AluOp op, AluSrcB b_src) {
  std::string expected;
  switch (op) {
    case AluOp::kMov:
      if (b_src != AluSrcB::kNone && b_src != AluSrcB::kImm) expected = "NONE or IMM";
      break;
    case AluOp::kAbs:
      if (b_src != AluSrcB::kNone) expected = "NONE";
      break;
    case AluOp::kReq:
    case AluOp::kReq32:
      if (b_src != AluSrcB::kQp) expected = "QP";
      break;
    case AluOp::kLut:
      if (b_src != AluSrcB::kLut) expected = "LUT";
      break;
    default:
      if (b_src != AluSrcB::kImm && b_src != AluSrcB::kAcc && b_src != AluSrcB::kInp) {
        expected = "IMM, ACC or INP";
      }
  }
  if (!expected.empty()) {
    unit.Fail("b_src is " + std::to_string(static_cast<int>(b_src)), expected + " for this op");
  }
  const bool requant = op == AluOp::kReq || op == AluOp::kReq32;
  if ((unit.event.instruction->flags & kWordPerLane) != 0 && !requant) {
    unit.Fail("flag 2 without REQ", "no flag 2");
  }
}

Mem MemoryOf(AluSrcB b_src) {
  switch (b_src) {
    case AluSrcB::kInp:
      return Mem::kInp;
    case AluSrcB::kQp:
      return Mem::kQp;
    case AluSrcB::kLut:
      return Mem::kLut;
    default:
      return Mem::kAcc;
  }
}

}  // namespace

void ExecuteAlu(Unit& unit, const isa::Alu& alu) {
  const auto op = static_cast<AluOp>(alu.op);
  const auto b_src = static_cast<AluSrcB>(alu.b_src);
  CheckOperand(unit, op, b_src);
  const bool has_b = b_src != AluSrcB::kNone && b_src != AluSrcB::kImm;
  const bool per_lane = (unit.event.instruction->flags & kWordPerLane) != 0;
  const auto a_mem = static_cast<Mem>(alu.a_mem);
  const auto dst_mem = static_cast<Mem>(alu.dst_mem);
  const Mem b_mem = MemoryOf(b_src);
  const bool set = op == AluOp::kMov && b_src == AluSrcB::kImm;
  if (!set) unit.CheckWords(a_mem, alu.a, LastWord(alu.a, alu.n, alu.a_s));
  unit.CheckWords(dst_mem, alu.dst, LastWord(alu.dst, alu.n, alu.dst_s));
  if (has_b) {
    unit.CheckWords(b_mem, alu.b, LastWord(alu.b, alu.n, alu.b_s) + (per_lane ? 15 : 0));
  }
  switch (op) {
    case AluOp::kMov:
      if (set) {
        RunSet(unit, alu);
      } else {
        RunBinary<AluOp::kMov>(unit, alu, b_mem, false);
      }
      break;
    case AluOp::kAdd:
      RunBinary<AluOp::kAdd>(unit, alu, b_mem, has_b);
      break;
    case AluOp::kSub:
      RunBinary<AluOp::kSub>(unit, alu, b_mem, has_b);
      break;
    case AluOp::kMul:
      RunBinary<AluOp::kMul>(unit, alu, b_mem, has_b);
      break;
    case AluOp::kMax:
      RunBinary<AluOp::kMax>(unit, alu, b_mem, has_b);
      break;
    case AluOp::kMin:
      RunBinary<AluOp::kMin>(unit, alu, b_mem, has_b);
      break;
    case AluOp::kShr:
      RunBinary<AluOp::kShr>(unit, alu, b_mem, has_b);
      break;
    case AluOp::kShl:
      RunBinary<AluOp::kShl>(unit, alu, b_mem, has_b);
      break;
    case AluOp::kAbs:
      RunBinary<AluOp::kAbs>(unit, alu, b_mem, false);
      break;
    case AluOp::kReq:
      RunRequant(unit, alu, true);
      break;
    case AluOp::kReq32:
      RunRequant(unit, alu, false);
      break;
    case AluOp::kLut:
      RunLut(unit, alu);
      break;
  }
  const uint64_t elements = uint64_t{alu.n[0]} * alu.n[1] * alu.n[2];
  Counts& counts = unit.counts;
  counts.alu_lanes += 16 * elements;
  if (op == AluOp::kReq || op == AluOp::kReq32) counts.requants += 16 * elements;
  if (!set) counts.read[alu.a_mem] += elements * Memories::word_bytes(a_mem);
  counts.write[alu.dst_mem] += elements * Memories::word_bytes(dst_mem);
  if (has_b) {
    const uint64_t words = per_lane ? 16 * elements : elements;
    const uint64_t bytes = op == AluOp::kLut ? 16 : Memories::word_bytes(b_mem);
    counts.read[static_cast<int>(b_mem)] += words * bytes;
  }
}

}  // namespace sd
