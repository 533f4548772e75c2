// GEMM of weights in SD form, filter by filter and many pixels at a time: a filter's zero rows cost
// nothing.
#include <algorithm>
#include <vector>

#include "gemm_task.h"
#include "kernels.h"

namespace sd {
namespace {

using isa::RowKind;
using isa::WMode;

constexpr uint64_t kLeastPixels = 8;         // fewer leave most lanes of TapsFn unused
constexpr uint64_t kMaxBlocks = 8 << 20;     // bytes of packed inputs that are kept
constexpr uint64_t kMaxPlanes = 4 << 20;     // bytes; what INP can hold and room for padding
constexpr uint64_t kBlockPositions = 384;    // of the sums of one filter, to stay in the L1 cache
constexpr uint64_t kStep = 64;               // positions that the filters of a tile go through
constexpr uint64_t kCachedPixelRows = 4096;  // pixels x rows of three channels, 6 bytes each
constexpr uint64_t kVector = 32;             // bytes that TapsFn reads at once
constexpr uint64_t kAlone = uint64_t{1} << 40;  // stride of an axis with one output

uint64_t RoundUp(uint64_t value, uint64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

/*! \brief Kernel offsets along an axis, split into whole output strides and what is left. */
struct Axis {
  std::vector<uint64_t> phases;    // distinct rests, in INP words
  std::vector<uint32_t> phase_of;  // kernel position -> index of its rest
  std::vector<uint64_t> whole;     // kernel position -> strides
  uint64_t most = 0;               // largest of `whole`

  Axis(uint64_t outputs, uint64_t stride, uint64_t kernel, uint64_t step) {
    if (outputs == 1) stride = kAlone;
    for (uint64_t k = 0; k < kernel; ++k) {
      const uint64_t rest = k * step % stride;
      whole.push_back(k * step / stride);
      most = std::max(most, whole.back());
      const auto it = std::find(phases.begin(), phases.end(), rest);
      phase_of.push_back(static_cast<uint32_t>(it - phases.begin()));
      if (it == phases.end()) phases.push_back(rest);
    }
  }
};

/*! \brief First channel that the filters read, relative to their first channel block. */
uint64_t FirstLane(const GemmTask& task) {
  return task.first_filter(0) / task.setw.mg * uint64_t{task.setw.cg} % 16;
}

/*!
 * \brief Rows of taps along x.
 *
 * Inputs become planes, one a channel and phase: with stride 1 the image as it is, so that a tap is
 * a shift by its offset. Sums of coefficients x inputs are int32, the basis turns them into
 * outputs.
 */
class TapsGemm {
 public:
  static bool Fits(const GemmTask& task) {
    const auto mode = static_cast<WMode>(task.setw.wmode);
    const isa::Gemm& gemm = task.gemm;
    if (mode == WMode::kRaw8 || task.setw.cg == 1 || !task.one_group() ||
        static_cast<RowKind>(task.setw.rowkind) != RowKind::kTaps || task.setw.s > 8 ||
        task.pixels() < kLeastPixels || (gemm.inp_ox == 0 && gemm.n_ox > 1) ||
        (gemm.inp_oy == 0 && gemm.n_oy > 1)) {
      return false;
    }
    if (Chain(task) == 0) return false;
    // Every phase takes a sum of its own; with most rows kept the 16-filter kernel is faster.
    const Axis x(gemm.n_ox, gemm.inp_ox, task.setw.n_kx, task.setw.inp_kx);
    return 4 * x.phases.size() * task.geometry.kept_rows <= 3 * uint64_t{task.geometry.rows};
  }

  explicit TapsGemm(GemmTask& task)
      : task_(task),
        x_(task.gemm.n_ox, task.gemm.inp_ox, task.setw.n_kx, task.setw.inp_kx),
        y_(task.gemm.n_oy, task.gemm.inp_oy, task.setw.n_ky, task.gemm.inp_ky),
        blocks_(task.Blocks(0)),
        pitch_(task.gemm.n_ox + x_.most),
        rows_(task.gemm.n_oy + y_.most),
        plane_(RoundUp(pitch_ * rows_, 16)),
        // An odd number of cache lines: planes do not compete for the same sets.
        channel_(
            (RoundUp(plane_ * x_.phases.size() * y_.phases.size() + 2 * kVector, 64) / 64 | 1) *
            64),
        groups_((task.setw.s + 2) / 3),
        chain_(Chain(task)) {}

  bool fits_scratch() const { return channel_ * blocks_.count * 16 <= kMaxPlanes; }

  void Run() {
    const uint64_t block = std::max<uint64_t>(1, kBlockPositions / pitch_);
    const uint64_t positions = std::min<uint64_t>(block, task_.gemm.n_oy) * pitch_;
    stride_ = RoundUp(positions, kVector) + kVector + RoundUp(x_.most, 8);
    // Sums that no tap touches are read too, into outputs that nobody reads.
    task_.scratch.coefficient_sums.resize(kTileFilters * x_.phases.size() * groups_ * 3 * stride_);
    task_.scratch.filter_sums.resize(kTileFilters * stride_);
    for (uint64_t tile = 0; tile < task_.tiles(); ++tile) {
      const auto weights = task_.Weights(task_.workspace.sparse_weights, tile, ListTaps);
      ListInitialSums(tile, *weights);
      task_.ListSums(tile);
      if (tile == 0) MakePlanes();  // all tiles read the same inputs
      ResolveOffsets(*weights);
      for (uint64_t oy = 0; oy < task_.gemm.n_oy; oy += block) {
        RunBlock(*weights, oy, std::min<uint64_t>(block, task_.gemm.n_oy - oy));
      }
    }
  }

 private:
  /*! \brief Pairs whose products of codes and unsigned bytes add up in int16. */
  static uint64_t Chain(const GemmTask& task) {
    const int largest = LargestCode(task.setw);
    return largest == 0 ? 1 << 20 : 32767 / (2 * 255 * largest);
  }

  /*! \brief Planes [channel][y phase][x phase][row][column]; signed bytes plus 128. */
  void MakePlanes() {
    ListRowOffsets();
    const InputKey key = task_.KeyOfInputs(blocks_);
    if (key == task_.scratch.planes_key) return;
    task_.scratch.planes_key = key;
    std::vector<uint8_t>& planes = task_.scratch.planes;
    const uint64_t size = channel_ * blocks_.count * 16 + kVector;
    if (planes.size() < size) planes.resize(size);
    const uint8_t flip = task_.is_signed ? 0x80 : 0;
    const isa::Gemm& gemm = task_.gemm;
    for (uint64_t block = 0; block < blocks_.count; ++block) {
      const uint64_t first = task_.InputBase(blocks_) + block * gemm.inp_cb;
      const uint8_t* words = task_.unit.memories.Word(isa::Mem::kInp, first);
      uint8_t* to = planes.data() + block * 16 * channel_;
      for (const uint64_t y : y_.phases) {
        for (const uint64_t x : x_.phases) {
          MakePlane(words, y + x, to, flip);
          to += plane_;
        }
      }
    }
  }

  /*! \brief 16 channels of one phase; positions beyond the last input repeat it. */
  void MakePlane(const uint8_t* words, uint64_t phase, uint8_t* to, uint8_t flip) const {
    const TransposeFn transpose = Kernels().transpose;
    const uint64_t last = task_.input_span();
    const uint8_t* sources[16] = {};
    uint64_t at = 0;
    for (uint64_t row = 0; row < rows_; ++row) {
      uint64_t word = phase + row * task_.gemm.inp_oy;
      for (uint64_t column = 0; column < pitch_; ++column, word += task_.gemm.inp_ox) {
        sources[at % 16] = words + std::min(word, last) * 16;
        if (++at % 16 == 0) transpose(sources, to + at - 16, channel_, flip);
      }
    }
    if (at % 16 != 0) {
      for (uint64_t i = at % 16; i < 16; ++i) sources[i] = words;
      transpose(sources, to + at / 16 * 16, channel_, flip);
    }
  }

  /*! \brief Where the inputs of row (channel, ky) start, for output (0, 0) and x phase 0. */
  void ListRowOffsets() {
    std::vector<int32_t>& offsets = task_.scratch.row_offsets;
    offsets.clear();
    const uint64_t lane = FirstLane(task_);
    for (uint64_t c = 0; c < task_.setw.cg; ++c) {
      for (uint64_t ky = 0; ky < task_.setw.n_ky; ++ky) {
        offsets.push_back(static_cast<int32_t>((lane + c) * channel_ +
                                               y_.phase_of[ky] * x_.phases.size() * plane_ +
                                               y_.whole[ky] * pitch_));
      }
    }
  }

  void ResolveOffsets(const SparseTile& weights) {
    std::vector<TapPair>& taps = task_.scratch.taps;
    taps.resize(weights.taps.size());
    const int32_t* offsets = task_.scratch.row_offsets.data();
    for (size_t i = 0; i < taps.size(); ++i) {
      taps[i] = weights.taps[i];
      taps[i].offset[0] = offsets[taps[i].offset[0]];
      taps[i].offset[1] = offsets[taps[i].offset[1]];
    }
  }

  void ListInitialSums(uint64_t tile, const SparseTile& weights) {
    const int32_t* init = task_.InitialSums(tile);
    add_ = init == nullptr;
    for (uint32_t f = 0; f < kTileFilters; ++f) {
      const uint32_t shift =
          task_.is_signed ? 128U * static_cast<uint32_t>(weights.weight_sums[f]) : 0;
      start_[f] =
          static_cast<int32_t>(static_cast<uint32_t>(init == nullptr ? 0 : init[f]) - shift);
    }
  }

  /*! \brief Output rows [oy, oy + rows) of a tile. */
  void RunBlock(const SparseTile& weights, uint64_t oy, uint64_t rows) {
    const uint64_t outputs = RoundUp((rows - 1) * pitch_ + task_.gemm.n_ox, kVector);
    const uint64_t positions = RoundUp((rows - 1) * pitch_ + task_.gemm.n_ox + x_.most, kVector);
    int32_t* to = task_.scratch.filter_sums.data();
    for (uint32_t f = 0; f < kTileFilters; ++f) std::fill_n(to + f * stride_, outputs, start_[f]);
    for (uint32_t slice = 0; slice < task_.geometry.slices; ++slice) {
      SumCoefficients(weights, slice, oy, positions);
      for (uint32_t f = 0; f < kTileFilters; ++f) {
        ApplyBasis(weights, slice, f, to + f * stride_, outputs);
      }
    }
    uint8_t* const* words = task_.scratch.sums.data() + oy * task_.gemm.n_ox;
    for (uint64_t row = 0; row < rows; ++row, words += task_.gemm.n_ox) {
      Kernels().scatter(task_.scratch.filter_sums.data() + row * pitch_, stride_, words,
                        task_.gemm.n_ox, add_);
    }
  }

  /*! \brief Sums [filter][x phase][code] of a tile; the filters share the inputs of a few
   * positions. */
  void SumCoefficients(const SparseTile& weights, uint32_t slice, uint64_t oy, uint64_t positions) {
    const TapsFn taps = Kernels().taps;
    const TapPair* pairs = task_.scratch.taps.data();
    for (uint64_t phase = 0; phase < x_.phases.size(); ++phase) {
      const uint8_t* input = task_.scratch.planes.data() + phase * plane_ + oy * pitch_;
      for (uint64_t p = 0; p < positions; p += kStep) {
        const uint64_t n = std::min(kStep, positions - p);
        for (uint32_t f = 0; f < kTileFilters; ++f) {
          for (uint32_t group = 0; group < groups_; ++group) {
            const size_t segment = (size_t{slice} * groups_ + group) * kTileFilters + f;
            const uint32_t first = weights.starts[segment];
            taps(input + p, pairs + first, weights.starts[segment + 1] - first, chain_,
                 CoefficientSums(f, phase, group) + p, stride_, n);
          }
        }
      }
    }
  }

  int32_t* CoefficientSums(uint64_t f, uint64_t phase, uint64_t group) const {
    const uint64_t plane = (f * x_.phases.size() + phase) * groups_ + group;
    return task_.scratch.coefficient_sums.data() + plane * 3 * stride_;
  }

  /*! \brief to += sum over codes k and taps t of basis[k][t] x coefficient sums of k, shifted by t.
   */
  void ApplyBasis(const SparseTile& weights, uint32_t slice, uint32_t f, int32_t* to,
                  uint64_t outputs) const {
    const uint32_t s = task_.setw.s;
    const int8_t* basis =
        weights.bases.data() + (size_t{f} * task_.geometry.slices + slice) * s * s;
    Term terms[64];
    size_t n = 0;
    for (uint32_t k = 0; k < s; ++k) {
      for (uint32_t t = 0; t < s; ++t) {
        terms[n].from = CoefficientSums(f, x_.phase_of[t], k / 3) + k % 3 * stride_ + x_.whole[t];
        terms[n++].factor = basis[k * s + t];
      }
    }
    Kernels().transform(to, terms, n, outputs);
  }

  GemmTask& task_;
  const Axis x_;
  const Axis y_;
  const ChannelBlocks blocks_;
  const uint64_t pitch_;    // columns of a plane
  const uint64_t rows_;     // of a plane
  const uint64_t plane_;    // bytes
  const uint64_t channel_;  // bytes of a channel's planes
  const uint32_t groups_;   // of three codes
  const uint64_t chain_;
  uint64_t stride_ = 0;  // between sums
  bool add_ = false;
  int32_t start_[kTileFilters] = {};
};

/*! \brief Rows of three channels of a 1x1 kernel: blocks of pixels, weights as they are. */
class TriplesGemm {
 public:
  static bool Fits(const GemmTask& task) {
    const auto mode = static_cast<WMode>(task.setw.wmode);
    if (mode == WMode::kRaw8 || mode == WMode::kDense || task.setw.cg == 1 || !task.one_group() ||
        static_cast<RowKind>(task.setw.rowkind) != RowKind::kChannels || task.setw.s != 3 ||
        task.geometry.taps != task.setw.cg || LargestCode(task.setw) * 3 * 128 > INT16_MAX) {
      return false;
    }
    // A shared pattern saves nothing in the 16-filter kernel either, if it keeps most rows.
    return mode != WMode::kShared || 4 * task.geometry.kept_rows <= 3 * task.geometry.rows;
  }

  explicit TriplesGemm(GemmTask& task) : task_(task), blocks_(task.Blocks(0)) {}

  void Run() {
    const uint64_t pixels = task_.pixels();
    const uint64_t tiles = task_.tiles();
    std::vector<int32_t>& sums = task_.scratch.filter_sums;
    sums.resize(tiles * kTileFilters * kBlockPixels);
    ListTiles();
    const uint64_t rows = task_.geometry.rows;
    const uint64_t chunks = (rows + kChunkRows - 1) / kChunkRows;
    const InputKey key = task_.KeyOfInputs(blocks_);
    const bool packed = key == task_.scratch.blocks_key;
    const bool keep = (pixels + kBlockPixels) * rows <= kMaxBlocks / 6;
    if (!packed) {
      const uint64_t planes = std::max((FirstLane(task_) + 3 * rows), blocks_.count * 16);
      Grow(&task_.scratch.block_planes, planes * kBlockPixels);
      const uint64_t blocks = keep ? RoundUp(pixels, kBlockPixels) / kBlockPixels : 1;
      Grow(&task_.scratch.blocks, blocks * rows * kTripleBytes);
      task_.scratch.blocks_key = keep ? key : InputKey();
    }
    for (uint64_t first = 0; first < pixels; first += kBlockPixels) {
      const uint64_t n = std::min<uint64_t>(kBlockPixels, pixels - first);
      const uint64_t padded = n <= 8 ? 8 : RoundUp(n, 16);
      uint8_t* block = task_.scratch.blocks.data();
      if (keep) block += first / kBlockPixels * rows * kTripleBytes;
      if (!packed) Pack(first, n, rows, block);
      // As many rows at once as the cache holds; their inputs serve all filters.
      const uint64_t step = std::max<uint64_t>(1, kCachedPixelRows / (padded * kChunkRows));
      for (uint64_t chunk = 0; chunk < chunks; chunk += step) {
        const uint64_t end = std::min(chunks, chunk + step);
        for (uint64_t tile = 0; tile < tiles; ++tile) SumChunks(block, tile, chunk, end, padded);
      }
      for (uint64_t tile = 0; tile < tiles; ++tile) {
        Kernels().scatter(sums.data() + tile * kTileFilters * kBlockPixels, kBlockPixels,
                          words_.data() + tile * pixels + first, n, add_);
      }
    }
  }

 private:
  static void Grow(std::vector<uint8_t>* buffer, uint64_t bytes) {
    if (buffer->size() < bytes) buffer->resize(bytes);
  }

  void ListTiles() {
    for (uint64_t tile = 0; tile < task_.tiles(); ++tile) {
      weights_.push_back(task_.Weights(task_.workspace.sparse_weights, tile, ListTriples));
      const int32_t* init = task_.InitialSums(tile);
      add_ = init == nullptr;
      for (uint32_t f = 0; f < kTileFilters; ++f) start_.push_back(init == nullptr ? 0 : init[f]);
      task_.ListSums(tile);
      words_.insert(words_.end(), task_.scratch.sums.begin(), task_.scratch.sums.end());
    }
  }

  /*! \brief Inputs of n pixels from `first` on, as the kernel reads them. */
  void Pack(uint64_t first, uint64_t n, uint64_t rows, uint8_t* to) {
    const isa::Gemm& gemm = task_.gemm;
    uint64_t offset[kBlockPixels] = {};  // of a pixel, bytes; those beyond n repeat the first word
    for (uint64_t p = 0; p < n; ++p) {
      const uint64_t oy = (first + p) / gemm.n_ox;
      const uint64_t ox = (first + p) % gemm.n_ox;
      offset[p] = (oy * gemm.inp_oy + ox * gemm.inp_ox) * 16;
    }
    uint8_t* planes = task_.scratch.block_planes.data();
    for (uint64_t block = 0; block < blocks_.count; ++block) {
      const uint64_t word = task_.InputBase(blocks_) + block * gemm.inp_cb;
      const uint8_t* words = task_.unit.memories.Word(isa::Mem::kInp, word);
      for (uint64_t p = 0; p < n; p += 16) {
        const uint8_t* sources[16];
        for (uint64_t i = 0; i < 16; ++i) sources[i] = words + offset[p + i];
        Kernels().transpose(sources, planes + block * 16 * kBlockPixels + p, kBlockPixels, 0);
      }
    }
    Kernels().pack_triples(planes + FirstLane(task_) * kBlockPixels, rows, task_.is_signed, to);
  }

  void SumChunks(const uint8_t* block, uint64_t tile, uint64_t chunk, uint64_t end,
                 uint64_t pixels) {
    const TriplesFn triples = Kernels().triples;
    const SparseTile& weights = *weights_[tile];
    const uint64_t chunks = weights.starts.size() / kTileFilters;
    const uint64_t filter = tile * kTileFilters;
    int32_t* sums = task_.scratch.filter_sums.data() + filter * kBlockPixels;
    for (uint64_t f = 0; f < kTileFilters; ++f, sums += kBlockPixels) {
      // Segments of one chunk are far from each other.
      const size_t ahead =
          weights.starts[std::min<uint64_t>(f + 2, kTileFilters - 1) * chunks + chunk];
      for (size_t i = ahead; i < std::min(ahead + 9, weights.triples.size()); i += 3) {
        __builtin_prefetch(&weights.triples[i]);
      }
      const uint32_t first = weights.starts[f * chunks + chunk];
      const uint32_t last = weights.starts[f * chunks + end];
      triples(block, weights.triples.data() + first, last - first, sums, pixels,
              chunk == 0 ? &start_[filter + f] : nullptr);
    }
  }

  GemmTask& task_;
  const ChannelBlocks blocks_;
  std::vector<std::shared_ptr<const SparseTile>> weights_;
  std::vector<int32_t> start_;   // of each filter's sums
  std::vector<uint8_t*> words_;  // ACC words [tile][pixel]
  bool add_ = false;
};

}  // namespace

bool RunSparseGemm(GemmTask& task) {
  if (TapsGemm::Fits(task)) {
    TapsGemm gemm(task);
    if (gemm.fits_scratch()) {
      gemm.Run();
      return true;
    }
  }
  if (!TriplesGemm::Fits(task)) return false;
  TriplesGemm(task).Run();
  return true;
}

}  // namespace sd
