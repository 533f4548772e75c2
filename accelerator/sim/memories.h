#ifndef SD_SIM_MEMORIES_H_
#define SD_SIM_MEMORIES_H_

#include <array>
#include <cstdint>
#include <vector>

#include "isa_generated.h"

namespace sd {

/*!
 * \brief The on-chip memories, with a mark for every word that was ever written.
 *
 * Callers check addresses with Contains before they touch data.
 */
class Memories {
 public:
  /*! \brief Sets the sizes and forgets everything written; keeps the allocations. */
  void Reset(const std::array<uint32_t, isa::kNumMem>& words);

  uint32_t words(isa::Mem mem) const { return At(mem).words; }
  static uint32_t word_bytes(isa::Mem mem) {
    return isa::kMemories[static_cast<int>(mem)].word_bytes;
  }
  /*! \brief Whether words [first, last] exist. */
  bool Contains(isa::Mem mem, uint64_t first, uint64_t last) const {
    return first <= last && last < At(mem).words;
  }
  /*! \brief First byte of a word that exists. */
  const uint8_t* Word(isa::Mem mem, uint64_t word) const {
    return At(mem).data.data() + word * word_bytes(mem);
  }
  uint8_t* Word(isa::Mem mem, uint64_t word) {
    return At(mem).data.data() + word * word_bytes(mem);
  }
  /*! \brief First word of [first, first + count) that was never written, or -1. */
  int64_t FirstUnwritten(isa::Mem mem, uint64_t first, uint64_t count) const;
  bool IsWritten(isa::Mem mem, uint64_t word) const { return At(mem).written[word] != 0; }
  /*! \brief Must follow every write. */
  void MarkWritten(isa::Mem mem, uint64_t first, uint64_t count);
  void MarkWritten(isa::Mem mem, uint64_t word) {
    At(mem).written[word] = 1;
    if (mem == isa::Mem::kInp) {
      copies_[word] = 0;
      ++inp_version_;
    }
  }
  /*! \brief Changes with every write to INP. */
  uint64_t inp_version() const { return inp_version_; }

  /*!
   * \brief INP as int16 lanes, 16 a word; words [first, last] are up to date.
   *
   * A copy that follows INP lazily: GEMM multiplies int16.
   */
  const int16_t* WidenedInput(uint64_t first, uint64_t last, bool is_signed);
  /*!
   * \brief Non-zero Booth digits of INP's bytes, 16 a word; words [first, last] are up to date.
   *
   * A copy as WidenedInput: a serial array takes as many cycles.
   */
  const uint8_t* InputDigits(uint64_t first, uint64_t last, bool is_signed) const;

 private:
  struct Memory {
    uint32_t words = 0;
    std::vector<uint8_t> data;
    std::vector<uint8_t> written;
  };
  /*! \brief Copies of an INP word that are up to date; of each pair one at most. */
  enum Copy : uint8_t {
    kWidened = 1,
    kWidenedSigned = 2,
    kDigits = 4,
    kDigitsSigned = 8,
  };

  const Memory& At(isa::Mem mem) const { return memories_[static_cast<int>(mem)]; }
  Memory& At(isa::Mem mem) { return memories_[static_cast<int>(mem)]; }
  /*! \brief Calls make(word, words) where `copy` is not up to date; `other` holds it no longer. */
  template <typename Make>
  void Update(uint64_t first, uint64_t last, Copy copy, Copy other, Make make) const;

  std::array<Memory, isa::kNumMem> memories_;
  uint64_t inp_version_ = 0;
  std::vector<int16_t> widened_;
  mutable std::vector<uint8_t> digits_;
  mutable std::vector<uint8_t> copies_;  // of Copy, one a word
};

}  // namespace sd

#endif  // SD_SIM_MEMORIES_H_
