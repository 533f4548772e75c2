#ifndef SD_SIM_EXECUTOR_H_
#define SD_SIM_EXECUTOR_H_

#include <array>
#include <cstdint>
#include <vector>

#include "observer.h"
#include "program.h"
#include "simulate.h"

namespace sd {

using InstructionCounts = std::array<uint64_t, isa::kNumOpcode>;

/*! \brief Share of one layer. */
struct LayerStatistics {
  int64_t layer = -1;  // of MARK; -1: before the first
  InstructionCounts instructions{};
  Counts counts;
};

/*! \brief What a functional run did. */
struct Statistics {
  InstructionCounts instructions{};
  Counts total;
  /*! \brief Shares by layer of MARK, in order of appearance; they add up to the above. */
  std::vector<LayerStatistics> layers;
};

/*!
 * \brief Executes a program functionally.
 *
 * The four queues run round-robin, each until it blocks on a semaphore, so that a missing
 * dependence shows as a deterministic wrong result or an uninitialised read. Throws ProgramError or
 * DeadlockError.
 *
 * \param observer Sees every instruction, or null.
 */
Statistics Execute(const Program& program, const std::vector<Segment>& segments,
                   Workspace* workspace, Observer* observer);

}  // namespace sd

#endif  // SD_SIM_EXECUTOR_H_
