#ifndef SD_SIM_BOOTH_H_
#define SD_SIM_BOOTH_H_

#include <cstdint>

#include "gemm_plan.h"
#include "memories.h"
#include "timing.h"

namespace sd {

/*! \brief Non-zero digits of an 8-bit activation in radix-4 Booth recoding. */
uint32_t BoothDigits(uint8_t value, bool is_signed);

/*!
 * \brief What a serial array does with the data of a GEMM.
 *
 * A step of a line takes as many cycles as its slowest lane has non-zero digits, at least one (none
 * if all lanes hold zeros and the machine skips such vectors). A row pass lasts as long as its
 * slowest line; with SyncDomain::kLane a line lasts as long as its slowest lane's sum, with kArray
 * all lines of all slices step together. All bytes read have been checked to exist.
 */
GemmData SerialGemm(const Machine& machine, const GemmPlan& plan, const isa::Gemm& gemm,
                    const isa::Setw& setw, bool is_signed, const WeightGeometry& geometry,
                    const Memories& memories);

}  // namespace sd

#endif  // SD_SIM_BOOTH_H_
