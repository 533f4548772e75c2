#include "row_picks.h"

#include <algorithm>
#include <cstring>

#include "checked.h"

namespace sd {
namespace {

using isa::Mem;
using isa::WMode;

constexpr size_t kMaxSets = 64;  // kept from one GEMM to the next
constexpr size_t kSearched = 8;  // the latest of them

WMode ModeOf(const PickedGemm& gemm) { return static_cast<WMode>(gemm.setw.wmode); }

/*! \brief Rows that a filter keeps of a block of 16, or 0: its slots name no rows. */
uint32_t KeepOf(WMode mode) {
  switch (mode) {
    case WMode::kN8:
      return 8;
    case WMode::kN4:
      return 4;
    case WMode::kN2:
      return 2;
    default:
      return 0;
  }
}

/*! \brief Storage unit of a slot of filter m and the seven next to it. */
const uint8_t* UnitOf(const PickedGemm& gemm, uint32_t m, uint32_t slot) {
  const uint64_t unit = uint64_t{m / 8} * (gemm.geometry.slots / 4) + slot / 4;
  return gemm.memories.Word(Mem::kCode, gemm.gemm.code + unit * gemm.geometry.planes);
}

/*! \brief Which of the listed shared patterns filter m has. */
uint32_t SharedOf(const PickedGemm& gemm, uint32_t m) {
  const uint32_t tile = gemm.gemm.m_base / 16;
  return (tile + m / 16) / gemm.setw.group_tiles - tile / gemm.setw.group_tiles;
}

template <typename T>
void Append(std::vector<uint8_t>* key, const std::vector<T>& values) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(values.data());
  key->insert(key->end(), bytes, bytes + values.size() * sizeof(T));
}

}  // namespace

const std::vector<RowUse>& RowPicks::List(const PickedGemm& gemm, const FilterRun& run,
                                          const StepTable& table, uint64_t* digits) {
  const GemmPlan& plan = gemm.plan;
  const Shape shape = {gemm.setw.wmode, plan.depthwise,     plan.lines,
                       plan.rows,       gemm.geometry.rows, table.planes()};
  if (shape != shape_ || sets_.size() > kMaxSets) {
    shape_ = shape;
    sets_.clear();
  }
  const bool picked = !plan.depthwise && KeepOf(ModeOf(gemm)) != 0;
  if (picked) SplitValues(gemm, table);
  if (ModeOf(gemm) == WMode::kShared) ListShared(gemm);
  uses_.clear();
  for (uint32_t i = 0; i < run.count; i += gemm.m_slices) {
    const uint32_t m = run.first + i;
    const uint32_t n = std::min(gemm.m_slices, run.count - i);
    key_.clear();
    lists_.clear();
    if (plan.depthwise) {
      AddTo(digits, PickChannels(gemm, run.first, m, n, table));
    } else if (picked) {
      AddTo(digits, PickBlocks(gemm, m, n, table));
    } else {
      AddTo(digits, PickShared(gemm, m, n, table));
    }
    const RowSet* rows = Rows(gemm, table.planes());
    const bool last = n < gemm.m_slices;
    if (uses_.empty() || uses_.back().rows != rows || uses_.back().last != last) {
      uses_.push_back({rows, 0, last});
    }
    ++uses_.back().groups;
  }
  return uses_;
}

void RowPicks::ListShared(const PickedGemm& gemm) {
  const uint32_t count = SharedOf(gemm, gemm.gemm.n_m - 1) + 1;
  shared_.assign(count, {});
  if (gemm.geometry.kept_rows == 0) return;
  for (uint32_t i = 0; i < count; ++i) {
    const uint64_t word = gemm.gemm.idx + uint64_t{i} * gemm.geometry.bitmap_words;
    const uint8_t* bits = gemm.memories.Word(Mem::kIdx, word);
    for (uint32_t r = 0; r < gemm.geometry.rows; ++r) {
      if ((bits[r / 8] >> (r % 8) & 1) != 0) shared_[i].push_back(r);
    }
  }
}

