#ifndef SD_SIM_TIMING_H_
#define SD_SIM_TIMING_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "cost.h"
#include "energy.h"
#include "gemm_plan.h"
#include "machine.h"
#include "program.h"

namespace sd {

/*! \brief What only the data of a GEMM can tell a serial array. */
struct GemmData {
  uint64_t body = 0;    // cycles of all its groups
  ArrayCycles array;    // the same by bound
  uint64_t digits = 0;  // non-zero Booth digits that its lanes add
};

/*! \brief When one instruction left its queue and when it ended. */
struct Span {
  uint64_t issue = 0;
  uint64_t end = 0;
};

/*!
 * \brief Where the time of one queue went; the four add up to the program's cycles.
 *
 * token: the head waits for a semaphore. dispatch: the queue is empty, because of fetch, a full
 * queue elsewhere or a FENCE. idle: after its last instruction.
 */
struct QueueTime {
  uint64_t busy = 0;
  uint64_t token = 0;
  uint64_t dispatch = 0;
  uint64_t idle = 0;
};

/*! \brief Time and energy events of a set of instructions. */
struct TimeShare {
  uint64_t cycles = 0;  // by which they moved the end of the program
  std::array<QueueTime, isa::kNumQueue> queues{};
  /*! \brief Of a queue's token cycles, those that end with a signal of each queue. */
  std::array<std::array<uint64_t, isa::kNumQueue>, isa::kNumQueue> waits{};
  uint64_t dram_read_busy = 0;  // cycles that data moves on the read channel
  uint64_t dram_write_busy = 0;
  ArrayCycles array;  // of GEMMs, adds up to their durations
  std::array<uint64_t, isa::kNumOpcode> class_count{};
  std::array<uint64_t, isa::kNumOpcode> class_cycles{};  // durations, overlap included
  std::array<EventCounts, isa::kNumOpcode> class_events;
  EventCounts events;  // their sum
};

/*! \brief Share of one layer; its queues are never idle, that is what the program is. */
struct LayerTime : TimeShare {
  int64_t layer = -1;  // of MARK; -1: before the first
};

/*!
 * \brief Result of timing a program: its totals, accumulated apart from the layers' shares, which
 * add up to them.
 */
struct Timing : TimeShare {
  std::vector<LayerTime> layers;  // in order of their first MARK
  std::vector<Span> spans;        // of each instruction
};

/*!
 * \brief Times a program: four in-order queues, counting semaphores, split DRAM channels.
 *
 * Every time is a maximum of earlier times plus constants, so that the order of evaluation does not
 * matter and a shorter instruction never makes a program longer.
 *
 * \param data Of each instruction, what a serial array needs to know; empty for a parallel one.
 *
 * Throws DeadlockError naming every queue's head, ProgramError on a GEMM without SETW or absurd
 * counts, ConfigMismatchError if the machine cannot run the program, and ConfigError if the machine
 * is serial and a GEMM has no data.
 */
Timing TimeProgram(const Machine& machine, const Program& program,
                   const std::vector<std::optional<GemmData>>& data);

}  // namespace sd

#endif  // SD_SIM_TIMING_H_
