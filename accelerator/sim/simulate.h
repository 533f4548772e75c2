#ifndef SD_SIM_SIMULATE_H_
#define SD_SIM_SIMULATE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "config.h"
#include "energy.h"
#include "program.h"

namespace sd {

struct Workspace;

/*! \brief Bytes of one operand of the call. */
struct Segment {
  uint8_t* data = nullptr;
  uint64_t bytes = 0;
};

/*! \brief What a run computes besides the result. */
enum class Mode { kFunctional, kTimed };

/*! \brief "functional" or "timed"; throws ConfigError. */
Mode ParseMode(const std::string& text);

/*! \brief Sums over whole programs, kept apart from the shares of layers. */
struct Totals {
  uint64_t calls = 0;
  uint64_t instructions = 0;
  uint64_t macs = 0;
  uint64_t macs_dense = 0;
  uint64_t dram_read = 0;
  uint64_t dram_write = 0;
  uint64_t timed_calls = 0;
  uint64_t cycles = 0;
  EnergyBreakdown energy;

  void Add(const Totals& other);
  /*! \brief JSON object; cycles and energy only if all calls were timed. */
  std::string ToJson() const;
};

/*! \brief Statistics of one run. */
struct RunResult {
  std::string json;
  Totals totals;
};

/*!
 * \brief Runs a program on its operands.
 *
 * \param workspace Survives the call and makes the next one faster, or null.
 */
RunResult Simulate(const Program& program, const Config& config,
                   const std::vector<Segment>& segments, Mode mode, Workspace* workspace);

}  // namespace sd

#endif  // SD_SIM_SIMULATE_H_
