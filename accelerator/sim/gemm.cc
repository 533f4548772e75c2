// GEMM: how the sums are computed depends on the weights' form, what they are does not.
#include <algorithm>
#include <cstring>
#include <vector>

#include "gemm_task.h"
#include "kernels.h"

namespace sd {
namespace {

using isa::AccInit;
using isa::Mem;
using isa::WMode;

/*! \brief Offsets of the inputs that entries multiply, from a pixel's first word. */
void ListOffsets(GemmTask& task, const BlockWeights& weights) {
  const size_t n = weights.entries.size();
  task.scratch.offsets.resize(n);
  uint32_t held = UINT32_MAX;
  uint64_t words = 0;
  for (size_t i = 0; i < n; ++i) {
    const uint32_t position = weights.entries[i] / 16;
    if (position != held) {
      held = position;
      const uint32_t kx = position % task.setw.n_kx;
      const uint32_t ky = position / task.setw.n_kx % task.setw.n_ky;
      const uint32_t block = position / task.setw.n_kx / task.setw.n_ky;
      words = uint64_t{block} * task.gemm.inp_cb + uint64_t{ky} * task.gemm.inp_ky +
              uint64_t{kx} * task.setw.inp_kx;
    }
    task.scratch.offsets[i] = static_cast<int32_t>(words * 16 + weights.entries[i] % 16);
  }
}

void Multiply(const GemmTask& task, const BlockWeights& weights, const Pixel* pixels,
              size_t n_pixels, const int32_t* init) {
  const int32_t* offsets = task.scratch.offsets.data();
  const size_t n = weights.entries.size();
  switch (weights.kind) {
    case BlockWeights::Kind::kPairs:
      Kernels().pairs(pixels, n_pixels, offsets, weights.narrow.data(), n, init);
      break;
    case BlockWeights::Kind::kLanes:
      Kernels().lanes(pixels, n_pixels, offsets, weights.narrow.data(), n, init);
      break;
    case BlockWeights::Kind::kWide:
      WidePixels(pixels, n_pixels, offsets, weights.wide.data(), n, init);
      break;
  }
}

/*! \brief Any form: weights as the kernels want them, zero inputs of all 16 filters left out. */
void RunTile(GemmTask& task, uint64_t tile) {
  const auto weights = task.Weights(task.workspace.dense_weights, tile, Rebuild);
  const int32_t* init = task.InitialSums(tile);
  task.ListSums(tile);
  task.ListPixels({weights->first_block, weights->n_blocks});
  ListOffsets(task, *weights);
  Multiply(task, *weights, task.scratch.pixels.data(), task.scratch.pixels.size(), init);
}

/*!
 * \brief Sums that share ACC words: all start first, then pixel after pixel adds to its own.
 *
 * No compiler writes that; it only has to mean the same whatever the kernels are.
 */
void RunOverlapping(GemmTask& task) {
  for (uint64_t tile = 0; tile < task.tiles(); ++tile) {
    const auto weights = task.Weights(task.workspace.dense_weights, tile, Rebuild);
    const int32_t* init = task.InitialSums(tile);
    task.ListSums(tile);
    if (init != nullptr) {
      for (uint8_t* word : task.scratch.sums) std::memcpy(word, init, 64);
    }
    task.ListPixels({weights->first_block, weights->n_blocks});
    ListOffsets(task, *weights);
    for (const Pixel& pixel : task.scratch.pixels) Multiply(task, *weights, &pixel, 1, nullptr);
  }
}

/*! \brief Raw weights of one channel group that starts at lane 0 of a block. */
class RawGemm {
 public:
  static bool Fits(const GemmTask& task) {
    return static_cast<WMode>(task.setw.wmode) == WMode::kRaw8 && task.one_group() &&
           task.setw.cg > 1 &&
           task.first_filter(0) / task.setw.mg * uint64_t{task.setw.cg} % 16 == 0;
  }

  explicit RawGemm(GemmTask& task) : task_(task), taps_(task.setw.n_ky * task.setw.n_kx) {
    const uint64_t pairs = (uint64_t{task.setw.cg} + 1) / 2;
    std::vector<int32_t>& offsets = task_.scratch.offsets;
    offsets.clear();
    // Pairs in the order of their inputs: block, tap, lane.
    for (uint64_t first = 0; first < pairs; first += 8) {
      for (uint64_t ky = 0; ky < task.setw.n_ky; ++ky) {
        for (uint64_t kx = 0; kx < task.setw.n_kx; ++kx) {
          const uint64_t word = first / 8 * task.gemm.inp_cb + ky * uint64_t{task.gemm.inp_ky} +
                                kx * uint64_t{task.setw.inp_kx};
          for (uint64_t pair = first; pair < std::min(first + 8, pairs); ++pair) {
            offsets.push_back(static_cast<int32_t>(word * 16 + 2 * (pair - first)));
          }
        }
      }
    }
    task_.scratch.weights.resize(offsets.size() * 32);
  }

