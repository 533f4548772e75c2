#ifndef SD_SIM_COST_H_
#define SD_SIM_COST_H_

#include <cstdint>

#include "array_cycles.h"
#include "energy.h"
#include "isa_decode.h"
#include "machine.h"

namespace sd {

/*!
 * \brief Time and energy events of one instruction, alone.
 *
 * A transfer is issued for `front` cycles, waits `latency`, owns its DRAM channel for `data` cycles
 * (`beats` of them on the bus) and ends `tail` cycles later. Everything else is `front` only.
 */
struct Cost {
  uint64_t front = 0;
  uint64_t latency = 0;
  uint64_t data = 0;
  uint64_t beats = 0;
  uint64_t tail = 0;
  ArrayCycles array;  // what binds a GEMM, cycle by cycle; zero for everything else
  EventList events;

  uint64_t Total() const { return front + latency + data + tail; }
};

/*! \brief Cycles of the data bus for a y x z set of rows of `bytes` at `start`, in 16-byte words.
 */
struct BoxTransfer {
  uint64_t start = 0;
  uint64_t bytes = 0;  // of a row
  uint64_t y = 0;
  uint64_t z = 0;
  uint64_t y_stride = 0;
  uint64_t z_stride = 0;
};
uint64_t TransferBeats(const Machine& machine, BoxTransfer box);

Cost LoadCost(const Machine& machine, const isa::Load& load, uint32_t flags);
Cost StoreCost(const Machine& machine, const isa::Store& store);
Cost AluCost(const Machine& machine, const isa::Alu& alu, uint32_t flags);

}  // namespace sd

#endif  // SD_SIM_COST_H_
