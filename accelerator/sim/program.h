#ifndef SD_SIM_PROGRAM_H_
#define SD_SIM_PROGRAM_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "config.h"
#include "isa_decode.h"

namespace sd {

/*! \brief A decoded, statically checked program. */
struct Program {
  /*! \brief Words of each memory that it addresses; every access is checked against them. */
  std::array<uint32_t, isa::kNumMem> required_words{};
  /*! \brief Least bytes of each operand of the call. */
  std::vector<uint64_t> segment_bytes;
  /*! \brief The last operands, which alone STORE may write. */
  uint32_t n_results = 1;
  /*! \brief Ends with FINISH. */
  std::vector<Instruction> instructions;

  /*!
   * \brief Parses the bytes of a program (layout: docs/isa.md).
   *
   * Throws ProgramError on anything malformed: magic, version, lengths, trailing bytes, an
   * instruction that does not decode, a missing FINISH or instructions after it, a semaphore with
   * several waiting or several signalling queues between two FENCEs.
   */
  static Program Parse(const uint8_t* data, size_t size);

  /*! \brief Throws ConfigMismatchError if the configuration's memories are too small. */
  void CheckFits(const Config& config) const;
};

}  // namespace sd

#endif  // SD_SIM_PROGRAM_H_
