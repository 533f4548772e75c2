#ifndef SD_SIM_GEMM_TASK_H_
#define SD_SIM_GEMM_TASK_H_

#include <array>
#include <cstdint>
#include <memory>

#include "rebuild.h"
#include "unit.h"
#include "workspace.h"

namespace sd {

constexpr uint32_t kTileFilters = 16;
constexpr uint64_t kInpAddresses = 1U << 16;

/*!
 * \brief One GEMM instruction in execution: checked operands, tile by tile of 16 filters.
 *
 * How the products are summed up is the business of whoever uses it.
 */
class GemmTask {
 public:
  /*! \brief Throws ProgramError if a sum is outside ACC. */
  GemmTask(Unit& unit, const isa::Gemm& gemm, Workspace& workspace, bool is_signed);

  uint64_t tiles() const { return tiles_; }
  uint64_t pixels() const { return uint64_t{gemm.n_oy} * gemm.n_ox; }
  uint32_t filters(uint64_t tile) const;
  uint32_t first_filter(uint64_t tile) const {
    return gemm.m_base + static_cast<uint32_t>(tile) * kTileFilters;
  }
  /*! \brief Whether all filters read the same channels. */
  /*! \brief Whether two sums may be the same ACC word. */
  bool sums_overlap() const;
  bool one_group() const { return gemm.m_base / setw.mg == (gemm.m_base + gemm.n_m - 1) / setw.mg; }

  /*! \brief Operands of a tile's weights, checked and counted; valid until the next call. */
  PackedBlock Operands(uint64_t tile);
  /*! \brief Weights of a tile, from the cache or as `make` makes them from its operands. */
  template <typename T, typename Make>
  std::shared_ptr<const T> Weights(WeightCache<T>& cache, uint64_t tile, Make make) {
    const PackedBlock block = Operands(tile);
    const uint64_t hash = key_.Hash();
    if (auto found = cache.Find(key_, hash)) return found;
    T made = make(block, unit.site());
    const uint64_t bytes = made.bytes();
    return cache.Add(key_, hash, std::move(made), bytes);
  }

  /*! \brief What a tile's sums start from, or null if they go on from what ACC holds. */
  const int32_t* InitialSums(uint64_t tile);
  /*! \brief Lists the ACC words of a tile in scratch.sums, checked; checks the tile's inputs too.
   */
  void ListSums(uint64_t tile);

  /*! \brief Channel blocks of a tile. */
  ChannelBlocks Blocks(uint64_t tile) const;
  /*! \brief INP word of a tile's first channel block, pixel (0, 0), tap (0, 0). */
  uint64_t InputBase(const ChannelBlocks& blocks) const;
  /*! \brief INP words between the first and the last one of a channel block. */
  uint64_t input_span() const { return span_; }
  /*! \brief All that the inputs of a tile depend on. */
  InputKey KeyOfInputs(const ChannelBlocks& blocks) const;
  /*! \brief Lists where the inputs of each pixel are, in scratch.pixels, with scratch.sums. */
  void ListPixels(const ChannelBlocks& blocks);

  Unit& unit;
  const isa::Gemm& gemm;
  const isa::Setw& setw;
  const WeightGeometry& geometry;
  const bool is_signed;
  Workspace& workspace;
  GemmScratch& scratch;

 private:
  const uint8_t* Append(isa::Mem mem, uint64_t first, uint64_t words);
  void GatherBases(const uint8_t* ids, uint32_t n);
  void CheckInput(uint64_t tile);
  void CheckInputWords(uint64_t first) const;

  uint64_t tiles_;
  uint64_t span_;
  ChannelBlocks checked_;  // last ones whose inputs were checked
  ByteKey key_;
  std::array<uint32_t, 2> key_filters_ = {};
  std::array<int32_t, kTileFilters> bias_ = {};
};

/*! \brief Sums with zero rows left out, where the weights' form allows it; false if it does not. */
bool RunSparseGemm(GemmTask& task);

}  // namespace sd

#endif  // SD_SIM_GEMM_TASK_H_
