#ifndef SD_SIM_SIMULATE_H_
#define SD_SIM_SIMULATE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "config.h"
#include "program.h"

namespace sd {

class WeightCache;

/*! \brief Bytes of one operand of the call. */
struct Segment {
  uint8_t* data = nullptr;
  uint64_t bytes = 0;
};

/*! \brief What a run computes besides the result. */
enum class Mode { kFunctional, kTimed };

/*! \brief "functional" or "timed"; throws ConfigError. */
Mode ParseMode(const std::string& text);

/*!
 * \brief Runs a program on its operands and returns the statistics as JSON.
 *
 * \param cache Rebuilt weights that survive the call, or null.
 */
std::string Simulate(const Program& program, const Config& config,
                     const std::vector<Segment>& segments, Mode mode, WeightCache* cache);

}  // namespace sd

#endif  // SD_SIM_SIMULATE_H_
