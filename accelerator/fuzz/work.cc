#include "work.h"

#include <algorithm>
#include <variant>

namespace sd {
namespace fuzz {
namespace {

using isa::Mem;

uint64_t WordsOf(const Program& program, uint32_t mem) { return program.required_words[mem]; }

uint64_t Last(uint64_t x, uint64_t y, uint64_t ys, uint64_t z, uint64_t zs) {
  return x + (y - 1) * ys + (z - 1) * zs;
}

uint64_t OfGemm(const Program& program, const isa::Gemm& gemm, const isa::Setw& setw,
                const Machine* machine) {
  const uint64_t tiles = (gemm.n_m + 15) / 16;
  const uint64_t pixels = uint64_t{gemm.n_oy} * gemm.n_ox;
  const uint64_t acc =
      (tiles - 1) * gemm.acc_mb + (gemm.n_oy - 1) * uint64_t{gemm.acc_oy} + gemm.n_ox;
  if (acc > WordsOf(program, static_cast<uint32_t>(Mem::kAcc))) return 1;
  const uint64_t taps = uint64_t{setw.n_ky} * setw.n_kx;
  const uint64_t blocks = std::min<uint64_t>(16, (15 / setw.mg + 2)) * (setw.cg / 16 + 2);
  const uint64_t positions = std::min<uint64_t>(blocks * taps, 65536);
  uint64_t work = tiles * (pixels + positions * 32 + pixels * positions / 4);
  if (machine != nullptr && machine->serial) {
    const uint64_t filters = setw.cg == 1 ? std::min(gemm.n_m, machine->m_slices) : 1;
    const uint64_t elements = (uint64_t{setw.cg} + 16) * taps;
    work += elements * filters * pixels + pixels * gemm.n_m * elements / 16;
  }
  return work;
}

}  // namespace

uint64_t Work(const Program& program, const Instruction& instruction, const isa::Setw* setw,
              const Machine* machine) {
  const isa::Body& body = instruction.body;
  if (const auto* load = std::get_if<isa::Load>(&body)) {
    const uint64_t rows = uint64_t{load->y} + load->pad_t + load->pad_b;
    const uint64_t columns = load->x / 16 + load->pad_l + load->pad_r;  // at least
    if (rows == 0 || load->z == 0) return 1;
    if (Last(columns, rows, load->sram_ys, load->z, load->sram_zs) > WordsOf(program, load->mem)) {
      return 1;
    }
    return (load->x + 64ULL) * rows * load->z;
  }
  if (const auto* store = std::get_if<isa::Store>(&body)) {
    if (store->y == 0 || store->z == 0) return 1;
    if (Last(store->x, store->y, store->sram_ys, store->z, store->sram_zs) >
        WordsOf(program, store->mem)) {
      return 1;
    }
    return (store->x + 8ULL) * store->y * store->z;
  }
  if (const auto* alu = std::get_if<isa::Alu>(&body)) {
    const uint64_t last = Last(1, alu->n[1], alu->dst_s[1], alu->n[2], alu->dst_s[2]) +
                          uint64_t{alu->n[0] - 1} * alu->dst_s[0];
    if (last > WordsOf(program, alu->dst_mem)) return 1;
    return uint64_t{alu->n[0]} * alu->n[1] * alu->n[2];
  }
  const auto* gemm = std::get_if<isa::Gemm>(&body);
  return gemm == nullptr || setw == nullptr ? 1 : OfGemm(program, *gemm, *setw, machine);
}

uint64_t Work(const Program& program, const Machine* machine) {
  const isa::Setw* setw = nullptr;
  uint64_t sum = 0;
  for (const Instruction& instruction : program.instructions) {
    if (const auto* form = std::get_if<isa::Setw>(&instruction.body)) setw = form;
    const uint64_t work = Work(program, instruction, setw, machine);
    if (work > kMaxWork) return UINT64_MAX;
    sum += work;
  }
  return sum;
}

}  // namespace fuzz
}  // namespace sd
