#ifndef SD_SIM_WORKSPACE_H_
#define SD_SIM_WORKSPACE_H_

#include <array>
#include <vector>

#include "kernels.h"
#include "memories.h"
#include "rebuild.h"
#include "sparse_tile.h"
#include "weight_cache.h"

namespace sd {

/*! \brief What inputs in another order were made from: equal keys, equal bytes. */
using InputKey = std::array<uint64_t, 14>;

/*! \brief Buffers of a GEMM, kept from one to the next; what they hold is of no consequence. */
struct GemmScratch {
  std::vector<uint8_t*> sums;    // ACC words of a tile, by pixel
  std::vector<Pixel> pixels;     // of a tile
  std::vector<int32_t> offsets;  // of a pixel's inputs
  std::vector<int16_t> weights;  // raw weights of a tile
  std::vector<uint8_t> bases;    // of a tile's codebook ids
  std::vector<uint8_t> planes;   // inputs, channel by channel
  InputKey planes_key = {};
  std::vector<uint8_t> block_planes;  // inputs of one block of pixels, channel by channel
  std::vector<uint8_t> blocks;        // inputs of all of them, as TriplesFn reads them
  InputKey blocks_key = {};
  std::vector<int32_t> row_offsets;  // of rows' inputs in planes
  std::vector<TapPair> taps;         // of a tile, with those offsets
  std::vector<int32_t> coefficient_sums;
  std::vector<int32_t> filter_sums;
};

/*!
 * \brief What runs can share to save time: rebuilt weights and allocated memories.
 *
 * Never changes a result. One run at a time.
 */
struct Workspace {
  WeightCache<BlockWeights> dense_weights;
  WeightCache<SparseTile> sparse_weights;
  Memories memories;
  GemmScratch scratch;
};

}  // namespace sd

#endif  // SD_SIM_WORKSPACE_H_
