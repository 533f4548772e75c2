#ifndef SD_SIM_CONFIG_H_
#define SD_SIM_CONFIG_H_

#include <cstdint>
#include <map>
#include <string>

#include "isa_generated.h"

namespace sd {

/*!
 * \brief An accelerator configuration: integers by key, from lines "key=value"; lines that start
 * with # are comments.
 *
 * The functional simulator only reads the sizes of the memories (`inp_kb` ...); timing and energy
 * read their own keys.
 */
class Config {
 public:
  /*! \brief Parses the text; throws ConfigError on a malformed line or a repeated key. */
  static Config Parse(const std::string& text);

  bool Has(const std::string& key) const { return values_.count(key) != 0; }
  /*! \brief Value of a key; throws ConfigError if it is missing or outside [lo, hi]. */
  int64_t Get(const std::string& key, int64_t lo = INT64_MIN, int64_t hi = INT64_MAX) const;
  /*! \brief Words of an on-chip memory. */
  uint64_t Words(isa::Mem mem) const;
  /*! \brief The text it was made from. */
  const std::string& text() const { return text_; }

 private:
  std::map<std::string, int64_t> values_;
  std::string text_;
};

}  // namespace sd

#endif  // SD_SIM_CONFIG_H_
