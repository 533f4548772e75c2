#ifndef SD_SIM_GEMM_PLAN_H_
#define SD_SIM_GEMM_PLAN_H_

#include <cstdint>
#include <vector>

#include "energy.h"
#include "isa_decode.h"
#include "machine.h"

namespace sd {

/*! \brief Most non-zero radix-4 Booth digits of an 8-bit activation. */
inline uint32_t MaxBoothDigits(bool is_signed) { return is_signed ? 4 : 5; }

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
  bool depthwise = false;       // one input channel a filter: lines hold kernel rows x output rows
  bool code = false;            // weights are rebuilt from coefficients
  bool taps = false;            // the steps of a row are taps along x, else channels
  uint32_t steps = 0;           // of a row pass
  uint32_t rows = 0;            // rows of a filter that lines work on (RAW8 conv: channels)
  uint32_t fold = 1;            // groups of pixels that share the lines
  uint32_t lines = 0;           // lines of one of them
  uint32_t oy_at_once = 1;      // output rows of a group
  uint64_t passes = 0;          // row passes of a group
  uint64_t row_floor = 0;       // least cycles of a row pass: rebuild and input port
  uint64_t last_row_floor = 0;  // the same when a pass has fewer filters than slices
  uint64_t drain = 0;           // cycles to drain a group
  uint64_t prologue = 0;        // decode, fill, first rebuild
  std::vector<FilterRun> runs;

  /*! \brief Groups of the output plane, for one pass over the filters. */
  uint64_t pixel_groups = 0;
  /*! \brief Passes over the filters, all runs. */
  uint64_t filter_passes = 0;
  /*! \brief Static cycles: exact for a parallel array, the worst case for a serial one. */
  uint64_t cycles = 0;
  EventCounts events;  // serial: without the digits

  /*! \brief Cycles when the groups take `body` cycles altogether. */
  uint64_t CyclesWithBody(uint64_t body) const { return prologue + body + drain; }
};

/*!
 * \brief Plans a GEMM: the fold with the fewest static cycles, the smallest of equals.
 *
 * Throws ConfigMismatchError if the weights need rebuild engines and the machine has none.
 */
GemmPlan PlanGemm(const Machine& machine, const isa::Gemm& gemm, const isa::Setw& setw,
                  bool signed_activations, const WeightGeometry& geometry, const char* where);

}  // namespace sd

#endif  // SD_SIM_GEMM_PLAN_H_
