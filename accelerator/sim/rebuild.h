#ifndef SD_SIM_REBUILD_H_
#define SD_SIM_REBUILD_H_

#include <cstdint>
#include <vector>

#include "kept_rows.h"

namespace sd {

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

/*! rief Channel blocks that filters read. */
struct ChannelBlocks {
  uint64_t first = 0;
  uint64_t count = 0;
};

/*!
 * \brief Channel blocks of consecutive filters.
 *
 * Throws ProgramError (prefix `site`) if a pixel would read more words than INP can have.
 */
ChannelBlocks BlocksOf(const isa::Setw& setw, uint64_t first_filter, uint64_t n_filters,
                       const Site& site);

/*!
 * \brief Rebuilds w = Ce . B of the filters of a block and drops entries that are zero for all.
 *
 * Throws ProgramError (prefix `site`) on a row index beyond the filter or a bitmap that does not
 * keep exactly kept_rows rows.
 */
BlockWeights Rebuild(const PackedBlock& block, const Site& site);

}  // namespace sd

#endif  // SD_SIM_REBUILD_H_