/*! \brief Digits of every row, split into bytes as PicksFn reads them. */
void RowPicks::SplitValues(const PickedGemm& gemm, const StepTable& table) {
  if (version_ == table.version()) return;
  version_ = table.version();
  const uint32_t planes = table.planes();
  uint32_t most = 0;
  for (uint32_t p = 0; p < planes; ++p) {
    for (uint32_t c = 0; c < table.columns(); ++c) most = std::max(most, table.RowDigits(p, c));
  }
  value_bytes_ = 0;
  for (; most != 0; most >>= 8) ++value_bytes_;
  // One block more: units of 2:16 hold two.
  values_.assign((gemm.geometry.rows / 16 + 2) * value_bytes_ * 16, 0);
  if (value_bytes_ == 0) return;  // inputs without digits
  for (uint32_t p = 0; p < planes; ++p) {
    for (uint32_t c = 0, r = p; c < table.columns(); ++c, r += planes) {
      uint32_t value = table.RowDigits(p, c);
      uint8_t* to = values_.data() + r / 16 * value_bytes_ * 16 + r % 16;
      for (size_t b = 0; b < value_bytes_; ++b, value >>= 8) to[16 * b] = value & 255;
    }
  }
}

/*! \brief N:16. */
uint64_t RowPicks::PickBlocks(const PickedGemm& gemm, uint32_t m, uint32_t n,
                              const StepTable& table) {
  const uint32_t keep = KeepOf(ModeOf(gemm));
  const uint32_t slots = gemm.plan.rows;
  masks_.assign((slots + 3) / 4 * 4, 0);
  uint64_t digits = 0;
  if (m % 8 == 0) {
    const size_t stride = size_t{gemm.geometry.slots / 4} * gemm.geometry.planes * 16;
    const size_t block_bytes = value_bytes_ * 16;
    for (uint32_t slot = 0; slot < slots; slot += 4) {
      const PickUnits units{UnitOf(gemm, m, slot), stride, n, std::min<size_t>(4, slots - slot)};
      const PickValues values{values_.data() + slot / keep * block_bytes,
                              values_.data() + (slot + 2) / keep * block_bytes, value_bytes_};
      digits += Kernels().picks(units, values, masks_.data() + slot);
    }
  } else {
    for (uint32_t f = m; f < m + n; ++f) {
      for (uint32_t slot = 0; slot < slots; ++slot) {
        const uint32_t row = UnitOf(gemm, f, slot)[4 * (f % 8) + slot % 4] & 15;
        masks_[slot] = static_cast<uint16_t>(masks_[slot] | 1U << row);
        digits += table.RowDigits(slot / keep * 16 + row);
      }
    }
  }
  Append(&key_, masks_);
  return digits;
}

/*! \brief Every row, or those of shared patterns. */
uint64_t RowPicks::PickShared(const PickedGemm& gemm, uint32_t m, uint32_t n,
                              const StepTable& table) {
  if (ModeOf(gemm) != WMode::kShared) {
    std::vector<uint32_t> all(gemm.plan.rows);
    for (uint32_t r = 0; r < gemm.plan.rows; ++r) all[r] = r;
    lists_.emplace_back(0, std::move(all));
    return Product({table.digits(), n});
  }
  uint64_t digits = 0;
  for (uint32_t f = m; f < m + n;) {
    const uint32_t shared = SharedOf(gemm, f);
    uint32_t end = f + 1;
    while (end < m + n && SharedOf(gemm, end) == shared) ++end;
    uint64_t sum = 0;
    for (const uint32_t row : shared_[shared]) sum += table.RowDigits(row);
    AddTo(&digits, Product({sum, end - f}));
    lists_.emplace_back(0, shared_[shared]);
    Append(&key_, shared_[shared]);
    f = end;
  }
  return digits;
}

