#ifndef SD_FUZZ_INPUT_H_
#define SD_FUZZ_INPUT_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "isa_generated.h"

namespace sd {
namespace fuzz {

using Bytes = std::vector<uint8_t>;
using Random = std::mt19937_64;
using RawInstruction = std::array<uint8_t, isa::kInstructionBytes>;

inline size_t Below(Random& random, size_t n) { return static_cast<size_t>(random() % n); }
inline bool OneIn(Random& random, size_t n) { return Below(random, n) == 0; }

/*! \brief The bytes of a program in pieces that can be changed one by one; they need not be valid.
 */
struct ProgramParts {
  std::array<uint8_t, 16> head{};  // magic, version, counts; the counts are written anew
  std::array<uint32_t, isa::kNumMem> words{};
  std::vector<uint64_t> segments;
  std::vector<RawInstruction> instructions;

  /*! \brief An empty program of this version. */
  ProgramParts();
  /*! \brief Pieces of a program; none if its lengths do not agree. */
  static std::optional<ProgramParts> Parse(const uint8_t* data, size_t size);
  Bytes Serialise() const;

  uint32_t results() const;
  void set_results(uint32_t n);
};

/*!
 * \brief What one run of the program fuzzer reads.
 *
 * u8 options, u16 length of the configuration, u24 length of the program, the configuration, the
 * program, the bytes of the operands one after the other; missing ones are made up.
 */
struct Input {
  static constexpr size_t kPrefix = 6;

  uint8_t options = 0;
  std::string config;
  Bytes program;
  Bytes operands;

  static std::optional<Input> Parse(const uint8_t* data, size_t size);
  Bytes Serialise() const;
};

/*! \brief Reads and writes bits [offset, offset + width) of an instruction, width <= 32. */
uint32_t GetBits(const RawInstruction& instruction, uint32_t offset, uint32_t width);
void SetBits(RawInstruction* instruction, uint32_t offset, uint32_t width, uint32_t value);

}  // namespace fuzz
}  // namespace sd

#endif  // SD_FUZZ_INPUT_H_
