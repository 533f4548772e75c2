#ifndef SD_SIM_SERIAL_GEMM_H_
#define SD_SIM_SERIAL_GEMM_H_

#include "gemm_plan.h"
#include "memories.h"
#include "row_picks.h"
#include "step_table.h"
#include "timing.h"

namespace sd {

/*!
 * \brief What a serial array does with the data of GEMMs.
 *
 * A step of a line takes as many cycles as its slowest lane has non-zero digits, at least one (none
 * if all lanes hold zeros and the machine skips such vectors). A row pass lasts as long as its
 * slowest line; with SyncDomain::kLane a line lasts as long as its slowest lane's sum, with kArray
 * all lines of all slices step together.
 *
 * What a line does with a row depends on the row's inputs only, not on the filter: rows are
 * evaluated once (StepTable), filters pick from them (RowPicks).
 */
class SerialArray {
 public:
  explicit SerialArray(const Machine& machine) : machine_(machine), table_(machine) {}

  /*! \brief Evaluates a GEMM that the functional simulator has checked and executed. */
  GemmData Evaluate(const GemmPlan& plan, const isa::Gemm& gemm, const isa::Setw& setw,
                    bool is_signed, const WeightGeometry& geometry, const Memories& memories);

 private:
  void AddPasses(const GemmPlan& plan, const isa::Gemm& gemm, uint32_t filters, GemmData* data);
  void AddRows(const GemmPlan& plan, const isa::Gemm& gemm, const std::vector<RowUse>& uses,
               GemmData* data);
  uint64_t PassOf(const RowSet& rows, size_t pass, const uint8_t* const* lines,
                  uint32_t output_rows) const;

  const Machine& machine_;
  StepTable table_;
  RowPicks picks_;
};

}  // namespace sd

#endif  // SD_SIM_SERIAL_GEMM_H_
