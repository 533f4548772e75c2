#include "cost.h"

#include <algorithm>
#include <numeric>

#include "checked.h"
#include "load_shape.h"

namespace sd {
namespace {

using isa::Mem;

constexpr uint64_t kWord = 16;  // bytes of a DRAM word
constexpr uint64_t kLanes = 16;

/*! \brief A contiguous piece of memory on the bus: bursts do not cross multiples of their size. */
uint64_t RowCycles(const Machine& m, uint64_t start, uint64_t bytes) {
  const uint64_t offset = start * kWord % m.dram_burst;
  const uint64_t first = std::min<uint64_t>(bytes, m.dram_burst - offset);
  const uint64_t full = (bytes - first) / m.dram_burst;
  const uint64_t last = (bytes - first) % m.dram_burst;
  const uint64_t pieces = 1 + full + (last != 0 ? 1 : 0);
  return CeilDiv(first, m.dram_bytes) + full * CeilDiv(m.dram_burst, m.dram_bytes) +
         CeilDiv(last, m.dram_bytes) + (pieces - 1) * m.dram_gap;
}

/*!
 * \brief Sum of cycles(start + i * stride) for i < n, when cycles depends on its argument modulo
 * `period` words only.
 */
template <typename F>
uint64_t PeriodicSum(uint64_t start, uint64_t n, uint64_t stride, uint64_t period, F cycles) {
  const uint64_t length = period / std::gcd(period, stride % period);
  uint64_t sum = 0;
  if (length == 0 || n <= length) {
    for (uint64_t i = 0; i < n; ++i) AddTo(&sum, cycles((start + i * stride) % period));
    return sum;
  }
  uint64_t whole = 0;
  for (uint64_t i = 0; i < length; ++i) {
    const uint64_t c = cycles((start + i * stride) % period);
    AddTo(&whole, c);
    if (i < n % length) AddTo(&sum, c);
  }
  AddTo(&sum, Product({whole, n / length}));
  return sum;
}

EnergyEvent DramRead(Mem mem) {
  const bool activations = mem == Mem::kInp || mem == Mem::kAcc || mem == Mem::kOut;
  return activations ? EnergyEvent::kDramReadActivations : EnergyEvent::kDramReadWeights;
}

uint64_t WordBytes(uint32_t mem) { return isa::kMemories[mem].word_bytes; }

EnergyEvent OperationEvent(isa::AluOp op) {
  switch (op) {
    case isa::AluOp::kMov:
    case isa::AluOp::kLut:
      return EnergyEvent::kMove32;
    case isa::AluOp::kMul:
      return EnergyEvent::kMult32;
    case isa::AluOp::kShr:
    case isa::AluOp::kShl:
      return EnergyEvent::kShift32;
    case isa::AluOp::kReq:
    case isa::AluOp::kReq32:
      return EnergyEvent::kRequantise;
    default:
      return EnergyEvent::kAdd32;
  }
}

/*! \brief Times that the address of b changes: loops inside the innermost non-zero stride hold it.
 */
uint64_t FetchesOfB(const isa::Alu& alu) {
  int inner = 0;
  while (inner < 3 && (alu.b_s[inner] == 0 || alu.n[inner] == 1)) ++inner;
  uint64_t fetches = 1;
  for (int i = inner; i < 3; ++i) fetches *= alu.n[i];
  return fetches;
}

}  // namespace

uint64_t TransferBeats(const Machine& machine, BoxTransfer box) {
  if (box.bytes == 0 || box.y == 0 || box.z == 0) return 0;
  // Rows that follow each other without a hole are one row.
  if (box.y == 1 || box.y_stride * kWord == box.bytes) {
    const uint64_t rows = box.y;
    box.bytes *= rows;
    box.y = 1;
    if (box.z == 1 || box.z_stride * kWord == box.bytes) {
      box.bytes = Product({box.bytes, box.z});
      box.z = 1;
    }
  }
  const uint64_t period = machine.dram_burst / kWord;
  const uint64_t cycles = PeriodicSum(box.start, box.z, box.z_stride, period, [&](uint64_t plane) {
    return PeriodicSum(plane, box.y, box.y_stride, period,
                       [&](uint64_t row) { return RowCycles(machine, row, box.bytes); });
  });
  const uint64_t gaps = Product({Product({box.y, box.z}) - 1, machine.dram_gap});
  return CeilDiv(Product({cycles + gaps, 100}), machine.dram_efficiency);
}

Cost LoadCost(const Machine& machine, const isa::Load& load, uint32_t flags) {
  Cost cost;
  cost.front = machine.decode;
  cost.latency = machine.dram_latency;
  const LoadShape shape = ShapeOf(load, flags);
  cost.beats = TransferBeats(
      machine, {load.dram, shape.dram_words * kWord, load.y, load.z, load.dram_ys, load.dram_zs});
  const auto mem = static_cast<Mem>(load.mem);
  const uint64_t word = WordBytes(load.mem);
  const uint64_t columns = shape.chip_words + load.pad_l + load.pad_r;
  const uint64_t rows = uint64_t{load.y} + load.pad_t + load.pad_b;
  const uint64_t words = Product({columns, rows, load.z});
  const uint64_t moved = Product({shape.chip_words, load.y, load.z});
  cost.data = cost.beats;
  const auto xform = static_cast<isa::Xform>(load.xform);
  if (xform == isa::Xform::kExpand4 || xform == isa::Xform::kSpread9) {
    // The bus brings less than what the memory takes, which is the input port's width a cycle.
    cost.data = std::max(cost.data, CeilDiv(moved * word, machine.port_bytes));
  }
  AddTo(&cost.data, words - moved);
  cost.events.Add(DramRead(mem), Product({shape.dram_words, load.y, load.z, kWord}));
  cost.events.Add(MemoryEvent(mem, true), Product({words, word}));
  return cost;
}

Cost StoreCost(const Machine& machine, const isa::Store& store) {
  Cost cost;
  cost.front = machine.decode;
  const uint64_t word = WordBytes(store.mem);
  cost.beats = TransferBeats(
      machine, {store.dram, store.x * word, store.y, store.z, store.dram_ys, store.dram_zs});
  cost.data = cost.beats;
  cost.tail = machine.dram_write_latency;
  const uint64_t bytes = Product({store.x, store.y, store.z, word});
  cost.events.Add(MemoryEvent(static_cast<Mem>(store.mem), false), bytes);
  cost.events.Add(EnergyEvent::kDramWriteActivations, bytes);
  return cost;
}

Cost AluCost(const Machine& machine, const isa::Alu& alu, uint32_t flags) {
  Cost cost;
  const uint64_t vectors = Product({alu.n[0], alu.n[1], alu.n[2]});
  const auto b = static_cast<isa::AluSrcB>(alu.b_src);
  const bool set = b == isa::AluSrcB::kImm && static_cast<isa::AluOp>(alu.op) == isa::AluOp::kMov;
  const bool a_acc = !set && static_cast<Mem>(alu.a_mem) == Mem::kAcc;
  const uint64_t acc_reads = (a_acc ? 1 : 0) + (b == isa::AluSrcB::kAcc ? 1 : 0);
  const uint64_t turns = std::max<uint64_t>(1, CeilDiv(acc_reads, machine.alu_acc_ports));
  cost.front = machine.decode + machine.alu_fill +
               Product({CeilDiv(vectors * kLanes, machine.alu_lanes), turns});
  if (!set) {
    cost.events.Add(MemoryEvent(static_cast<Mem>(alu.a_mem), false),
                    Product({vectors, WordBytes(alu.a_mem)}));
  }
  cost.events.Add(MemoryEvent(static_cast<Mem>(alu.dst_mem), true),
                  Product({vectors, WordBytes(alu.dst_mem)}));
  switch (b) {
    case isa::AluSrcB::kAcc:
      cost.events.Add(EnergyEvent::kAccRead,
                      Product({vectors, WordBytes(static_cast<uint32_t>(Mem::kAcc))}));
      break;
    case isa::AluSrcB::kInp:
      cost.events.Add(EnergyEvent::kInpRead, Product({vectors, kWord}));
      break;
    case isa::AluSrcB::kQp:
      cost.events.Add(EnergyEvent::kQpRead,
                      Product({FetchesOfB(alu), kWord, (flags & 4) != 0 ? kLanes : 1}));
      break;
    case isa::AluSrcB::kLut:
      cost.events.Add(EnergyEvent::kLutRead, Product({vectors, kLanes}));
      break;
    case isa::AluSrcB::kNone:
    case isa::AluSrcB::kImm:
      break;
  }
  cost.events.Add(OperationEvent(static_cast<isa::AluOp>(alu.op)), Product({vectors, kLanes}));
  return cost;
}

}  // namespace sd
