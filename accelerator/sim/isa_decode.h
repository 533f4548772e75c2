#ifndef SD_SIM_ISA_DECODE_H_
#define SD_SIM_ISA_DECODE_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "isa_generated.h"

namespace sd {

/*! \brief No queue: MARK, FENCE and FINISH act on the dispatcher. */
constexpr int kNoQueue = -1;

/*!
 * \brief One decoded instruction. Every enum field has been checked to be in range, unused bits
 * to be zero.
 */
struct Instruction {
  isa::Opcode opcode = isa::Opcode::kNop;
  /*! \brief Queue that executes it (int of isa::Queue), or kNoQueue. */
  int queue = kNoQueue;
  /*! \brief Semaphores to take before and to give after, -1: none. */
  int wait[2] = {-1, -1};
  int signal[2] = {-1, -1};
  uint32_t flags = 0;
  isa::Body body;

  const char* name() const { return isa::kOpcodes[static_cast<int>(opcode)].name; }
};

/*!
 * \brief Decodes the 32 bytes of instruction `index`.
 *
 * Throws ProgramError (bad opcode, bad enum value, non-zero unused bits, malformed semaphore
 * field).
 */
Instruction Decode(const uint8_t* bytes, size_t index);

/*! \brief Names an instruction in errors; text only when there is one. */
struct Site {
  size_t index = 0;
  isa::Opcode opcode = isa::Opcode::kNop;

  std::string text() const;
};

/*! \brief "instruction 12 (GEMM)": how every error message starts. */
std::string Where(size_t index, const Instruction& instruction);

/*! \brief Geometry that a SETW describes: rows, slots and words of its weight form. */
struct WeightGeometry {
  uint32_t rows = 0;          // rows of a filter (R); taps of a filter for RAW8
  uint32_t slots = 0;         // stored rows of a filter, padded to a multiple of 4
  uint32_t used_slots = 0;    // stored rows that may name a row
  uint32_t planes = 0;        // nibbles of a slot
  uint32_t kept_rows = 0;     // rows of a filter that can be non-zero
  uint32_t basis_words = 0;   // BASIS words of one basis
  uint32_t slices = 1;        // bases of a filter (SLICE)
  uint32_t bitmap_words = 0;  // IDX words of one row bitmap (SHARED)
  uint32_t taps = 0;          // cg * n_ky * n_kx
};

/*! \brief Value of one entry of the code table; throws ProgramError if it is not canonical. */
int DecodeCode(uint32_t entry, const Site& site);

/*! \brief Checks a SETW and derives its geometry; throws ProgramError. */
WeightGeometry GeometryOf(const isa::Setw& setw, const Site& site);

}  // namespace sd

#endif  // SD_SIM_ISA_DECODE_H_
