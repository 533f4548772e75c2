#ifndef SD_SIM_REBUILD_H_
#define SD_SIM_REBUILD_H_

#include <cstdint>
#include <vector>

#include "isa_decode.h"

namespace sd {

/*! \brief Packed operands of up to 16 consecutive filters, as they lie on chip. */
struct PackedBlock {
  const isa::Setw* setw = nullptr;
  const WeightGeometry* geometry = nullptr;
  uint32_t first_filter = 0;        // index inside the layer, multiple of 16
  uint32_t n_filters = 0;           // 1..16
  const uint8_t* codes = nullptr;   // raw weights, or storage units of one or two octets
  const uint8_t* basis = nullptr;   // `slices` bases for each of the filters
  const uint8_t* bitmap = nullptr;  // row bitmap (SHARED)
};

/*! \brief Exact weights of up to 16 filters, ready for the kernels. */
struct BlockWeights {
  enum class Kind { kPairs, kLanes, kWide };

  Kind kind = Kind::kPairs;
  uint32_t first_block = 0;  // channel block that offsets count from
  uint32_t n_blocks = 0;     // channel blocks the filters read
  /*!
   * \brief Which input each entry multiplies: position * 16 + lane, position = (block * n_ky + ky)
   * * n_kx + kx. kPairs: also lane + 1. kLanes: lane is 0 and all 16 are meant.
   */
  std::vector<uint32_t> entries;
  std::vector<int16_t> narrow;  // kPairs [n][16][2], kLanes [n][16]
  std::vector<int32_t> wide;    // kWide [n][16]

  uint64_t bytes() const {
    return 4 * entries.size() + 2 * narrow.size() + 4 * wide.size() + sizeof(*this);
  }
};

/*!
 * \brief Rebuilds w = Ce . B of the filters of a block and drops entries that are zero for all.
 *
 * Throws ProgramError (prefix `site`) on a row index beyond the filter or a bitmap that does not
 * keep exactly kept_rows rows.
 */
BlockWeights Rebuild(const PackedBlock& block, const Site& site);

}  // namespace sd

#endif  // SD_SIM_REBUILD_H_
