#ifndef SD_SIM_KEPT_ROWS_H_
#define SD_SIM_KEPT_ROWS_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "isa_decode.h"

namespace sd {

/*! \brief Packed operands of up to 16 consecutive filters, as they lie on chip. */
struct PackedBlock {
  const isa::Setw* setw = nullptr;
  const WeightGeometry* geometry = nullptr;
  uint32_t first_filter = 0;        // index inside the layer, multiple of 16
  uint32_t n_filters = 0;           // 1..16
  const uint8_t* codes = nullptr;   // raw weights, or storage units of one or two octets
  const uint8_t* basis = nullptr;   // `slices` bases for each of the filters
  const uint8_t* bitmap = nullptr;  // row bitmap (SHARED)
};

/*! \brief Reads the stored rows of the filters of a block in SD form (docs/weights.md). */
class KeptRows {
 public:
  /*! \brief Throws ProgramError (prefix `site`) if a bitmap does not keep kept_rows rows. */
  KeptRows(const PackedBlock& block, const Site& site);

  /*!
   * \brief Calls visit(row, nibbles of its s codes) for every stored row of a filter.
   *
   * Throws ProgramError on a row index beyond the filter.
   */
  template <typename Visit>
  void ForEach(uint32_t filter, Visit visit) const {
    const uint8_t* octet =
        block_.codes + filter / 8 * (geometry_.slots / 4) * uint64_t{16} * geometry_.planes;
    std::array<uint8_t, 17> nibbles{};
    for (uint32_t slot = 0; slot < geometry_.used_slots; ++slot) {
      const uint8_t* unit = octet + slot / 4 * uint64_t{16} * geometry_.planes;
      ReadSlot(unit, 4 * (filter % 8) + slot % 4, nibbles.data());
      if (!kept_.empty()) {
        visit(kept_[slot], nibbles.data());
      } else if (log2_keep_ < 0) {
        visit(slot, nibbles.data());
      } else {
        const uint32_t row = (slot >> log2_keep_) * 16 + nibbles[0];
        if (row >= geometry_.rows) FailRow(filter, row);
        visit(row, nibbles.data() + 1);
      }
    }
  }

  /*! \brief First byte of the basis of a row. */
  const int8_t* BasisOf(uint32_t filter, uint32_t slice) const {
    const uint64_t index = uint64_t{filter} * geometry_.slices + slice;
    return reinterpret_cast<const int8_t*>(block_.basis + index * geometry_.basis_words * 16);
  }
  uint32_t SliceOf(uint32_t row) const {
    return geometry_.slices > 1 ? row / (16 * block_.setw->slice_blocks) : 0;
  }

 private:
  /*! \brief Nibbles of one lane of a storage unit. */
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
  [[noreturn]] void FailRow(uint32_t filter, uint32_t row) const;

  const PackedBlock& block_;
  const WeightGeometry& geometry_;
  const Site site_;
  int log2_keep_ = -1;          // rows kept in 16, or -1: no index in a slot
  std::vector<uint32_t> kept_;  // SHARED
};

}  // namespace sd

#endif  // SD_SIM_KEPT_ROWS_H_
