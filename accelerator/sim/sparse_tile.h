#ifndef SD_SIM_SPARSE_TILE_H_
#define SD_SIM_SPARSE_TILE_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "kept_rows.h"
#include "kernels.h"

namespace sd {

/*! \brief Rows of a segment of triples. */
constexpr uint32_t kChunkRows = 64;

/*!
 * \brief Kept rows of up to 16 filters, in pairs: zero rows cost nothing.
 *
 * Rows of a *segment* are starts[segment] .. starts[segment + 1]; an odd last row is paired with
 * zero codes. Taps: segment = ((slice * code groups) + group of 3 codes) * 16 + filter, and weights
 * stay coefficients: the kernel sums codes x inputs, the basis is applied to the sums (exact, both
 * are linear). Triples: segment = filter * chunks + chunk of kChunkRows rows, and weights are
 * rebuilt.
 */
struct SparseTile {
  std::vector<uint32_t> starts;
  std::vector<TapPair> taps;  // offset: row of the filter
  std::vector<TriplePair> triples;
  std::vector<int8_t> bases;                 // taps: [filter][slice][s * s]
  std::array<int32_t, 16> weight_sums = {};  // taps: sum of a filter's weights

  uint64_t bytes() const {
    return 4 * starts.size() + sizeof(TapPair) * taps.size() + sizeof(TriplePair) * triples.size() +
           bases.size() + sizeof(*this);
  }
};

/*! \brief Largest magnitude in the code table of a SETW. */
int LargestCode(const isa::Setw& setw);

/*! \brief Lists rows of taps; throws ProgramError (prefix `site`) as KeptRows. */
SparseTile ListTaps(const PackedBlock& block, const Site& site);
/*! \brief Lists rows of three channels of a 1x1 kernel; throws as ListTaps. */
SparseTile ListTriples(const PackedBlock& block, const Site& site);

}  // namespace sd

#endif  // SD_SIM_SPARSE_TILE_H_
