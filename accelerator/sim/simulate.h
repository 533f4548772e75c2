#ifndef SD_SIM_SIMULATE_H_
#define SD_SIM_SIMULATE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "config.h"
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

/*!
 * \brief Runs a program on its operands and returns the statistics as JSON.
 *
 * \param workspace Survives the call and makes the next one faster, or null.
 */
std::string Simulate(const Program& program, const Config& config,
                     const std::vector<Segment>& segments, Mode mode, Workspace* workspace);

}  // namespace sd

#endif  // SD_SIM_SIMULATE_H_
