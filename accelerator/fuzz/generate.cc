// Programs that are likely to run to their end.
#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <string>
#include <utility>

#include "isa_fields.h"
#include "mutate.h"

namespace sd {
namespace fuzz {
namespace {

using isa::Mem;
using isa::Opcode;

using Values = std::initializer_list<std::pair<const char*, uint64_t>>;

/*! \brief Collects instructions. */
class Writer {
 public:
  explicit Writer(Random& random) : random_(random) {
    const uint32_t base = 64U << Below(random, 4);  // 64 to 512 words
    words(Mem::kInp) = words(Mem::kAcc) = words(Mem::kOut) = base;
    words(Mem::kCode) = 2 * base;
    words(Mem::kBasis) = words(Mem::kQp) = 64;
    words(Mem::kIdx) = 16;
    words(Mem::kLut) = 4;
    const size_t inputs = 1 + Below(random, 3);
    const size_t results = 1 + Below(random, 2);
    out_.segments.assign(inputs, uint64_t{base} * 64 + 4096);
    out_.segments.insert(out_.segments.end(), results, uint64_t{base} * 64 + 4096);
    out_.set_results(static_cast<uint32_t>(results));
  }

  ProgramParts Write() {
    for (int mem = 0; mem < isa::kNumMem; ++mem) {
      if (!OneIn(random_, 16)) Fill(static_cast<Mem>(mem));
    }
    for (size_t n = 1 + Below(random_, 10); n > 0; --n) {
      switch (Below(random_, 8)) {
        case 0:
          AddLoad();
          break;
        case 1:
        case 2:
        case 3:
          AddGemm();
          break;
        case 4:
        case 5:
          AddAlu();
          break;
        case 6:
          AddStore();
          break;
        default:
          Add(Opcode::kMark, {{"layer", Below(random_, 4)}});
      }
      Separate();
    }
    AddStore();
    Add(Opcode::kFinish, {});
    return std::move(out_);
  }

 private:
  uint32_t& words(Mem mem) { return out_.words[static_cast<size_t>(mem)]; }
  /*! \brief 1 .. n, mostly small. */
  uint64_t Small(uint64_t n) {
    return 1 + (OneIn(random_, 8) ? Below(random_, n) : Below(random_, std::min<uint64_t>(n, 4)));
  }

  void Add(Opcode opcode, Values values, uint64_t flags = 0) {
    RawInstruction instruction{};
    instruction[0] = static_cast<uint8_t>(opcode);
    out_.instructions.push_back(instruction);
    for (const auto& [name, value] : values) Set(name, value);
    Set("flags", flags);
  }
  /*! \brief Sets a field of the last instruction. */
  void Set(const char* name, uint64_t value) {
    RawInstruction& instruction = out_.instructions.back();
    for (const FieldInfo& field : Fields()[instruction[0] & 15]) {
      if (std::strcmp(field.name, name) == 0) {
        SetBits(&instruction, field.offset, field.bits, static_cast<uint32_t>(value));
      }
    }
  }

  /*! \brief A FENCE, or a semaphore between this instruction and the next, or nothing. */
  void Separate() {
    if (!OneIn(random_, 4)) {
      Add(Opcode::kFence, {});
    } else if (OneIn(random_, 2) && (out_.instructions.back()[0] & 15) < 6) {
      const uint64_t semaphore = 32 + Below(random_, 32);
      Set("signal0", semaphore);
      Add(Opcode::kNop, {{"queue", Below(random_, 4)}, {"wait0", semaphore}});
    }
  }

  void Fill(Mem mem) {
    const uint64_t ratio = isa::kMemories[static_cast<size_t>(mem)].word_bytes / 16;
    Add(Opcode::kLoad, {{"mem", static_cast<uint64_t>(mem)},
                        {"x", words(mem) * ratio},
                        {"y", 1},
                        {"z", 1},
                        {"dram", Below(random_, 64)}});
    Add(Opcode::kFence, {});
  }

  void AddLoad() {
    const uint64_t xform = Below(random_, 4);
    const bool spread = xform == 3;
    const Mem mem = xform == 1   ? Mem::kAcc
                    : xform == 2 ? Mem::kInp
                    : spread     ? (OneIn(random_, 2) ? Mem::kQp : Mem::kBasis)
                                 : static_cast<Mem>(Below(random_, 8));
    const uint64_t x = Small(16) * (xform == 0 && mem == Mem::kAcc   ? 4
                                    : xform == 0 && mem == Mem::kLut ? 16
                                                                     : 1);
    const uint64_t y = Small(8);
    Add(Opcode::kLoad,
        {{"mem", static_cast<uint64_t>(mem)},
         {"xform", xform},
         {"seg", Below(random_, out_.segments.size())},
         {"dram", Below(random_, 64)},
         {"sram", Below(random_, words(mem))},
         {"x", x},
         {"y", y},
         {"z", Small(3)},
         {"sram_ys", Below(random_, 20)},
         {"sram_zs", Below(random_, 80)},
         {"dram_ys", Below(random_, 20)},
         {"dram_zs", Below(random_, 80)},
         {"pad_l", spread ? 0 : Below(random_, 3)},
         {"pad_r", spread ? 0 : Below(random_, 3)},
         {"pad_t", spread ? 0 : Below(random_, 3)},
         {"pad_b", spread ? 0 : Below(random_, 3)},
         {"pad_value", random_() & 255},
         {"fill", spread ? random_() & 0xFFFF : 0}},
        xform == 1   ? Below(random_, 2)
        : xform == 2 ? 2 * Below(random_, 4)
                     : 0);
  }

