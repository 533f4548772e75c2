#ifndef SD_SIM_CHECKED_H_
#define SD_SIM_CHECKED_H_

#include <cstdint>
#include <initializer_list>

#include "error.h"

namespace sd {

/*! \brief Product of counts; throws ProgramError if it leaves 63 bits, as only nonsense programs
 * do. */
inline uint64_t Product(std::initializer_list<uint64_t> factors) {
  uint64_t product = 1;
  for (const uint64_t factor : factors) {
    if (factor == 0) return 0;
    if (__builtin_mul_overflow(product, factor, &product) || product >> 63 != 0) {
      throw ProgramError("a count of the program exceeds 2^63. Expected: a program that can end.");
    }
  }
  return product;
}

/*! \brief Adds to a count, with the same check. */
inline void AddTo(uint64_t* sum, uint64_t value) {
  if (__builtin_add_overflow(*sum, value, sum) || *sum >> 63 != 0) {
    throw ProgramError("a count of the program exceeds 2^63. Expected: a program that can end.");
  }
}

inline uint64_t CeilDiv(uint64_t a, uint64_t b) { return a / b + (a % b != 0 ? 1 : 0); }

}  // namespace sd

#endif  // SD_SIM_CHECKED_H_
