// GEMM: rebuilds the weights of 16 filters at a time and multiplies them with every pixel.
#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "kernels.h"
#include "rebuild.h"
#include "unit.h"
#include "weight_cache.h"

namespace sd {
namespace {

using isa::AccInit;
using isa::BasisKind;
using isa::Mem;
using isa::WMode;

constexpr uint32_t kTile = 16;
constexpr uint64_t kInpAddresses = 1U << 16;

/*! \brief One GEMM instruction in execution. */
class Gemm {
 public:
  Gemm(Unit& unit, const isa::Gemm& gemm, WeightCache& cache, bool is_signed)
      : unit_(unit),
        gemm_(gemm),
        setw_(*unit.event.setw),
        geometry_(*unit.event.geometry),
        cache_(cache),
        signed_(is_signed) {}

  void Run() {
    const uint64_t tiles = (gemm_.n_m + kTile - 1) / kTile;
    const uint64_t last = gemm_.acc + (tiles - 1) * gemm_.acc_mb +
                          (gemm_.n_oy - 1) * uint64_t{gemm_.acc_oy} + gemm_.n_ox - 1;
    unit_.CheckWords(Mem::kAcc, gemm_.acc, last);
    pixels_.resize(size_t{gemm_.n_oy} * gemm_.n_ox);
    uint64_t input_words = 0;
    for (uint64_t tile = 0; tile < tiles; ++tile) {
      const uint32_t n = std::min<uint32_t>(kTile, gemm_.n_m - static_cast<uint32_t>(tile) * kTile);
      const auto weights = Weights(tile, n);
      InitialiseSums(tile, n);
      Multiply(*weights);
      input_words = std::max<uint64_t>(input_words, weights->n_blocks);
    }
    Count(tiles, input_words);
  }

 private:
  std::shared_ptr<const BlockWeights> Weights(uint64_t tile, uint32_t n) {
    PackedBlock block;
    block.setw = &setw_;
    block.geometry = &geometry_;
    block.first_filter = gemm_.m_base + static_cast<uint32_t>(tile) * kTile;
    block.n_filters = n;
    std::string key(reinterpret_cast<const char*>(&setw_), sizeof(setw_));
    key.append(reinterpret_cast<const char*>(&block.first_filter), sizeof(block.first_filter));
    key.append(reinterpret_cast<const char*>(&n), sizeof(n));
    const auto append = [&](Mem mem, uint64_t first, uint64_t words) {
      if (words == 0) return static_cast<const uint8_t*>(nullptr);
      const uint8_t* bytes = unit_.Read(mem, first, words);
      const uint64_t size = words * Memories::word_bytes(mem);
      key.append(reinterpret_cast<const char*>(bytes), size);
      unit_.counts.read[static_cast<int>(mem)] += size;
      return bytes;
    };
    if (static_cast<WMode>(setw_.wmode) == WMode::kRaw8) {
      block.codes = append(Mem::kCode, gemm_.code + tile * geometry_.taps, geometry_.taps);
    } else {
      const uint64_t octet = uint64_t{geometry_.slots / 4} * geometry_.planes;
      block.codes = append(Mem::kCode, gemm_.code + 2 * tile * octet, (n + 7) / 8 * octet);
      if (static_cast<BasisKind>(setw_.basis_kind) == BasisKind::kSlice) {
        const uint64_t words = uint64_t{geometry_.slices} * geometry_.basis_words;
        block.basis = append(Mem::kBasis, gemm_.basis + tile * kTile * words, n * words);
      } else {
        GatherBases(append(Mem::kIdx, gemm_.ids + tile, 1), n);
        block.basis = gathered_.data();
        key.append(reinterpret_cast<const char*>(gathered_.data()), gathered_.size());
      }
      if (static_cast<WMode>(setw_.wmode) == WMode::kShared) {
        const uint64_t first = gemm_.m_base / kTile / setw_.group_tiles;
        const uint64_t group = (gemm_.m_base / kTile + tile) / setw_.group_tiles - first;
        block.bitmap =
            append(Mem::kIdx, gemm_.idx + group * geometry_.bitmap_words, geometry_.bitmap_words);
      }
    }
    if (auto found = cache_.Find(key)) return found;
    return cache_.Add(key, Rebuild(block, unit_.site()));
  }

