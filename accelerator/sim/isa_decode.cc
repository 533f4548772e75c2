#include "isa_decode.h"

#include <algorithm>
#include <string>

#include "error.h"

namespace sd {
namespace {

using isa::Opcode;

constexpr uint32_t kSemaphoreValid = 1U << 5;
constexpr uint32_t kZeroCode = 0x07;

uint32_t AllowedFlags(Opcode opcode) {
  switch (opcode) {
    case Opcode::kSetw:
      return 1;
    case Opcode::kLoad:
    case Opcode::kAlu:
      return 7;
    default:
      return 0;
  }
}

[[noreturn]] void Fail(const Site& site, const std::string& found, const std::string& expected) {
  throw ProgramError(site.text() + ": " + found + ". Expected: " + expected + ".");
}

void CheckEnum(const Site& site, const char* field, uint32_t value, int count) {
  if (value >= static_cast<uint32_t>(count)) {
    Fail(site, std::string(field) + " is " + std::to_string(value),
         "at most " + std::to_string(count - 1));
  }
}

int DecodeSemaphore(const Site& site, uint32_t field) {
  if ((field & kSemaphoreValid) != 0) return static_cast<int>(field & (kSemaphoreValid - 1));
  if (field != 0) {
    Fail(site, "an unused semaphore field holds " + std::to_string(field), "0");
  }
  return -1;
}

void CheckPositive(const Site& site, const char* field, uint32_t value) {
  if (value == 0) Fail(site, std::string(field) + " is 0", "at least 1");
}

/*! \brief Checks what a body alone can say. */
struct BodyChecker {
  Site site;

  void operator()(const isa::Nop&) const {}
  void operator()(const isa::Load& load) const {
    CheckEnum(site, "xform", load.xform, isa::kNumXform);
  }
  void operator()(const isa::Store& store) const {
    if (store.xform != 0) Fail(site, "xform is " + std::to_string(store.xform), "COPY");
    const auto mem = static_cast<isa::Mem>(store.mem);
    if (mem != isa::Mem::kOut && mem != isa::Mem::kAcc) {
      Fail(site, std::string("stores from ") + isa::kMemories[store.mem].name, "OUT or ACC");
    }
  }
  void operator()(const isa::Gemm& gemm) const {
    CheckEnum(site, "acc_init", gemm.acc_init, isa::kNumAccInit);
    CheckPositive(site, "n_oy", gemm.n_oy);
    CheckPositive(site, "n_ox", gemm.n_ox);
    CheckPositive(site, "n_m", gemm.n_m);
    if (gemm.m_base % 16 != 0) {
      Fail(site, "m_base is " + std::to_string(gemm.m_base), "a multiple of 16");
    }
  }
  void operator()(const isa::Alu& alu) const {
    CheckEnum(site, "op", alu.op, isa::kNumAluOp);
    CheckEnum(site, "b_src", alu.b_src, isa::kNumAluSrcB);
    CheckMemory("a_mem", alu.a_mem);
    CheckMemory("dst_mem", alu.dst_mem);
    for (const uint32_t n : alu.n) CheckPositive(site, "an extent", n);
  }
  void operator()(const isa::Setw& setw) const { GeometryOf(setw, site); }
  void operator()(const isa::Mark&) const {}
  void operator()(const isa::Fence&) const {}
  void operator()(const isa::Finish&) const {}

