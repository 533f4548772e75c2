#include "rebuild.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <optional>
#include <string>

#include "error.h"

namespace sd {
namespace {

using isa::WMode;

constexpr uint32_t kFilters = 16;
constexpr uint32_t kLanes = 16;
constexpr uint64_t kMaxPositions = 65536;  // distinct INP words that one pixel can read

/*! \brief int32 weights [position][lane][filter] while they are put together. */
class Builder {
 public:
  Builder(const PackedBlock& block, const Site& site)
      : block_(block), setw_(*block.setw), site_(site) {
    const ChannelBlocks blocks = BlocksOf(setw_, block.first_filter, block.n_filters, site);
    first_block_ = blocks.first;
    n_blocks_ = blocks.count;
    const uint64_t positions = n_blocks_ * setw_.n_ky * setw_.n_kx;
    for (size_t i = 0; i < table_.size(); ++i) table_[i] = DecodeCode(setw_.code[i], site);
    dense_.resize(positions * kLanes * kFilters);
  }

  BlockWeights Build() {
    std::optional<KeptRows> kept;
    if (static_cast<WMode>(setw_.wmode) != WMode::kRaw8) kept.emplace(block_, site_);
    for (uint32_t f = 0; f < block_.n_filters; ++f) {
      const uint32_t group = (block_.first_filter + f) / setw_.mg;
      SetChannelBase(group * uint64_t{setw_.cg} - first_block_ * kLanes);
      if (kept) {
        AddCoded(*kept, f);
      } else {
        AddRaw(f);
      }
    }
    return Compact();
  }

 private:
  /*! \brief Index into dense_ of a tap, filter 0. */
  size_t Place(uint64_t channel, uint64_t ky, uint64_t kx) const {
    const uint64_t c = base_ + channel;
    const uint64_t position = (c / kLanes * setw_.n_ky + ky) * setw_.n_kx + kx;
    return (position * kLanes + c % kLanes) * kFilters;
  }

  /*! \brief Computes where every element of a filter goes, given the lane its channels start at. */
  void SetChannelBase(uint64_t base) {
    if (!places_.empty() && base == base_) return;
    base_ = base;
    places_.clear();
    const uint64_t ny = setw_.n_ky;
    const uint64_t nx = setw_.n_kx;
    if (static_cast<WMode>(setw_.wmode) == WMode::kRaw8 ||
        static_cast<isa::RowKind>(setw_.rowkind) == isa::RowKind::kTaps) {
      // (c, ky, kx) is the order of raw weights and of the elements of tap rows.
      for (uint64_t c = 0; c < setw_.cg; ++c) {
        for (uint64_t ky = 0; ky < ny; ++ky) {
          for (uint64_t kx = 0; kx < nx; ++kx) places_.push_back(Place(c, ky, kx));
        }
      }
      return;
    }
    for (uint64_t c = 0; c < setw_.cg; c += setw_.s) {
      for (uint64_t tap = 0; tap < ny * nx; ++tap) {
        for (uint64_t t = 0; t < setw_.s; ++t) {
          places_.push_back(c + t < setw_.cg ? Place(c + t, tap / nx, tap % nx) : kNowhere);
        }
      }
    }
  }

  void AddRaw(uint32_t filter) {
    for (size_t k = 0; k < places_.size(); ++k) {
      dense_[places_[k] + filter] = static_cast<int8_t>(block_.codes[k * kFilters + filter]);
    }
  }

  void AddCoded(const KeptRows& kept, uint32_t filter) {
    kept.ForEach(filter, [&](uint32_t row, const uint8_t* codes) {
      const int8_t* basis = kept.BasisOf(filter, kept.SliceOf(row));
      // S = 3 is every 3-wide and every 1x1 layer.
      if (setw_.s == 3) {
        AddRowOf<3>(filter, row, codes, basis, 3);
      } else {
        AddRowOf<16>(filter, row, codes, basis, setw_.s);
      }
    });
  }

  template <uint32_t kMax>
  void AddRowOf(uint32_t filter, uint32_t row, const uint8_t* codes, const int8_t* basis,
                uint32_t order) {
    const uint32_t s = kMax == 3 ? 3 : order;
    std::array<int32_t, kMax> sums{};
    for (uint32_t k = 0; k < s; ++k) {
      const int32_t code = table_[codes[k]];
      for (uint32_t t = 0; t < s; ++t) sums[t] += code * basis[k * s + t];
    }
    const size_t* places = places_.data() + size_t{row} * s;
    for (uint32_t t = 0; t < s; ++t) {
      if (places[t] != kNowhere) dense_[places[t] + filter] += sums[t];
    }
  }

