#ifndef SD_SIM_ARRAY_CYCLES_H_
#define SD_SIM_ARRAY_CYCLES_H_

#include <array>
#include <cstdint>

#include "checked.h"

namespace sd {

/*!
 * \brief What the cycles of a GEMM go to, by what binds: (enumerator, key).
 *
 * A row pass takes the longest of its products, its input through the port and its rebuilt weights;
 * a group of passes takes at least its drain. Whichever is longest has all the cycles; of equals,
 * the first in this list. Decoding and the array's fill have their own.
 */
#define SD_ARRAY_BOUNDS(X) \
  X(kMac, "mac")           \
  X(kPort, "port")         \
  X(kRebuild, "rebuild")   \
  X(kDrain, "drain")       \
  X(kFill, "fill")

enum class ArrayBound : uint8_t {
#define X(id, name) id,
  SD_ARRAY_BOUNDS(X)
#undef X
      kCount
};
constexpr int kNumArrayBound = static_cast<int>(ArrayBound::kCount);

/*! \brief Cycles by bound. */
class ArrayCycles {
 public:
  void Add(ArrayBound bound, uint64_t cycles) { AddTo(&cycles_[static_cast<int>(bound)], cycles); }
  void Add(const ArrayCycles& other) {
    for (int i = 0; i < kNumArrayBound; ++i) AddTo(&cycles_[i], other.cycles_[i]);
  }
  uint64_t operator[](ArrayBound bound) const { return cycles_[static_cast<int>(bound)]; }

 private:
  std::array<uint64_t, kNumArrayBound> cycles_{};
};

/*! \brief Key of a bound in statistics. */
inline const char* ArrayBoundName(ArrayBound bound) {
  constexpr const char* kNames[kNumArrayBound] = {
#define X(id, name) name,
      SD_ARRAY_BOUNDS(X)
#undef X
  };
  return kNames[static_cast<int>(bound)];
}

}  // namespace sd

#endif  // SD_SIM_ARRAY_CYCLES_H_
