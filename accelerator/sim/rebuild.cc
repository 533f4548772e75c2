#include "rebuild.h"

#include <algorithm>
#include <array>
#include <cstdlib>
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
      : block_(block), setw_(*block.setw), geometry_(*block.geometry), site_(site) {
    const uint64_t last_filter = block.first_filter + block.n_filters - 1;
    const uint64_t first_channel = block.first_filter / setw_.mg * uint64_t{setw_.cg};
    const uint64_t last_channel = last_filter / setw_.mg * uint64_t{setw_.cg} + setw_.cg - 1;
    first_block_ = first_channel / kLanes;
    n_blocks_ = last_channel / kLanes - first_block_ + 1;
    const uint64_t positions = n_blocks_ * setw_.n_ky * setw_.n_kx;
    if (positions > kMaxPositions) {
      Fail("16 filters read " + std::to_string(positions) + " input words a pixel",
           "at most " + std::to_string(kMaxPositions));
    }
    for (size_t i = 0; i < table_.size(); ++i) table_[i] = DecodeCode(setw_.code[i], site);
    dense_.resize(positions * kLanes * kFilters);
  }

  BlockWeights Build() {
    for (uint32_t f = 0; f < block_.n_filters; ++f) {
      const uint32_t group = (block_.first_filter + f) / setw_.mg;
      SetChannelBase(group * uint64_t{setw_.cg} - first_block_ * kLanes);
      if (static_cast<WMode>(setw_.wmode) == WMode::kRaw8) {
        AddRaw(f);
      } else {
        AddCoded(f);
      }
    }
    return Compact();
  }

 private:
  [[noreturn]] void Fail(const std::string& found, const std::string& expected) const {
    throw ProgramError(site_.text() + ": " + found + ". Expected: " + expected + ".");
  }

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

  void AddCoded(uint32_t filter) {
    const auto mode = static_cast<WMode>(setw_.wmode);
    const uint32_t keep = mode == WMode::kN8 ? 8 : mode == WMode::kN4 ? 4 : 2;
    const uint64_t unit_bytes = uint64_t{16} * geometry_.planes;
    const uint8_t* octet = block_.codes + filter / 8 * (geometry_.slots / 4) * unit_bytes;
    if (mode == WMode::kShared) ListKeptRows();
    std::array<uint8_t, 17> nibbles{};
    for (uint32_t slot = 0; slot < geometry_.used_slots; ++slot) {
      const uint8_t* unit = octet + slot / 4 * unit_bytes;
      ReadSlot(unit, 4 * (filter % 8) + slot % 4, nibbles.data());
      uint32_t row = slot;
      const uint8_t* codes = nibbles.data();
      if (mode == WMode::kShared) {
        row = kept_[slot];
      } else if (mode != WMode::kDense) {
        row = slot / keep * 16 + *codes++;
        if (row >= geometry_.rows) {
          Fail("filter " + std::to_string(block_.first_filter + filter) + " names row " +
                   std::to_string(row),
               "a row below " + std::to_string(geometry_.rows));
        }
      }
      AddRow(filter, row, codes);
    }
  }

  /*! \brief Nibbles of one lane of a storage unit (docs/weights.md). */
  void ReadSlot(const uint8_t* unit, uint32_t lane, uint8_t* nibbles) const {
    uint32_t plane = 0;
    for (; plane + 2 <= geometry_.planes; plane += 2, unit += 32) {
      nibbles[plane] = unit[lane] & 15;
      nibbles[plane + 1] = unit[lane] >> 4;
    }
    if (plane < geometry_.planes) {
      nibbles[plane] = lane < 16 ? unit[lane] & 15 : unit[lane - 16] >> 4;
    }
  }

  void AddRow(uint32_t filter, uint32_t row, const uint8_t* codes) {
    // S = 3 is every 3-wide and every 1x1 layer.
    if (setw_.s == 3) {
      AddRowOf<3>(filter, row, codes, 3);
    } else {
      AddRowOf<16>(filter, row, codes, setw_.s);
    }
  }

  template <uint32_t kMax>
  void AddRowOf(uint32_t filter, uint32_t row, const uint8_t* codes, uint32_t order) {
    const uint32_t s = kMax == 3 ? 3 : order;
    const int8_t* basis = BasisOf(filter, row);
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

  const int8_t* BasisOf(uint32_t filter, uint32_t row) const {
    uint64_t index = uint64_t{filter} * geometry_.slices;
    if (geometry_.slices > 1) index += row / (16 * setw_.slice_blocks);
    return reinterpret_cast<const int8_t*>(block_.basis + index * geometry_.basis_words * 16);
  }

  void ListKeptRows() {
    if (!kept_.empty() || geometry_.kept_rows == 0) return;
    for (uint32_t row = 0; row < geometry_.bitmap_words * 128; ++row) {
      if ((block_.bitmap[row / 8] >> (row % 8) & 1) != 0) kept_.push_back(row);
    }
    if (kept_.size() != geometry_.kept_rows || kept_.back() >= geometry_.rows) {
      Fail("a bitmap keeps " + std::to_string(kept_.size()) + " rows, the last of them " +
               (kept_.empty() ? "none" : std::to_string(kept_.back())),
           std::to_string(geometry_.kept_rows) + " rows below " + std::to_string(geometry_.rows));
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
  const WeightGeometry& geometry_;
  const Site site_;
  std::array<int32_t, 16> table_{};
  uint64_t first_block_ = 0;
  uint64_t n_blocks_ = 0;
  uint64_t base_ = 0;
  std::vector<size_t> places_;  // of element t of row r, filter 0
  std::vector<uint32_t> kept_;
  std::vector<int32_t> dense_;
};

}  // namespace

BlockWeights Rebuild(const PackedBlock& block, const Site& site) {
  return Builder(block, site).Build();
}

}  // namespace sd
