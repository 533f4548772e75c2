#ifndef SD_FUZZ_WORK_H_
#define SD_FUZZ_WORK_H_

#include <cstdint>

#include "../sim/isa_decode.h"
#include "../sim/machine.h"
#include "../sim/program.h"

namespace sd {
namespace fuzz {

/*! \brief Elements that one instruction may touch in a fuzzing run; more only takes time. */
constexpr uint64_t kMaxWork = 1 << 19;
/*! \brief The same for a whole program. */
constexpr uint64_t kMaxProgramWork = 1 << 21;

/*!
 * \brief About how many elements an instruction touches; small if its bounds are checked and
 * refused first, so that absurd extents are tried too.
 *
 * \param setw The weight form in force, or null.
 * \param machine Adds what the evaluation of a serial array costs, or null.
 */
uint64_t Work(const Program& program, const Instruction& instruction, const isa::Setw* setw,
              const Machine* machine);

/*! \brief Sum of a program's instructions, saturating. */
uint64_t Work(const Program& program, const Machine* machine);

}  // namespace fuzz
}  // namespace sd

#endif  // SD_FUZZ_WORK_H_