/*! \brief Depthwise: each filter has its own channel. */
uint64_t RowPicks::PickChannels(const PickedGemm& gemm, uint32_t first, uint32_t m, uint32_t n,
                                const StepTable& table) {
  const uint32_t keep = KeepOf(ModeOf(gemm));
  const uint32_t channel = (gemm.gemm.m_base + first) / gemm.setw.mg;
  std::vector<uint32_t> rows(gemm.plan.rows);
  uint64_t digits = 0;
  for (uint32_t f = m; f < m + n; ++f) {
    const uint32_t column = (gemm.gemm.m_base + f) / gemm.setw.mg - channel;
    for (uint32_t slot = 0; slot < gemm.plan.rows; ++slot) {
      uint32_t row = slot;
      if (keep != 0) {
        row = slot / keep * 16 + (UnitOf(gemm, f, slot)[4 * (f % 8) + slot % 4] & 15);
      } else if (ModeOf(gemm) == WMode::kShared) {
        row = shared_[SharedOf(gemm, f)][slot];
      }
      rows[slot] = row;
      digits += table.RowDigits(row, column);
    }
    lists_.emplace_back(column, rows);
    Append(&key_, std::vector<uint32_t>{column});
    Append(&key_, rows);
  }
  return digits;
}

const RowSet* RowPicks::Rows(const PickedGemm& gemm, uint32_t planes) {
  const size_t searched = std::min(sets_.size(), kSearched);
  for (auto it = sets_.rbegin(); it != sets_.rbegin() + static_cast<ptrdiff_t>(searched); ++it) {
    if ((*it)->key == key_) return it->get();
  }
  auto set = std::make_unique<RowSet>();
  set->key = key_;
  const GemmPlan& plan = gemm.plan;
  for (uint32_t first = 0; first < plan.rows; first += plan.lines) {
    const uint32_t last = std::min(plan.rows, first + plan.lines);
    if (lists_.empty()) {
      AddBlockPass(gemm, planes, first, last, set.get());
    } else {
      AddListedPass(planes, first, last, set.get());
    }
    set->pass_ends.push_back(static_cast<uint32_t>(set->runs.size()));
  }
  sets_.push_back(std::move(set));
  return sets_.back().get();
}

/*! \brief Runs of the rows of some slots, plane by plane. */
void RowPicks::AddBlockPass(const PickedGemm& gemm, uint32_t planes, uint32_t first, uint32_t last,
                            RowSet* to) {
  const uint32_t keep = KeepOf(ModeOf(gemm));
  const uint32_t first_row = first / keep * 16;
  const uint32_t end = std::min(((last - 1) / keep + 1) * 16, gemm.geometry.rows);
  marks_.resize(((last - 1) / keep + 1) * 16 - first_row);
  for (uint32_t block = first / keep; block <= (last - 1) / keep; ++block) {
    uint32_t mask = 0;
    for (uint32_t slot = std::max(first, block * keep); slot < std::min(last, (block + 1) * keep);
         ++slot) {
      mask |= masks_[slot];
    }
    uint8_t* marks = marks_.data() + block * 16 - first_row;
    for (int r = 0; r < 16; ++r) marks[r] = mask >> r & 1;
  }
  // Nearly always all rows.
  const bool all = std::memchr(marks_.data(), 0, end - first_row) == nullptr;
  for (uint32_t start = first_row; start < std::min(first_row + planes, end); ++start) {
    const uint32_t plane = start % planes;
    uint32_t column = start / planes;
    if (all) {
      to->runs.push_back({plane, column, (end - start + planes - 1) / planes});
      continue;
    }
    bool open = false;
    for (uint32_t r = start; r < end; r += planes, ++column) {
      const bool marked = marks_[r - first_row] != 0;
      if (marked && !open) to->runs.push_back({plane, column, 0});
      if (marked) ++to->runs.back().count;
      open = marked;
    }
  }
}

/*! \brief Runs of slots of all lists. */
void RowPicks::AddListedPass(uint32_t planes, uint32_t first, uint32_t last, RowSet* to) {
  places_.clear();
  for (const auto& [column, rows] : lists_) {
    for (uint32_t slot = first; slot < std::min<size_t>(last, rows.size()); ++slot) {
      const uint64_t plane = rows[slot] % planes;
      places_.push_back(plane << 32 | (column + rows[slot] / planes));
    }
  }
  std::sort(places_.begin(), places_.end());
  places_.erase(std::unique(places_.begin(), places_.end()), places_.end());
  uint64_t next = UINT64_MAX;
  for (const uint64_t place : places_) {
    if (place != next) {
      to->runs.push_back({static_cast<uint32_t>(place >> 32), static_cast<uint32_t>(place), 0});
    }
    ++to->runs.back().count;
    next = place + 1;
  }
}

}  // namespace sd
