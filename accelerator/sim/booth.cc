#include "booth.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <vector>

#include "checked.h"

namespace sd {
namespace {

using isa::Mem;
using isa::WMode;

constexpr uint64_t kLanes = 16;
constexpr uint64_t kInpAddresses = 1U << 16;

std::array<uint8_t, 256> DigitTable(bool is_signed) {
  std::array<uint8_t, 256> table{};
  for (int i = 0; i < 256; ++i) {
    table[i] = static_cast<uint8_t>(BoothDigits(static_cast<uint8_t>(i), is_signed));
  }
  return table;
}

/*! \brief One element of a row: where its input lies relative to a pixel, in channel `channel`. */
struct Element {
  int64_t channel = -1;  // of the group; -1: padding of the last channel row
  uint64_t offset = 0;   // INP words
};

/*! \brief Cycles and digits of every row, for up to F neighbouring pixels. */
struct RowTable {
  std::vector<uint32_t> cycles;  // of a row; of each step of each row with SyncDomain::kArray
  std::vector<uint32_t> digits;  // of a row, all its lanes
};

/*! \brief Evaluates one GEMM. */
class Evaluator {
 public:
  Evaluator(const Machine& machine, const GemmPlan& plan, const isa::Gemm& gemm,
            const isa::Setw& setw, bool is_signed, const WeightGeometry& geometry,
            const Memories& memories)
      : machine_(machine),
        plan_(plan),
        gemm_(gemm),
        setw_(setw),
        geometry_(geometry),
        memories_(memories),
        mode_(static_cast<WMode>(setw.wmode)),
        table_(DigitTable(is_signed)) {
    ListElements();
    if (mode_ == WMode::kShared) ListKeptRows();
  }

  GemmData Run() {
    GemmData data;
    const uint32_t width = machine_.f_lanes * plan_.fold;
    for (const FilterRun& run : plan_.runs) {
      for (uint32_t oy = 0; oy < gemm_.n_oy; oy += plan_.oy_at_once) {
        for (uint32_t ox = 0; ox < gemm_.n_ox; ox += width) {
          if (!plan_.depthwise) FillConvTables(run, oy, ox);
          for (uint32_t m = 0; m < run.count; m += machine_.m_slices) {
            const uint32_t n = std::min(machine_.m_slices, run.count - m);
            if (plan_.depthwise) FillDepthwiseTables(run.first + m, n, oy, ox);
            AddGroup(run.first + m, n, &data);
          }
        }
      }
    }
    return data;
  }

 private:
  void ListElements() {
    const auto add = [&](int64_t channel, uint64_t ky, uint64_t kx) {
      elements_.push_back({channel, ky * gemm_.inp_ky + kx * setw_.inp_kx});
    };
    if (!plan_.code && !plan_.depthwise) {  // rows: channels, tap by tap
      for (uint32_t tap = 0; tap < setw_.n_ky * setw_.n_kx; ++tap) {
        for (uint32_t c = 0; c < setw_.cg; ++c) add(c, tap / setw_.n_kx, tap % setw_.n_kx);
      }
    } else if (plan_.taps) {
      for (uint32_t c = 0; c < setw_.cg; ++c) {
        for (uint32_t ky = 0; ky < setw_.n_ky; ++ky) {
          for (uint32_t kx = 0; kx < setw_.n_kx; ++kx) add(c, ky, kx);
        }
      }
    } else {
      for (uint32_t c = 0; c < setw_.cg; c += setw_.s) {
        for (uint32_t tap = 0; tap < setw_.n_ky * setw_.n_kx; ++tap) {
          for (uint32_t t = 0; t < setw_.s; ++t) {
            add(c + t < setw_.cg ? int64_t{c} + t : -1, tap / setw_.n_kx, tap % setw_.n_kx);
          }
        }
      }
    }
    n_rows_ = static_cast<uint32_t>(elements_.size() / plan_.steps);
    if (plan_.depthwise) return;
    all_rows_.resize(n_rows_);
    std::iota(all_rows_.begin(), all_rows_.end(), 0U);
  }

  void ListKeptRows() {
    const uint32_t first_tile = gemm_.m_base / 16;
    const uint32_t first = first_tile / setw_.group_tiles;
    const uint32_t last = (first_tile + (gemm_.n_m - 1) / 16) / setw_.group_tiles;
    for (uint32_t group = first; group <= last; ++group) {
      std::vector<uint32_t> rows;
      const uint64_t word = gemm_.idx + uint64_t{group - first} * geometry_.bitmap_words;
      for (uint32_t r = 0; r < geometry_.rows; ++r) {
        const uint64_t at = word + r / 128;
        if (!memories_.Contains(Mem::kIdx, at, at)) break;
        if ((memories_.Word(Mem::kIdx, at)[r / 8 % 16] >> (r % 8) & 1) != 0) rows.push_back(r);
      }
      kept_.push_back(std::move(rows));
    }
  }