  BlockWeights Compact() const {
    BlockWeights out;
    out.first_block = static_cast<uint32_t>(first_block_);
    out.n_blocks = static_cast<uint32_t>(n_blocks_);
    int32_t largest = 0;
    for (const int32_t w : dense_) largest = std::max(largest, std::abs(w));
    if (largest > INT16_MAX) {
      FillWide(&out);
    } else if (setw_.mg == 1 && setw_.cg == 1) {
      FillLanes(&out);
    } else {
      FillPairs(&out);
    }
    return out;
  }

  void FillWide(BlockWeights* out) const {
    out->kind = BlockWeights::Kind::kWide;
    for (size_t entry = 0; entry * kFilters < dense_.size(); ++entry) {
      const int32_t* w = dense_.data() + entry * kFilters;
      if (std::all_of(w, w + kFilters, [](int32_t v) { return v == 0; })) continue;
      out->entries.push_back(static_cast<uint32_t>(entry));
      out->wide.insert(out->wide.end(), w, w + kFilters);
    }
  }

  // Filter f reads channel f alone: the diagonal of [lane][filter].
  void FillLanes(BlockWeights* out) const {
    out->kind = BlockWeights::Kind::kLanes;
    for (size_t position = 0; position * kLanes * kFilters < dense_.size(); ++position) {
      const int32_t* w = dense_.data() + position * kLanes * kFilters;
      out->entries.push_back(static_cast<uint32_t>(position * kLanes));
      for (size_t f = 0; f < kFilters; ++f) {
        out->narrow.push_back(static_cast<int16_t>(w[f * kFilters + f]));
      }
    }
  }

  void FillPairs(BlockWeights* out) const {
    out->kind = BlockWeights::Kind::kPairs;
    constexpr size_t kPair = 2 * kFilters;
    const size_t pairs = dense_.size() / kPair;
    out->entries.reserve(pairs);
    out->narrow.resize(pairs * kPair);
    int16_t* to = out->narrow.data();
    for (size_t pair = 0; pair < pairs; ++pair) {
      const int32_t* w = dense_.data() + pair * kPair;
      int32_t any = 0;
      for (size_t i = 0; i < kPair; ++i) any |= w[i];
      if (any == 0) continue;
      out->entries.push_back(static_cast<uint32_t>(2 * pair));
      for (size_t f = 0; f < kFilters; ++f) {
        to[2 * f] = static_cast<int16_t>(w[f]);
        to[2 * f + 1] = static_cast<int16_t>(w[kFilters + f]);
      }
      to += kPair;
    }
    out->narrow.resize(out->entries.size() * kPair);
    out->narrow.shrink_to_fit();
  }

  static constexpr size_t kNowhere = SIZE_MAX;

  const PackedBlock& block_;
  const isa::Setw& setw_;
  const Site site_;
  std::array<int32_t, 16> table_{};
  uint64_t first_block_ = 0;
  uint64_t n_blocks_ = 0;
  uint64_t base_ = 0;
  std::vector<size_t> places_;  // of element t of row r, filter 0
  std::vector<int32_t> dense_;
};

}  // namespace

ChannelBlocks BlocksOf(const isa::Setw& setw, uint64_t first_filter, uint64_t n_filters,
                       const Site& site) {
  const uint64_t last_filter = first_filter + n_filters - 1;
  const uint64_t first_channel = first_filter / setw.mg * uint64_t{setw.cg};
  const uint64_t last_channel = last_filter / setw.mg * uint64_t{setw.cg} + setw.cg - 1;
  ChannelBlocks blocks;
  blocks.first = first_channel / kLanes;
  blocks.count = last_channel / kLanes - blocks.first + 1;
  const uint64_t positions = blocks.count * setw.n_ky * setw.n_kx;
  if (positions > kMaxPositions) {
    throw ProgramError(site.text() + ": 16 filters read " + std::to_string(positions) +
                       " input words a pixel. Expected: at most " + std::to_string(kMaxPositions) +
                       ".");
  }
  return blocks;
}

BlockWeights Rebuild(const PackedBlock& block, const Site& site) {
  return Builder(block, site).Build();
}

}  // namespace sd
