#ifndef SD_SIM_BOOTH_H_
#define SD_SIM_BOOTH_H_

#include <cstdint>

namespace sd {

/*! \brief Non-zero digits of an 8-bit activation in radix-4 Booth recoding. */
uint32_t BoothDigits(uint8_t value, bool is_signed);

/*! \brief Most of them that any activation has. */
inline uint32_t MaxBoothDigits(bool is_signed) { return is_signed ? 4 : 5; }

}  // namespace sd

#endif  // SD_SIM_BOOTH_H_