  uint32_t Keep() const { return mode_ == WMode::kN8 ? 8 : mode_ == WMode::kN4 ? 4 : 2; }

  /*! \brief Row in a stored slot of filter m (of this GEMM). */
  uint32_t RowOf(uint32_t m, uint32_t slot) const {
    if (mode_ == WMode::kShared) {
      const uint32_t tile = gemm_.m_base / 16;
      const auto& rows = kept_[(tile + m / 16) / setw_.group_tiles - tile / setw_.group_tiles];
      return slot < rows.size() ? rows[slot] : 0;
    }
    if (mode_ == WMode::kRaw8 || mode_ == WMode::kDense) return slot;
    const uint64_t unit = uint64_t{m / 8} * (geometry_.slots / 4) + slot / 4;
    const uint64_t byte = unit * 16 * geometry_.planes + 4 * (m % 8) + slot % 4;
    const uint64_t word = gemm_.code + byte / 16;
    if (!memories_.Contains(Mem::kCode, word, word)) return 0;
    return slot / Keep() * 16 + (memories_.Word(Mem::kCode, word)[byte % 16] & 15);
  }

  /*! \brief Digits of the value of an element at a pixel; words that do not exist hold zero. */
  uint32_t Digits(const Element& element, uint64_t group_channel, uint64_t pixel) const {
    if (element.channel < 0) return 0;
    const uint64_t c = group_channel + static_cast<uint64_t>(element.channel);
    const uint64_t word =
        (gemm_.inp + c / kLanes * gemm_.inp_cb) % kInpAddresses + pixel + element.offset;
    if (!memories_.Contains(Mem::kInp, word, word)) return 0;
    return table_[memories_.Word(Mem::kInp, word)[c % kLanes]];
  }

  /*! \brief Table of rows of a channel group at pixels (oy, ox .. ox + F), in the order of the
   * list. */
  void Fill(RowTable* out, const std::vector<uint32_t>& rows, uint64_t group_channel, uint32_t oy,
            uint32_t ox) const {
    const bool by_step = machine_.sync == SyncDomain::kArray;
    const uint32_t steps = plan_.steps;
    out->cycles.assign(rows.size() * (by_step ? steps : 1), 0);
    out->digits.assign(rows.size(), 0);
    if (ox >= gemm_.n_ox) return;  // lines of a fold that have no pixels
    const uint32_t pixels = std::min(machine_.f_lanes, gemm_.n_ox - ox);
    std::array<uint32_t, 64> digits{};
    for (size_t r = 0; r < rows.size(); ++r) {
      if (rows[r] >= n_rows_) continue;
      std::array<uint32_t, 64> lane_sums{};
      for (uint32_t t = 0; t < steps; ++t) {
        const Element& element = elements_[size_t{rows[r]} * steps + t];
        uint32_t most = 0;
        for (uint32_t f = 0; f < pixels; ++f) {
          digits[f] = Digits(element, group_channel,
                             uint64_t{oy} * gemm_.inp_oy + uint64_t{ox + f} * gemm_.inp_ox);
          most = std::max(most, digits[f]);
          out->digits[r] += digits[f];
        }
        if (most == 0 && machine_.skip_zero_vectors) continue;
        const uint32_t step = std::max(1U, most);
        switch (machine_.sync) {
          case SyncDomain::kArray:
            out->cycles[r * steps + t] = step;
            break;
          case SyncDomain::kLine:
            out->cycles[r] += step;
            break;
          case SyncDomain::kLane:
            for (uint32_t f = 0; f < pixels; ++f) {
              lane_sums[f] += std::max(1U, digits[f]);
              out->cycles[r] = std::max(out->cycles[r], lane_sums[f]);
            }
            break;
        }
      }
    }
  }

  uint64_t GroupChannel(uint32_t m) const {
    return (gemm_.m_base + uint64_t{m}) / setw_.mg * setw_.cg;
  }

  void FillConvTables(const FilterRun& run, uint32_t oy, uint32_t ox) {
    tables_.resize(plan_.fold);
    for (uint32_t i = 0; i < plan_.fold; ++i) {
      Fill(&tables_[i], all_rows_, GroupChannel(run.first), oy, ox + i * machine_.f_lanes);
    }
  }

  /*! \brief Tables of the n filters' stored rows, output row by output row. */
  void FillDepthwiseTables(uint32_t m, uint32_t n, uint32_t oy, uint32_t ox) {
    const uint32_t rows = std::min(plan_.oy_at_once, gemm_.n_oy - oy);
    tables_per_filter_ = rows;
    tables_.resize(size_t{n} * rows);
    for (uint32_t i = 0; i < n; ++i) {
      stored_.resize(plan_.rows);
      for (uint32_t slot = 0; slot < plan_.rows; ++slot) stored_[slot] = RowOf(m + i, slot);
      for (uint32_t y = 0; y < rows; ++y) {
        Fill(&tables_[size_t{i} * rows + y], stored_, GroupChannel(m + i), oy + y, ox);
      }
    }
  }

