#ifndef SD_SIM_OBSERVER_H_
#define SD_SIM_OBSERVER_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "isa_decode.h"

namespace sd {

class Memories;

/*!
 * \brief What one executed instruction did, in exact integers.
 *
 * Memory bytes are those of an ideal datapath: a GEMM fetches each input vector (16 channels) once
 * per output pixel and tap for all its filters, its weight words once, and writes each accumulator
 * once; an ALU reads its operands and writes its result once per element.
 */
struct Counts {
  uint64_t dram_read = 0;
  uint64_t dram_write = 0;
  std::array<uint64_t, isa::kNumMem> read{};   // bytes
  std::array<uint64_t, isa::kNumMem> write{};  // bytes
  uint64_t macs_dense = 0;                     // products of the dense layer, zeros included
  uint64_t macs = 0;        // products with elements of kept rows, at most macs_dense
  uint64_t kept_rows = 0;   // coefficient rows rebuilt, all filters (SD forms)
  uint64_t shift_adds = 0;  // kept_rows * s * s * terms of the code table (1 or 2)
  uint64_t alu_lanes = 0;   // 16 per ALU element
  uint64_t requants = 0;    // lanes of REQ and REQ32

  void Add(const Counts& other);
};

/*! \brief One instruction at the moment it executes. */
struct Event {
  size_t index = 0;
  const Instruction* instruction = nullptr;
  uint32_t layer = 0;                        // of the last MARK
  const isa::Setw* setw = nullptr;           // form in force (GEMM)
  const WeightGeometry* geometry = nullptr;  // derived from it (GEMM)
  Counts counts;                             // filled once executed
};

/*!
 * \brief Sees every instruction of a functional run, in functional order.
 *
 * That order is legal, but not the order of time. Whoever needs data (Booth digits, zero vectors)
 * reads it in Before, when the operands are in the memories.
 */
class Observer {
 public:
  virtual ~Observer() = default;
  virtual void Before(const Event& event, const Memories& memories) {
    (void)event;
    (void)memories;
  }
  virtual void After(const Event& event, const Memories& memories) {
    (void)event;
    (void)memories;
  }
};

}  // namespace sd

#endif  // SD_SIM_OBSERVER_H_
