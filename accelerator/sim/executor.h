#ifndef SD_SIM_EXECUTOR_H_
#define SD_SIM_EXECUTOR_H_

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "observer.h"
#include "program.h"
#include "simulate.h"

namespace sd {

/*! \brief What a functional run did. */
struct Statistics {
  std::array<uint64_t, isa::kNumOpcode> instructions{};
  Counts total;
  /*! \brief By layer of MARK, in order of appearance; empty without MARK. */
  std::vector<std::pair<uint32_t, Counts>> layers;
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