  /*! \brief Copies the basis of each of n filters, named by its id, next to each other. */
  void GatherBases(const uint8_t* ids, uint32_t n) {
    const uint64_t words = geometry_.basis_words;
    gathered_.clear();
    for (uint32_t f = 0; f < n; ++f) {
      const uint8_t* basis = unit_.Read(Mem::kBasis, gemm_.basis + ids[f] * words, words);
      gathered_.insert(gathered_.end(), basis, basis + words * 16);
    }
    unit_.counts.read[static_cast<int>(Mem::kBasis)] += gathered_.size();
  }

  void InitialiseSums(uint64_t tile, uint32_t n) {
    const auto init = static_cast<AccInit>(gemm_.acc_init);
    int32_t bias[kTile] = {};
    if (init == AccInit::kBias) {
      const uint8_t* words = unit_.Read(Mem::kQp, gemm_.qp + tile * kTile, n);
      for (uint32_t f = 0; f < n; ++f) std::memcpy(&bias[f], words + 16 * f, 4);
      unit_.counts.read[static_cast<int>(Mem::kQp)] += 16 * n;
    }
    Pixel* pixel = pixels_.data();
    for (uint64_t oy = 0; oy < gemm_.n_oy; ++oy) {
      const uint64_t row = gemm_.acc + tile * gemm_.acc_mb + oy * gemm_.acc_oy;
      if (init == AccInit::kKeep) {
        unit_.Read(Mem::kAcc, row, gemm_.n_ox);
      } else {
        unit_.memories.MarkWritten(Mem::kAcc, row, gemm_.n_ox);
      }
      for (uint64_t ox = 0; ox < gemm_.n_ox; ++ox, ++pixel) {
        pixel->acc = unit_.memories.Word(Mem::kAcc, row + ox);
        if (init != AccInit::kKeep) std::memcpy(pixel->acc, bias, sizeof(bias));
      }
    }
  }

  void Multiply(const BlockWeights& weights) {
    const size_t n = weights.entries.size();
    if (n == 0) return;
    // Addresses are modulo 2^16: the instruction names channel block 0 even if the tile's first
    // block is the first one on chip.
    const uint64_t base =
        (gemm_.inp + uint64_t{weights.first_block} * gemm_.inp_cb) % kInpAddresses;
    const uint64_t last_x =
        (gemm_.n_ox - 1) * uint64_t{gemm_.inp_ox} + (setw_.n_kx - 1) * uint64_t{setw_.inp_kx};
    const uint64_t last_y =
        (gemm_.n_oy - 1) * uint64_t{gemm_.inp_oy} + (setw_.n_ky - 1) * uint64_t{gemm_.inp_ky};
    const uint64_t last_block = (weights.n_blocks - 1) * uint64_t{gemm_.inp_cb};
    unit_.CheckWords(Mem::kInp, base, base + last_block + last_y + last_x);
    for (uint64_t block = 0; block < weights.n_blocks; ++block) {
      const uint64_t first = base + block * gemm_.inp_cb;
      CheckInput(first, last_y + last_x);
      input_ = unit_.memories.WidenedInput(first, first + last_y + last_x, signed_);
    }
    Pixel* pixel = pixels_.data();
    for (uint64_t oy = 0; oy < gemm_.n_oy; ++oy) {
      const int16_t* row = input_ + (base + oy * gemm_.inp_oy) * kTile;
      for (uint64_t ox = 0; ox < gemm_.n_ox; ++ox, ++pixel) {
        pixel->input = row + ox * gemm_.inp_ox * kTile;
      }
    }
    offsets_.resize(n);
    for (size_t i = 0; i < n; ++i) {
      const uint32_t lane = weights.entries[i] % kTile;
      const uint32_t position = weights.entries[i] / kTile;
      const uint32_t kx = position % setw_.n_kx;
      const uint32_t ky = position / setw_.n_kx % setw_.n_ky;
      const uint32_t block = position / setw_.n_kx / setw_.n_ky;
      offsets_[i] = static_cast<int32_t>(
          (block * gemm_.inp_cb + ky * gemm_.inp_ky + kx * setw_.inp_kx) * kTile + lane);
    }
    switch (weights.kind) {
      case BlockWeights::Kind::kPairs:
        Kernels().pairs(pixels_.data(), pixels_.size(), offsets_.data(), weights.narrow.data(), n);
        break;
      case BlockWeights::Kind::kLanes:
        Kernels().lanes(pixels_.data(), pixels_.size(), offsets_.data(), weights.narrow.data(), n);
        break;
      case BlockWeights::Kind::kWide:
        WidePixels(pixels_.data(), pixels_.size(), offsets_.data(), weights.wide.data(), n);
        break;
    }
  }

