#ifndef SD_SIM_MACHINE_H_
#define SD_SIM_MACHINE_H_

#include <cstdint>
#include <vector>

#include "config.h"

namespace sd {

/*! \brief Who waits for the slowest Booth digit of a serial array. */
enum class SyncDomain : uint8_t { kLane = 0, kLine = 1, kArray = 2 };

/*!
 * \brief The parameters that time depends on, checked; docs/accelerator.md defines each.
 *
 * The functional simulator needs none of them.
 */
struct Machine {
  uint32_t m_slices = 0;
  uint32_t c_lines = 0;
  uint32_t f_lanes = 0;
  bool serial = false;
  uint32_t lanes_per_line = 0;
  SyncDomain sync = SyncDomain::kLine;
  std::vector<uint32_t> folds;  // ascending, the first is 1
  uint32_t lines_per_re = 0;    // 0: no rebuild engine
  uint32_t port_bytes = 0;
  uint32_t drain_values = 0;
  bool skip_zero_vectors = false;
  uint32_t gemm_fill = 0;
  uint32_t alu_lanes = 0;
  uint32_t alu_acc_ports = 0;
  uint32_t alu_fill = 0;
  uint32_t dram_bytes = 0;  // a cycle
  uint32_t dram_latency = 0;
  uint32_t dram_write_latency = 0;
  uint32_t dram_burst = 0;
  uint32_t dram_gap = 0;
  uint32_t dram_outstanding = 0;
  uint32_t dram_efficiency = 0;  // percent
  uint32_t decode = 0;
  uint32_t queue_depth = 0;  // 0: any number
  bool fetch = false;

  /*!
   * \brief Checks a configuration.
   *
   * Throws ConfigError unless every key of this version is there once, in range and consistent,
   * and no other key is.
   */
  static Machine From(const Config& config);
};

}  // namespace sd

#endif  // SD_SIM_MACHINE_H_