  /*! \brief One group: filters [m, m + n) at the pixels of the tables. */
  void AddGroup(uint32_t m, uint32_t n, GemmData* data) {
    ArrayCycles array;
    const uint64_t cycles = GroupCycles(m, n, &data->digits, &array);
    if (plan_.drain > cycles) {
      data->array.Add(ArrayBound::kDrain, plan_.drain);
    } else {
      data->array.Add(array);
    }
    AddTo(&data->body, std::max(cycles, plan_.drain));
  }

  /*! \brief Cycles of its row passes, also by bound. */
  uint64_t GroupCycles(uint32_t m, uint32_t n, uint64_t* digits, ArrayCycles* array) {
    // No rows are no passes.
    const auto chunks =
        std::max<uint32_t>(1, static_cast<uint32_t>(CeilDiv(plan_.rows, plan_.lines)));
    const bool same_rows = mode_ == WMode::kRaw8 || mode_ == WMode::kDense;
    uint64_t cycles = 0;
    for (uint64_t pass = 0; pass < plan_.passes; ++pass) {
      // RAW8 conv makes a pass over the channels for each tap; else there is one "tap".
      const uint32_t base = static_cast<uint32_t>(pass / chunks) * plan_.rows;
      const uint32_t first = static_cast<uint32_t>(pass % chunks) * plan_.lines;
      const uint32_t last = std::min(plan_.rows, first + plan_.lines);
      most_.assign(machine_.sync == SyncDomain::kArray ? plan_.steps : 1, 0);
      if (same_rows && !plan_.depthwise) {
        for (uint32_t slot = first; slot < last; ++slot) {
          for (const RowTable& table : tables_) Visit(table, base + slot, n, digits);
        }
      } else {
        for (uint32_t i = 0; i < n; ++i) {
          for (uint32_t slot = first; slot < last; ++slot) VisitFilter(i, m, slot, digits);
        }
      }
      uint64_t pass_cycles = 0;
      for (const uint32_t step : most_) pass_cycles += step;
      const bool is_last = n < machine_.m_slices;
      const uint64_t longest = std::max(pass_cycles, plan_.RowFloor(is_last));
      array->Add(plan_.RowBound(pass_cycles, is_last), longest);
      AddTo(&cycles, longest);
    }
    return cycles;
  }

  void VisitFilter(uint32_t i, uint32_t m, uint32_t slot, uint64_t* digits) {
    if (!plan_.depthwise) {
      const uint32_t row = RowOf(m + i, slot);
      for (const RowTable& table : tables_) Visit(table, row, 1, digits);
      return;
    }
    for (uint32_t y = 0; y < tables_per_filter_; ++y) {
      Visit(tables_[size_t{i} * tables_per_filter_ + y], slot, 1, digits);
    }
  }

  /*! \brief Lines of `filters` slices work on an entry of a table. */
  void Visit(const RowTable& table, uint32_t row, uint64_t filters, uint64_t* digits) {
    if (row >= table.digits.size()) return;
    AddTo(digits, table.digits[row] * filters);
    const size_t width = most_.size();
    for (size_t t = 0; t < width; ++t) {
      most_[t] = std::max(most_[t], table.cycles[row * width + t]);
    }
  }

  const Machine& machine_;
  const GemmPlan& plan_;
  const isa::Gemm& gemm_;
  const isa::Setw& setw_;
  const WeightGeometry& geometry_;
  const Memories& memories_;
  const WMode mode_;
  const std::array<uint8_t, 256> table_;
  std::vector<Element> elements_;  // [row][step]
  uint32_t n_rows_ = 0;
  std::vector<uint32_t> all_rows_;
  std::vector<uint32_t> stored_;             // rows of a depthwise filter
  std::vector<std::vector<uint32_t>> kept_;  // of each group of filters
  std::vector<RowTable> tables_;
  uint32_t tables_per_filter_ = 1;
  std::vector<uint32_t> most_;  // cycles of a pass: its total, or each step
};

}  // namespace

uint32_t BoothDigits(uint8_t value, bool is_signed) {
  const int v = is_signed ? static_cast<int8_t>(value) : value;
  uint32_t digits = 0;
  for (int i = 0; i < 5; ++i) {  // digit i = -2 b[2i+1] + b[2i] + b[2i-1]
    const int low = i == 0 ? 0 : (v >> (2 * i - 1)) & 1;
    const int digit = -2 * ((v >> (2 * i + 1)) & 1) + ((v >> (2 * i)) & 1) + low;
    if (digit != 0) ++digits;
  }
  return digits;
}

GemmData SerialGemm(const Machine& machine, const GemmPlan& plan, const isa::Gemm& gemm,
                    const isa::Setw& setw, bool is_signed, const WeightGeometry& geometry,
                    const Memories& memories) {
  return Evaluator(machine, plan, gemm, setw, is_signed, geometry, memories).Run();
}

}  // namespace sd
