#include "kept_rows.h"

#include "error.h"

namespace sd {

using isa::WMode;

KeptRows::KeptRows(const PackedBlock& block, const Site& site)
    : block_(block), geometry_(*block.geometry), site_(site) {
  switch (static_cast<WMode>(block.setw->wmode)) {
    case WMode::kN8:
      log2_keep_ = 3;
      break;
    case WMode::kN4:
      log2_keep_ = 2;
      break;
    case WMode::kN2:
      log2_keep_ = 1;
      break;
    case WMode::kShared: {
      if (geometry_.kept_rows == 0) break;
      for (uint32_t row = 0; row < geometry_.bitmap_words * 128; ++row) {
        if ((block_.bitmap[row / 8] >> (row % 8) & 1) != 0) kept_.push_back(row);
      }
      if (kept_.size() != geometry_.kept_rows || kept_.back() >= geometry_.rows) {
        throw ProgramError(site_.text() + ": a bitmap keeps " + std::to_string(kept_.size()) +
                           " rows, the last of them " +
                           (kept_.empty() ? "none" : std::to_string(kept_.back())) +
                           ". Expected: " + std::to_string(geometry_.kept_rows) + " rows below " +
                           std::to_string(geometry_.rows) + ".");
      }
      break;
    }
    default:
      break;
  }
}

void KeptRows::FailRow(uint32_t filter, uint32_t row) const {
  throw ProgramError(site_.text() + ": filter " + std::to_string(block_.first_filter + filter) +
                     " names row " + std::to_string(row) + ". Expected: a row below " +
                     std::to_string(geometry_.rows) + ".");
}

}  // namespace sd
