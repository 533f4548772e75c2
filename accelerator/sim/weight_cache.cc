#include "weight_cache.h"

#include <utility>

namespace sd {

std::shared_ptr<const BlockWeights> WeightCache::Find(const std::string& key) const {
  const auto it = entries_.find(key);
  return it == entries_.end() ? nullptr : it->second;
}

std::shared_ptr<const BlockWeights> WeightCache::Add(const std::string& key, BlockWeights weights) {
  const uint64_t bytes = weights.bytes() + key.size();
  if (used_ + bytes > budget_) {
    entries_.clear();
    used_ = 0;
  }
  used_ += bytes;
  auto shared = std::make_shared<const BlockWeights>(std::move(weights));
  entries_[key] = shared;
  return shared;
}

}  // namespace sd
