#ifndef SD_SIM_ROW_PICKS_H_
#define SD_SIM_ROW_PICKS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "gemm_plan.h"
#include "kernels.h"
#include "memories.h"
#include "step_table.h"

namespace sd {

/*! \brief Rows that the lines of some filters work on, pass by pass: time needs no more. */
struct RowSet {
  std::vector<uint8_t> key;         // equal keys of equal plans are equal rows
  std::vector<ByteRun> runs;        // line: plane of the row, bytes: columns
  std::vector<uint32_t> pass_ends;  // of each pass, where its runs end
};

/*! \brief Groups of at most M filters that work on the same rows. */
struct RowUse {
  const RowSet* rows = nullptr;
  uint64_t groups = 0;
  bool last = false;  // fewer filters than slices
};

/*! \brief Operands of a GEMM whose rows are listed. */
struct PickedGemm {
  const GemmPlan& plan;
  const isa::Gemm& gemm;
  const isa::Setw& setw;
  const WeightGeometry& geometry;
  const Memories& memories;
  uint32_t m_slices;
};

/*!
 * \brief Which rows filters keep.
 *
 * 64 filters with 4 of 16 rows name nearly every row, so that groups of filters, and one GEMM after
 * the other, tend to have the same set: sets are kept and found again.
 */
class RowPicks {
 public:
  /*!
   * \brief Lists the rows of a run of filters and adds the digits of all its products to `digits`.
   *
   * Valid until the next call. Not for raw weights of several channels, which keep everything.
   */
  const std::vector<RowUse>& List(const PickedGemm& gemm, const FilterRun& run,
                                  const StepTable& table, uint64_t* digits);

 private:
  /*! \brief Adds the digits of a group of filters' rows and makes its key. */
  uint64_t PickBlocks(const PickedGemm& gemm, uint32_t m, uint32_t n, const StepTable& table);
  uint64_t PickShared(const PickedGemm& gemm, uint32_t m, uint32_t n, const StepTable& table);
  uint64_t PickChannels(const PickedGemm& gemm, uint32_t first, uint32_t m, uint32_t n,
                        const StepTable& table);
  /*! \brief Rows of the key. */
  const RowSet* Rows(const PickedGemm& gemm, uint32_t planes);
  void AddBlockPass(const PickedGemm& gemm, uint32_t planes, uint32_t first, uint32_t last,
                    RowSet* to);
  void AddListedPass(uint32_t planes, uint32_t first, uint32_t last, RowSet* to);
  void SplitValues(const PickedGemm& gemm, const StepTable& table);
  void ListShared(const PickedGemm& gemm);

  /*! \brief All that sets depend on but the key. */
  using Shape = std::array<uint64_t, 6>;

  Shape shape_{};
  std::vector<std::unique_ptr<RowSet>> sets_;
  std::vector<RowUse> uses_;
  std::vector<uint8_t> key_;
  std::vector<uint16_t> masks_;  // N:16: rows that a group of filters names in a slot
  std::vector<uint8_t> marks_;   // N:16: of the rows of a pass
  uint64_t version_ = 0;         // of the table that values_ are from
  std::vector<uint8_t> values_;  // digits of rows: [block of 16][byte][row]
  size_t value_bytes_ = 0;
  std::vector<std::vector<uint32_t>> shared_;  // rows of each shared pattern
  /*! \brief Not N:16: (first column, row in each slot) of the filters of a group that differ. */
  std::vector<std::pair<uint32_t, std::vector<uint32_t>>> lists_;
  std::vector<uint64_t> places_;  // plane << 32 | column of the rows of a pass
};

}  // namespace sd

#endif  // SD_SIM_ROW_PICKS_H_
