#ifndef SD_SIM_TIMED_H_
#define SD_SIM_TIMED_H_

#include <memory>
#include <optional>
#include <vector>

#include "config.h"
#include "energy.h"
#include "json.h"
#include "machine.h"
#include "observer.h"
#include "program.h"
#include "timing.h"

namespace sd {

/*! \brief Cycles and energy of a whole program. */
struct TimedTotals {
  uint64_t cycles = 0;
  EnergyBreakdown energy;
};

/*!
 * \brief Timing and energy of one run: `WriteTimed` adds their keys to an open JSON object.
 *
 * Use: construct; pass `observer()` to the functional run (it is null for a parallel array, whose
 * time does not depend on data); then `Write`.
 */
class TimedRun {
 public:
  /*! \brief Throws ConfigError if the configuration cannot be timed. */
  TimedRun(const Config& config, const Program& program);
  ~TimedRun();
  TimedRun(const TimedRun&) = delete;
  TimedRun& operator=(const TimedRun&) = delete;

  /*! \brief Collects what time depends on, or null. */
  Observer* observer();
  /*!
   * \brief Times the program and writes cycles, busy, stall, waits, dram_busy, array_cycles,
   * class_cycles, class_energy_fj, events, energy_fj, energy_total_fj, idle and layer_times (the
   * same by layer, without idle); with `trace`, [issue, end] of every instruction.
   */
  TimedTotals Write(JsonWriter* json, bool trace = false) const;

 private:
  class Collector;

  Machine machine_;
  EnergyPrices prices_;
  const Program& program_;
  std::vector<std::optional<GemmData>> data_;
  std::unique_ptr<Collector> collector_;
};

}  // namespace sd

#endif  // SD_SIM_TIMED_H_