  void Run() {
    const ChannelBlocks blocks = task_.Blocks(0);
    for (uint64_t tile = 0; tile < task_.tiles(); ++tile) {
      Pack(task_.Operands(tile).codes, task_.filters(tile));
      const int32_t* init = task_.InitialSums(tile);
      task_.ListSums(tile);
      task_.ListPixels(blocks);
      const GemmScratch& s = task_.scratch;
      Kernels().pairs(s.pixels.data(), s.pixels.size(), s.offsets.data(), s.weights.data(),
                      s.offsets.size(), init);
    }
  }

 private:
  /*! \brief Rows of 16 filters (c, ky, kx) to pairs of channels in the order of the offsets. */
  void Pack(const uint8_t* codes, uint32_t filters) {
    static constexpr uint8_t kZeros[16] = {};
    const PackPairFn pack = Kernels().pack_pair;
    const uint64_t channels = task_.setw.cg;
    int16_t* to = task_.scratch.weights.data();
    for (uint64_t first = 0; first < channels; first += 16) {
      const uint64_t last = std::min(first + 16, channels);
      for (uint64_t tap = 0; tap < taps_; ++tap) {
        for (uint64_t c = first; c < last; c += 2, to += 32) {
          const uint8_t* row = codes + (c * taps_ + tap) * 16;
          pack(row, c + 1 < channels ? row + taps_ * 16 : kZeros, to);
          // Lanes beyond the last filter hold anything.
          std::fill(to + 2 * filters, to + 32, int16_t{0});
        }
      }
    }
  }

  GemmTask& task_;
  const uint64_t taps_;
};

void Count(const GemmTask& task) {
  const isa::Gemm& gemm = task.gemm;
  const WeightGeometry& geometry = task.geometry;
  Counts& counts = task.unit.counts;
  const uint64_t pixels = task.pixels();
  uint64_t blocks = 0;
  for (uint64_t tile = 0; tile < task.tiles(); ++tile) {
    blocks = std::max(blocks, task.Blocks(tile).count);
  }
  counts.macs_dense += pixels * gemm.n_m * geometry.taps;
  if (static_cast<WMode>(task.setw.wmode) == WMode::kRaw8) {
    counts.macs += pixels * gemm.n_m * geometry.taps;
  } else {
    const uint64_t row_macs = uint64_t{geometry.kept_rows} * task.setw.s;
    counts.macs += pixels * gemm.n_m * std::min<uint64_t>(row_macs, geometry.taps);
    uint64_t terms = 1;
    for (const uint32_t entry : task.setw.code) {
      if (entry != 0x07 && (entry & 8) != 0) terms = 2;
    }
    counts.kept_rows += uint64_t{gemm.n_m} * geometry.kept_rows;
    counts.shift_adds += gemm.n_m * row_macs * task.setw.s * terms;
  }
  counts.read[static_cast<int>(Mem::kInp)] +=
      pixels * blocks * task.setw.n_ky * task.setw.n_kx * Memories::word_bytes(Mem::kInp);
  const uint64_t sums = task.tiles() * pixels * Memories::word_bytes(Mem::kAcc);
  counts.write[static_cast<int>(Mem::kAcc)] += sums;
  if (static_cast<AccInit>(gemm.acc_init) == AccInit::kKeep) {
    counts.read[static_cast<int>(Mem::kAcc)] += sums;
  }
}

}  // namespace

void ExecuteGemm(Unit& unit, const isa::Gemm& gemm, Workspace& workspace, bool is_signed) {
  GemmTask task(unit, gemm, workspace, is_signed);
  if (task.sums_overlap()) {
    RunOverlapping(task);
  } else if (RawGemm::Fits(task)) {
    RawGemm(task).Run();
  } else if (!RunSparseGemm(task)) {
    for (uint64_t tile = 0; tile < task.tiles(); ++tile) RunTile(task, tile);
  }
  Count(task);
}

}  // namespace sd
