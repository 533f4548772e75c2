#include "sparse_tile.h"

#include <algorithm>
#include <cstdlib>

namespace sd {
namespace {

constexpr uint32_t kFilters = 16;

std::array<int32_t, 16> Table(const isa::Setw& setw, const Site& site) {
  std::array<int32_t, 16> table{};
  for (size_t i = 0; i < table.size(); ++i) table[i] = DecodeCode(setw.code[i], site);
  return table;
}

/*! \brief Two int16, the first in the low half. */
int32_t Halves(int32_t low, int32_t high) {
  return static_cast<int32_t>((static_cast<uint32_t>(low) & 0xFFFF) | static_cast<uint32_t>(high)
                                                                          << 16);
}

/*! \brief Where the codes of row 0 or 1 of a TapPair are. */
int32_t CodeBytes(int32_t code, int row) {
  const uint32_t byte = (static_cast<uint32_t>(code) & 255) << 8 * row;
  return static_cast<int32_t>(byte | byte << 16);
}

/*! \brief A stored row with its codes' values. */
struct Row {
  uint32_t row = 0;
  std::array<int32_t, 16> code{};
};

}  // namespace

int LargestCode(const isa::Setw& setw) {
  int largest = 0;
  for (const uint32_t entry : setw.code)
    largest = std::max(largest, std::abs(DecodeCode(entry, Site())));
  return largest;
}

SparseTile ListTaps(const PackedBlock& block, const Site& site) {
  const KeptRows kept(block, site);
  const auto table = Table(*block.setw, site);
  const uint32_t s = block.setw->s;
  const uint32_t groups = (s + 2) / 3;
  const uint32_t slices = block.geometry->slices;
  SparseTile out;
  out.bases.resize(size_t{kFilters} * slices * s * s);
  std::vector<std::vector<Row>> rows(size_t{kFilters} * slices);  // [slice][filter]
  for (uint32_t f = 0; f < block.n_filters; ++f) {
    for (uint32_t slice = 0; slice < slices; ++slice) {
      const int8_t* basis = kept.BasisOf(f, slice);
      std::copy(basis, basis + size_t{s} * s,
                out.bases.begin() + (size_t{f} * slices + slice) * s * s);
    }
    kept.ForEach(f, [&](uint32_t row, const uint8_t* nibbles) {
      Row entry{row, {}};
      int32_t any = 0;
      for (uint32_t k = 0; k < s; ++k) any |= entry.code[k] = table[nibbles[k]];
      if (any == 0) return;
      const uint32_t slice = kept.SliceOf(row);
      rows[size_t{slice} * kFilters + f].push_back(entry);
      const int8_t* basis = kept.BasisOf(f, slice);
      for (uint32_t k = 0; k < s; ++k) {
        for (uint32_t t = 0; t < s; ++t) out.weight_sums[f] += entry.code[k] * basis[k * s + t];
      }
    });
  }
  for (uint32_t slice = 0; slice < slices; ++slice) {
    for (uint32_t group = 0; group < groups; ++group) {
      for (uint32_t f = 0; f < kFilters; ++f) {
        out.starts.push_back(static_cast<uint32_t>(out.taps.size()));
        const auto& list = rows[size_t{slice} * kFilters + f];
        for (size_t i = 0; i < list.size(); i += 2) {
          TapPair pair{{static_cast<int32_t>(list[i].row), static_cast<int32_t>(list[i].row)}, {}};
          for (uint32_t k = 0; k < 3 && 3 * group + k < s; ++k) {
            pair.code[k] = CodeBytes(list[i].code[3 * group + k], 0);
            if (i + 1 < list.size()) pair.code[k] |= CodeBytes(list[i + 1].code[3 * group + k], 1);
          }
          if (i + 1 < list.size()) pair.offset[1] = static_cast<int32_t>(list[i + 1].row);
          out.taps.push_back(pair);
        }
      }
    }
  }
  out.starts.push_back(static_cast<uint32_t>(out.taps.size()));
  return out;
}

SparseTile ListTriples(const PackedBlock& block, const Site& site) {
  const KeptRows kept(block, site);
  const auto table = Table(*block.setw, site);
  const uint32_t chunks = (block.geometry->rows + kChunkRows - 1) / kChunkRows;
  SparseTile out;
  std::vector<std::vector<Row>> rows(size_t{kFilters} * chunks);  // [filter][chunk]; weights
  for (uint32_t f = 0; f < block.n_filters; ++f) {
    kept.ForEach(f, [&](uint32_t row, const uint8_t* nibbles) {
      const int8_t* basis = kept.BasisOf(f, kept.SliceOf(row));
      Row entry{row, {}};
      int32_t any = 0;
      for (uint32_t k = 0; k < 3; ++k) {
        const int32_t code = table[nibbles[k]];
        for (uint32_t t = 0; t < 3; ++t) entry.code[t] += code * basis[3 * k + t];
      }
      for (uint32_t t = 0; t < 3; ++t) {
        if (3 * row + t >= block.setw->cg) entry.code[t] = 0;
        any |= entry.code[t];
      }
      if (any != 0) rows[size_t{f} * chunks + row / kChunkRows].push_back(entry);
    });
  }
  for (const auto& list : rows) {
    out.starts.push_back(static_cast<uint32_t>(out.triples.size()));
    for (size_t i = 0; i < list.size(); i += 2) {
      const Row& a = list[i];
      const Row& b = i + 1 < list.size() ? list[i + 1] : Row{a.row, {}};
      out.triples.push_back({{static_cast<uint32_t>(a.row * kTripleBytes),
                              static_cast<uint32_t>(b.row * kTripleBytes)},
                             {Halves(a.code[0], a.code[1]), Halves(b.code[0], b.code[1]),
                              Halves(a.code[2], b.code[2])}});
    }
  }
  out.starts.push_back(static_cast<uint32_t>(out.triples.size()));
  return out;
}

}  // namespace sd
