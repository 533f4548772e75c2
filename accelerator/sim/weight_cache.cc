#include "weight_cache.h"

#include <algorithm>
#include <cstring>

namespace sd {
namespace {

constexpr size_t kSamples = 4;  // of 8 bytes, from each part

}  // namespace

size_t ByteKey::size() const {
  size_t total = 0;
  for (const auto& part : parts_) total += part.second;
  return total;
}

uint64_t ByteKey::Hash() const {
  uint64_t hash = 0x9E3779B97F4A7C15;
  const auto mix = [&](uint64_t word) {
    hash = (hash ^ word) * 0xD6E8FEB86659FD93;
    hash ^= hash >> 32;
  };
  for (const auto& [data, size] : parts_) {
    mix(size);
    const size_t step = std::max<size_t>(8, size / kSamples);
    for (size_t at = 0; at < size; at += step) {
      uint64_t word = 0;
      std::memcpy(&word, data + at, std::min<size_t>(8, size - at));
      mix(word);
    }
  }
  return hash;
}

bool ByteKey::Equals(const std::vector<uint8_t>& bytes) const {
  if (bytes.size() != size()) return false;
  const uint8_t* at = bytes.data();
  for (const auto& [data, size] : parts_) {
    if (size != 0 && std::memcmp(at, data, size) != 0) return false;
    at += size;
  }
  return true;
}

std::vector<uint8_t> ByteKey::Copy() const {
  std::vector<uint8_t> out;
  out.reserve(size());
  for (const auto& [data, size] : parts_) out.insert(out.end(), data, data + size);
  return out;
}

}  // namespace sd