  void CheckMemory(const char* field, uint32_t value) const {
    const auto mem = static_cast<isa::Mem>(value);
    if (mem != isa::Mem::kAcc && mem != isa::Mem::kInp && mem != isa::Mem::kOut) {
      Fail(site, std::string(field) + " is " + isa::kMemories[value].name, "ACC, INP or OUT");
    }
  }
};

}  // namespace

std::string Site::text() const {
  return "instruction " + std::to_string(index) + " (" +
         isa::kOpcodes[static_cast<int>(opcode)].name + ")";
}

std::string Where(size_t index, const Instruction& instruction) {
  return Site{index, instruction.opcode}.text();
}

Instruction Decode(const uint8_t* bytes, size_t index) {
  const isa::Bits bits(bytes);
  const isa::Header header = isa::DecodeHeader(bits);
  if (header.opcode >= static_cast<uint32_t>(isa::kNumOpcode)) {
    throw ProgramError("instruction " + std::to_string(index) + ": opcode " +
                       std::to_string(header.opcode) + " does not exist. Expected: at most " +
                       std::to_string(isa::kNumOpcode - 1) + ".");
  }
  Instruction out;
  out.opcode = static_cast<Opcode>(header.opcode);
  const Site site{index, out.opcode};
  const isa::OpcodeInfo& info = isa::kOpcodes[header.opcode];
  for (size_t bit = info.used_bits; bit < 8 * isa::kInstructionBytes;) {
    const size_t width = std::min<size_t>(32, 8 * isa::kInstructionBytes - bit);
    if (bits.Get(bit, width) != 0) {
      Fail(site, "bits beyond " + std::to_string(info.used_bits) + " are not zero",
           "zero in unused bits");
    }
    bit += width;
  }
  for (int i = 0; i < 2; ++i) {
    out.wait[i] = DecodeSemaphore(site, header.wait[i]);
    out.signal[i] = DecodeSemaphore(site, header.signal[i]);
  }
  out.flags = header.flags;
  if ((out.flags & ~AllowedFlags(out.opcode)) != 0) {
    Fail(site, "flags are " + std::to_string(out.flags),
         "no bit outside " + std::to_string(AllowedFlags(out.opcode)));
  }
  out.body = isa::DecodeBody(out.opcode, bits);
  out.queue = info.queue;
  if (const auto* nop = std::get_if<isa::Nop>(&out.body)) out.queue = static_cast<int>(nop->queue);
  if (out.queue == kNoQueue &&
      (out.wait[0] >= 0 || out.wait[1] >= 0 || out.signal[0] >= 0 || out.signal[1] >= 0)) {
    Fail(site, "waits for or signals a semaphore", "none, it belongs to no queue");
  }
  std::visit(BodyChecker{site}, out.body);
  return out;
}

int DecodeCode(uint32_t entry, const Site& site) {
  if (entry == kZeroCode) return 0;
  const int p1 = static_cast<int>((entry >> 4) & 7);
  const int p2 = static_cast<int>(entry & 7);
  const bool two = (entry & 8) != 0;
  if (two ? p2 >= p1 : p2 != 0) {
    Fail(site, "code table entry " + std::to_string(entry) + " is not canonical",
         "2^p1, 2^p1 + 2^p2 with p2 < p1, or 7 for zero");
  }
  const int magnitude = (1 << p1) + (two ? 1 << p2 : 0);
  return (entry & 0x80) != 0 ? -magnitude : magnitude;
}

WeightGeometry GeometryOf(const isa::Setw& setw, const Site& site) {
  CheckEnum(site, "wmode", setw.wmode, isa::kNumWMode);
  CheckPositive(site, "cg", setw.cg);
  CheckPositive(site, "mg", setw.mg);
  CheckPositive(site, "n_ky", setw.n_ky);
  CheckPositive(site, "n_kx", setw.n_kx);
  for (const uint32_t entry : setw.code) DecodeCode(entry, site);
  WeightGeometry g;
  g.taps = setw.cg * setw.n_ky * setw.n_kx;
  const auto mode = static_cast<isa::WMode>(setw.wmode);
  if (mode == isa::WMode::kRaw8) {
    g.rows = g.slots = g.used_slots = g.kept_rows = g.taps;
    return g;
  }
  const uint32_t s = setw.s;
  if (s == 0 || s > 16) Fail(site, "s is " + std::to_string(s), "1..16");
  if (static_cast<isa::RowKind>(setw.rowkind) == isa::RowKind::kTaps) {
    if (s != setw.n_kx) {
      Fail(site, "s is " + std::to_string(s) + " and n_kx " + std::to_string(setw.n_kx),
           "the same for TAPS rows");
    }
    g.rows = setw.cg * setw.n_ky;
  } else {
    g.rows = (setw.cg + s - 1) / s * setw.n_ky * setw.n_kx;
  }
  uint32_t keep = 16;
  switch (mode) {
    case isa::WMode::kN8:
      keep = 8;
      break;
    case isa::WMode::kN4:
      keep = 4;
      break;
    case isa::WMode::kN2:
      keep = 2;
      break;
    default:
      break;
  }
  const bool indexed = keep != 16;
  g.planes = s + (indexed ? 1 : 0);
  g.basis_words = (s * s + 15) / 16;
  if (mode == isa::WMode::kShared) {
    CheckPositive(site, "group_tiles", setw.group_tiles);
    if (setw.kept_rows > g.rows) {
      Fail(site, "kept_rows is " + std::to_string(setw.kept_rows),
           "at most the " + std::to_string(g.rows) + " rows of a filter");
    }
    g.used_slots = g.kept_rows = setw.kept_rows;
    g.bitmap_words = (g.rows + 127) / 128;
  } else {
    g.used_slots = indexed ? keep * ((g.rows + 15) / 16) : g.rows;
    g.kept_rows = g.rows / 16 * keep + std::min(keep, g.rows % 16);
  }
  g.slots = (g.used_slots + 3) / 4 * 4;
  if (static_cast<isa::BasisKind>(setw.basis_kind) == isa::BasisKind::kSlice &&
      setw.slice_blocks != 0) {
    const uint32_t slice = 16 * setw.slice_blocks;
    g.slices = (g.rows + slice - 1) / slice;
  }
  return g;
}

}  // namespace sd