  /*! \brief Every word of one channel block that the instruction reads was written. */
  void CheckInput(uint64_t first, uint64_t span) const {
    if (unit_.memories.FirstUnwritten(Mem::kInp, first, span + 1) < 0) return;
    for (uint64_t oy = 0; oy < gemm_.n_oy; ++oy) {
      for (uint64_t ky = 0; ky < setw_.n_ky; ++ky) {
        const uint64_t row = first + oy * gemm_.inp_oy + ky * gemm_.inp_ky;
        for (uint64_t kx = 0; kx < setw_.n_kx; ++kx) {
          for (uint64_t ox = 0; ox < gemm_.n_ox; ++ox) {
            unit_.CheckWritten(Mem::kInp, row + kx * setw_.inp_kx + ox * gemm_.inp_ox);
          }
        }
      }
    }
  }

  void Count(uint64_t tiles, uint64_t blocks) const {
    Counts& counts = unit_.counts;
    const uint64_t pixels = pixels_.size();
    counts.macs_dense += pixels * gemm_.n_m * geometry_.taps;
    if (static_cast<WMode>(setw_.wmode) == WMode::kRaw8) {
      counts.macs += pixels * gemm_.n_m * geometry_.taps;
    } else {
      const uint64_t row_macs = uint64_t{geometry_.kept_rows} * setw_.s;
      counts.macs += pixels * gemm_.n_m * std::min<uint64_t>(row_macs, geometry_.taps);
      uint64_t terms = 1;
      for (const uint32_t entry : setw_.code) {
        if (entry != 0x07 && (entry & 8) != 0) terms = 2;
      }
      counts.kept_rows += uint64_t{gemm_.n_m} * geometry_.kept_rows;
      counts.shift_adds += gemm_.n_m * row_macs * setw_.s * terms;
    }
    counts.read[static_cast<int>(Mem::kInp)] +=
        pixels * blocks * setw_.n_ky * setw_.n_kx * Memories::word_bytes(Mem::kInp);
    const uint64_t sums = tiles * pixels * Memories::word_bytes(Mem::kAcc);
    counts.write[static_cast<int>(Mem::kAcc)] += sums;
    if (static_cast<AccInit>(gemm_.acc_init) == AccInit::kKeep) {
      counts.read[static_cast<int>(Mem::kAcc)] += sums;
    }
  }

  Unit& unit_;
  const isa::Gemm& gemm_;
  const isa::Setw& setw_;
  const WeightGeometry& geometry_;
  WeightCache& cache_;
  bool signed_;
  const int16_t* input_ = nullptr;
  std::vector<Pixel> pixels_;
  std::vector<int32_t> offsets_;
  std::vector<uint8_t> gathered_;
};

}  // namespace

void ExecuteGemm(Unit& unit, const isa::Gemm& gemm, WeightCache& cache, bool is_signed) {
  Gemm(unit, gemm, cache, is_signed).Run();
}

}  // namespace sd