  void AddStore() {
    const Mem mem = OneIn(random_, 3) ? Mem::kAcc : Mem::kOut;
    Add(Opcode::kStore, {{"mem", static_cast<uint64_t>(mem)},
                         {"seg", out_.segments.size() - 1 - Below(random_, out_.results())},
                         {"dram", Below(random_, 32)},
                         {"sram", Below(random_, words(mem) / 2)},
                         {"x", Small(16)},
                         {"y", Small(4)},
                         {"z", Small(2)},
                         {"sram_ys", Below(random_, 16)},
                         {"dram_ys", Below(random_, 64)}});
  }

  uint64_t CodeEntry() {
    const uint64_t p1 = Below(random_, 8);
    const uint64_t sign = Below(random_, 2) << 7;
    if (OneIn(random_, 4)) return 7;
    if (p1 > 0 && OneIn(random_, 2)) return sign | p1 << 4 | 8 | Below(random_, p1);
    return sign | p1 << 4;
  }

  void AddGemm() {
    const uint64_t mode = Below(random_, isa::kNumWMode);
    const bool taps = OneIn(random_, 2);
    const uint64_t ky = Small(5);
    const uint64_t kx = Small(5);
    const uint64_t cg = OneIn(random_, 4) ? 1 : Small(40);
    const uint64_t mg = OneIn(random_, 3) ? 1 : Small(4095);
    const uint64_t s = taps ? kx : Small(5);
    const uint64_t rows = taps ? cg * ky : (cg + s - 1) / s * ky * kx;
    const bool shared = mode == static_cast<uint64_t>(isa::WMode::kShared);
    Add(Opcode::kSetw,
        {{"wmode", mode},
         {"rowkind", taps ? 0 : 1},
         {"s", s},
         {"basis_kind", Below(random_, 2)},
         {"slice_blocks", Below(random_, 3)},
         {"kept_rows", shared ? Below(random_, rows + 1) : 0},
         {"group_tiles", shared ? Small(4) : 0},
         {"cg", cg},
         {"mg", mg},
         {"n_ky", ky},
         {"n_kx", kx},
         {"inp_kx", Small(3)}},
        Below(random_, 2));
    for (int i = 0; i < 16; ++i) Set(("code" + std::to_string(i)).c_str(), CodeEntry());
    const uint64_t oy = Small(6);
    const uint64_t ox = Small(12);
    const uint64_t width = ox + kx;
    Add(Opcode::kGemm, {{"acc_init", Below(random_, 3)},
                        {"inp", Below(random_, words(Mem::kInp) / 4)},
                        {"code", Below(random_, 32)},
                        {"basis", Below(random_, 8)},
                        {"idx", Below(random_, 8)},
                        {"ids", Below(random_, 8)},
                        {"qp", Below(random_, 32)},
                        {"acc", Below(random_, words(Mem::kAcc) / 2)},
                        {"n_oy", oy},
                        {"n_ox", ox},
                        {"n_m", Small(40)},
                        {"m_base", 16 * (OneIn(random_, 3) ? Below(random_, 4) : 0)},
                        {"inp_oy", width},
                        {"inp_ox", Small(3)},
                        {"inp_ky", width},
                        {"inp_cb", Below(random_, 32)},
                        {"acc_oy", ox},
                        {"acc_mb", ox * oy}});
  }

  void AddAlu() {
    using isa::AluOp;
    using isa::AluSrcB;
    const auto op = static_cast<AluOp>(Below(random_, isa::kNumAluOp));
    const bool requant = op == AluOp::kReq || op == AluOp::kReq32;
    AluSrcB b = static_cast<AluSrcB>(1 + Below(random_, 3));
    if (op == AluOp::kAbs || (op == AluOp::kMov && b != AluSrcB::kImm)) b = AluSrcB::kNone;
    if (requant) b = AluSrcB::kQp;
    if (op == AluOp::kLut) b = AluSrcB::kLut;
    static constexpr Mem kPlaces[] = {Mem::kAcc, Mem::kInp, Mem::kOut};
    const Mem a = op == AluOp::kLut ? Mem::kInp : kPlaces[Below(random_, 3)];
    const Mem dst = kPlaces[Below(random_, 3)];
    const uint64_t n0 = Small(16);
    const bool shift = op == AluOp::kShl || op == AluOp::kShr;
    Add(Opcode::kAlu,
        {{"op", static_cast<uint64_t>(op)},
         {"a_mem", static_cast<uint64_t>(a)},
         {"b_src", static_cast<uint64_t>(b)},
         {"dst_mem", static_cast<uint64_t>(dst)},
         {"dst", Below(random_, words(dst) / 2)},
         {"a", Below(random_, words(a) / 2)},
         {"b", Below(random_, requant || op == AluOp::kLut ? 4 : 32)},
         {"n0", n0},
         {"n1", Small(8)},
         {"n2", Small(4)},
         {"dst_s0", Below(random_, 3)},
         {"dst_s1", Below(random_, 2) * n0},
         {"a_s0", Below(random_, 3)},
         {"a_s1", Below(random_, 2) * n0},
         {"b_s0", OneIn(random_, 3) ? 1 : 0},
         {"imm", shift ? Below(random_, 32) : random_()}},
        Below(random_, 4) | (requant ? Below(random_, 2) * 4 : 0));
  }

  Random& random_;
  ProgramParts out_;
};

}  // namespace

ProgramParts Generate(Random& random) { return Writer(random).Write(); }

}  // namespace fuzz
}  // namespace sd
