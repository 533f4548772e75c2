#ifndef SD_SIM_WEIGHT_CACHE_H_
#define SD_SIM_WEIGHT_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

namespace sd {

/*! \brief The bytes that something was made from, not copied. */
class ByteKey {
 public:
  void Clear() { parts_.clear(); }
  void Add(const void* data, size_t size) {
    parts_.emplace_back(static_cast<const uint8_t*>(data), size);
  }
  /*! \brief Of a sample of the bytes: equal keys have equal hashes. */
  uint64_t Hash() const;
  bool Equals(const std::vector<uint8_t>& bytes) const;
  std::vector<uint8_t> Copy() const;

 private:
  size_t size() const;

  std::vector<std::pair<const uint8_t*, size_t>> parts_;
};

/*!
 * \brief Rebuilt weights by the exact bytes they were made from.
 *
 * It only saves time: an entry holds every operand byte and a hit has compared them, so it is the
 * same weights. Not thread-safe.
 */
template <typename T>
class WeightCache {
 public:
  explicit WeightCache(uint64_t budget_bytes = uint64_t{256} << 20) : budget_(budget_bytes) {}

  /*! \brief Weights for a key, or null. */
  std::shared_ptr<const T> Find(const ByteKey& key, uint64_t hash) const {
    const auto [first, last] = entries_.equal_range(hash);
    for (auto it = first; it != last; ++it) {
      if (key.Equals(it->second.bytes)) return it->second.weights;
    }
    return nullptr;
  }
  /*! \brief Adds weights of `bytes` bytes; forgets everything first when the budget is used up. */
  std::shared_ptr<const T> Add(const ByteKey& key, uint64_t hash, T weights, uint64_t bytes) {
    Entry entry{key.Copy(), std::make_shared<const T>(std::move(weights))};
    bytes += entry.bytes.size();
    if (used_ + bytes > budget_) {
      entries_.clear();
      used_ = 0;
    }
    used_ += bytes;
    return entries_.emplace(hash, std::move(entry))->second.weights;
  }

 private:
  struct Entry {
    std::vector<uint8_t> bytes;
    std::shared_ptr<const T> weights;
  };

  uint64_t budget_;
  uint64_t used_ = 0;
  std::unordered_multimap<uint64_t, Entry> entries_;
};

}  // namespace sd

#endif  // SD_SIM_WEIGHT_CACHE_H_
