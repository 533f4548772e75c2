#ifndef SD_SIM_GEMM_PLAN_H_
#define SD_SIM_GEMM_PLAN_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "array_cycles.h"
#include "energy.h"
#include "isa_decode.h"
#include "machine.h"

namespace sd {

/*! \brief Filters of a GEMM that belong to one channel group. */
struct FilterRun {
  uint32_t first = 0;  // relative to the GEMM's filter 0
  uint32_t count = 0;
};

/*!
 * \brief How the array executes one GEMM: the mapping and everything about it that is static.
 *
 * The array walks *groups*: up to F pixels (times the fold, times the output rows of a depthwise
 * layer) of up to M filters. A group is `passes` row passes of `steps` steps each.
 */
struct GemmPlan {
  bool depthwise = false;   // one input channel a filter: lines hold kernel rows x output rows
  bool code = false;        // weights are rebuilt from coefficients
  bool taps = false;        // the steps of a row are taps along x, else channels
  uint32_t steps = 0;       // of a row pass
  uint32_t rows = 0;        // rows of a filter that lines work on (RAW8 conv: channels)
  uint32_t fold = 1;        // groups of pixels that share the lines
  uint32_t lines = 0;       // lines of one of them
  uint32_t oy_at_once = 1;  // output rows of a group
  uint64_t passes = 0;      // row passes of a group
  uint64_t port = 0;        // cycles of a row pass's input
  uint64_t last_port = 0;   // the same when a pass has fewer filters than slices
  uint64_t rebuild = 0;     // cycles of a row pass's weights, and of the first ones
  uint64_t drain = 0;       // cycles to drain a group
  uint64_t fill = 0;        // decode and fill
  std::vector<FilterRun> runs;

  /*! \brief Groups of the output plane, for one pass over the filters. */
  uint64_t pixel_groups = 0;
  /*! \brief Passes over the filters, all runs. */
  uint64_t filter_passes = 0;
  /*! \brief Static cycles: exact for a parallel array, the worst case for a serial one. */
  uint64_t cycles = 0;
  ArrayCycles array;  // the same by bound
  EventList events;   // serial: without the digits

  /*! \brief Least cycles of a row pass. */
  uint64_t RowFloor(bool last) const { return std::max(last ? last_port : port, rebuild); }
  /*! \brief What binds a row pass whose products take `mac` cycles. */
  ArrayBound RowBound(uint64_t mac, bool last) const {
    if (mac >= RowFloor(last)) return ArrayBound::kMac;
    return (last ? last_port : port) >= rebuild ? ArrayBound::kPort : ArrayBound::kRebuild;
  }
  /*! \brief Cycles outside the groups: decode, fill, first rebuild, last drain. */
  uint64_t Overhead() const { return fill + rebuild + drain; }
  ArrayCycles OverheadArray() const {
    ArrayCycles out;
    out.Add(ArrayBound::kFill, fill);
    out.Add(ArrayBound::kRebuild, rebuild);
    out.Add(ArrayBound::kDrain, drain);
    return out;
  }
};

/*!
 * \brief Plans a GEMM: the fold with the fewest static cycles, the smallest of equals.
 *
 * Throws ConfigMismatchError if the weights need rebuild engines and the machine has none.
 */
GemmPlan PlanGemm(const Machine& machine, const isa::Gemm& gemm, const isa::Setw& setw,
                  bool signed_activations, const WeightGeometry& geometry, const Site& site);

}  // namespace sd

#endif  // SD_SIM_GEMM_PLAN_H_
