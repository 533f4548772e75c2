#ifndef SD_SIM_WEIGHT_CACHE_H_
#define SD_SIM_WEIGHT_CACHE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>

#include "rebuild.h"

namespace sd {

/*!
 * \brief Rebuilt weights by the exact bytes they were made from.
 *
 * It only saves time: the key holds every operand byte, so a hit is the same weights. Not
 * thread-safe.
 */
class WeightCache {
 public:
  explicit WeightCache(uint64_t budget_bytes = uint64_t{256} << 20) : budget_(budget_bytes) {}

  /*! \brief Weights for a key, or null. */
  std::shared_ptr<const BlockWeights> Find(const std::string& key) const;
  /*! \brief Adds weights; forgets everything first when the budget is used up. */
  std::shared_ptr<const BlockWeights> Add(const std::string& key, BlockWeights weights);

 private:
  uint64_t budget_;
  uint64_t used_ = 0;
  std::unordered_map<std::string, std::shared_ptr<const BlockWeights>> entries_;
};

}  // namespace sd

#endif  // SD_SIM_WEIGHT_CACHE_H_
