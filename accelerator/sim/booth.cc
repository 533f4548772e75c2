#include "booth.h"

namespace sd {

uint32_t BoothDigits(uint8_t value, bool is_signed) {
  const int v = is_signed ? static_cast<int8_t>(value) : value;
  uint32_t digits = 0;
  for (int i = 0; i < 5; ++i) {  // digit i = -2 b[2i+1] + b[2i] + b[2i-1]
    const int low = i == 0 ? 0 : (v >> (2 * i - 1)) & 1;
    const int digit = -2 * ((v >> (2 * i + 1)) & 1) + ((v >> (2 * i)) & 1) + low;
    if (digit != 0) ++digits;
  }
  return digits;
}

}  // namespace sd
