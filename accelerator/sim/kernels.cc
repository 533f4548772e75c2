#include "kernels.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>

#include "booth.h"

namespace sd {
namespace {

int32_t Add(int32_t a, int32_t b) {
  return static_cast<int32_t>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b));
}

void WidenPortable(const uint8_t* from, int16_t* to, size_t n, bool is_signed) {
  if (is_signed) {
    for (size_t i = 0; i < n; ++i) to[i] = static_cast<int8_t>(from[i]);
  } else {
    for (size_t i = 0; i < n; ++i) to[i] = from[i];
  }
}

void LoadSums(uint32_t* acc, const Pixel& pixel, const int32_t* init) {
  std::memcpy(acc, init != nullptr ? static_cast<const void*>(init) : pixel.acc, 64);
}

void PairsPortable(const Pixel* pixels, size_t n_pixels, const int32_t* offsets,
                   const int16_t* weights, size_t n, const int32_t* init) {
  for (size_t p = 0; p < n_pixels; ++p) {
    uint32_t acc[16];
    LoadSums(acc, pixels[p], init);
    for (size_t i = 0; i < n; ++i) {
      const int32_t x0 = pixels[p].input[offsets[i]];
      const int32_t x1 = pixels[p].input[offsets[i] + 1];
      const int16_t* w = weights + 32 * i;
      for (int f = 0; f < 16; ++f)
        acc[f] += static_cast<uint32_t>(x0 * w[2 * f] + x1 * w[2 * f + 1]);
    }
    std::memcpy(pixels[p].acc, acc, sizeof(acc));
  }
}

void LanesPortable(const Pixel* pixels, size_t n_pixels, const int32_t* offsets,
                   const int16_t* weights, size_t n, const int32_t* init) {
  for (size_t p = 0; p < n_pixels; ++p) {
    uint32_t acc[16];
    LoadSums(acc, pixels[p], init);
    for (size_t i = 0; i < n; ++i) {
      const int16_t* x = pixels[p].input + offsets[i];
      const int16_t* w = weights + 16 * i;
      for (int f = 0; f < 16; ++f) acc[f] += static_cast<uint32_t>(int32_t{x[f]} * w[f]);
    }
    std::memcpy(pixels[p].acc, acc, sizeof(acc));
  }
}

void PackPairPortable(const uint8_t* row0, const uint8_t* row1, int16_t* to) {
  for (int f = 0; f < 16; ++f) {
    to[2 * f] = static_cast<int8_t>(row0[f]);
    to[2 * f + 1] = static_cast<int8_t>(row1[f]);
  }
}

void TapsPortable(const uint8_t* input, const TapPair* pairs, size_t n, size_t chain, int32_t* sums,
                  size_t stride, size_t pixels) {
  (void)chain;
  for (size_t k = 0; k < 3; ++k) std::fill_n(sums + k * stride, pixels, 0);
  for (size_t i = 0; i < n; ++i) {
    for (size_t row = 0; row < 2; ++row) {
      const uint8_t* x = input + pairs[i].offset[row];
      for (size_t k = 0; k < 3; ++k) {
        const auto code = static_cast<int8_t>(static_cast<uint32_t>(pairs[i].code[k]) >> 8 * row);
        for (size_t p = 0; p < pixels; ++p) {
          sums[k * stride + p] = Add(sums[k * stride + p], int32_t{x[p]} * code);
        }
      }
    }
  }
}

void TransformPortable(int32_t* to, const Term* terms, size_t n, size_t pixels) {
  for (size_t i = 0; i < n; ++i) {
    const auto factor = static_cast<uint32_t>(terms[i].factor);
    for (size_t p = 0; p < pixels; ++p) {
      const uint32_t product = static_cast<uint32_t>(terms[i].from[p]) * factor;
      to[p] = Add(to[p], static_cast<int32_t>(product));
    }
  }
}

// int16 [row][channel][pixel].
void PackTriplesPortable(const uint8_t* planes, size_t rows, bool is_signed, uint8_t* block) {
  WidenPortable(planes, reinterpret_cast<int16_t*>(block), 3 * rows * kBlockPixels, is_signed);
}

void TriplesPortable(const uint8_t* block, const TriplePair* pairs, size_t n, int32_t* sums,
                     size_t pixels, const int32_t* start) {
  if (start != nullptr) std::fill_n(sums, pixels, *start);
  const auto half = [](int32_t word, int i) {
    return int32_t{static_cast<int16_t>(static_cast<uint32_t>(word) >> 16 * i)};
  };
  for (size_t i = 0; i < n; ++i) {
    for (int row = 0; row < 2; ++row) {
      const auto* x = reinterpret_cast<const int16_t*>(block + pairs[i].offset[row]);
      const int32_t w0 = half(pairs[i].weight[row], 0);
      const int32_t w1 = half(pairs[i].weight[row], 1);
      const int32_t w2 = half(pairs[i].weight[2], row);
      for (size_t p = 0; p < pixels; ++p) {
        const int32_t low = x[p] * w0 + x[kBlockPixels + p] * w1;
        sums[p] = Add(sums[p], low + x[2 * kBlockPixels + p] * w2);
      }
    }
  }
}

void TransposePortable(const uint8_t* const* words, uint8_t* to, size_t stride, uint8_t flip) {
  for (int i = 0; i < 16; ++i) {
    for (int lane = 0; lane < 16; ++lane) to[lane * stride + i] = words[i][lane] ^ flip;
  }
}

void ScatterPortable(const int32_t* sums, size_t stride, uint8_t* const* words, size_t pixels,
                     bool add) {
  for (size_t p = 0; p < pixels; ++p) {
    int32_t lanes[16] = {};
    if (add) std::memcpy(lanes, words[p], sizeof(lanes));
    for (size_t f = 0; f < 16; ++f) lanes[f] = Add(lanes[f], sums[f * stride + p]);
    std::memcpy(words[p], lanes, sizeof(lanes));
  }
}

// gemmlowp's mbqm. With M0 >= 0, its nudged truncating division equals floor((x M0 + 2^30) / 2^31).
void RequantPortable(int32_t* lanes, const RequantWords& words, bool clip) {
  for (int i = 0; i < 16; ++i) {
    const auto shifted = static_cast<int32_t>(static_cast<uint32_t>(lanes[i]) << words.left[i]);
    const int64_t product = int64_t{shifted} * words.m0[i] + (int64_t{1} << 30);
    const auto high = static_cast<int32_t>(product >> 31);
    const auto mask = static_cast<int32_t>((uint32_t{1} << words.right[i]) - 1);
    const int32_t threshold = (mask >> 1) + (high < 0 ? 1 : 0);
    int32_t value = (high >> words.right[i]) + ((high & mask) > threshold ? 1 : 0);
    if (clip) {
      value =
          static_cast<int32_t>(static_cast<uint32_t>(value) + static_cast<uint32_t>(words.zp[i]));
      value = std::min(std::max(value, words.lo[i]), words.hi[i]);
    }
    lanes[i] = value;
  }
}

void NarrowPortable(const int32_t* lanes, uint8_t* to, bool is_signed) {
  const int32_t lo = is_signed ? -128 : 0;
  const int32_t hi = is_signed ? 127 : 255;
  for (int i = 0; i < 16; ++i) to[i] = static_cast<uint8_t>(std::min(std::max(lanes[i], lo), hi));
}

void RequantRowPortable(const uint8_t* from, size_t from_stride, uint8_t* to, size_t to_stride,
                        size_t n, const RequantWords& words, bool is_signed) {
  for (size_t i = 0; i < n; ++i) {
    int32_t lanes[16];
    std::memcpy(lanes, from + i * from_stride, sizeof(lanes));
    RequantPortable(lanes, words, true);
    NarrowPortable(lanes, to + i * to_stride, is_signed);
  }
}

void DigitsPortable(const uint8_t* from, uint8_t* to, size_t n, bool is_signed) {
  for (size_t i = 0; i < n; ++i) to[i] = static_cast<uint8_t>(BoothDigits(from[i], is_signed));
}

void MostPortable(const uint8_t* words, size_t n, size_t stride, uint8_t* most) {
  uint8_t lanes[16] = {};
  for (size_t i = 0; i < n; ++i) {
    for (int l = 0; l < 16; ++l) lanes[l] = std::max(lanes[l], words[i * stride + l]);
  }
  std::memcpy(most, lanes, sizeof(lanes));
}

void SumPortable(const uint8_t* words, size_t n, size_t stride, uint32_t* sums) {
  for (size_t i = 0; i < n; ++i) {
    for (int l = 0; l < 16; ++l) sums[l] += words[i * stride + l];
  }
}

void ChunkSumsPortable(const uint8_t* from, size_t chunk, size_t n, uint8_t* to) {
  for (size_t i = 0; i < n; ++i, from += chunk) {
    uint32_t sum = 0;
    for (size_t t = 0; t < chunk; ++t) sum += from[t];
    to[i] = static_cast<uint8_t>(sum);
  }
}

uint32_t LargestPortable(const uint8_t* const* lines, size_t offset, const ByteRun* runs,
                         size_t n) {
  uint8_t most = 0;
  for (size_t i = 0; i < n; ++i) {
    const uint8_t* from = lines[runs[i].line] + offset + runs[i].first;
    for (uint32_t k = 0; k < runs[i].count; ++k) most = std::max(most, from[k]);
  }
  return most;
}

uint64_t PicksPortable(const PickUnits& units, const PickValues& values, uint16_t* masks) {
  uint64_t total = 0;
  for (size_t f = 0; f < units.filters; ++f) {
    const uint8_t* unit = units.first + f / 8 * units.stride + f % 8 * 4;
    for (size_t slot = 0; slot < units.slots; ++slot) {
      const int row = unit[slot] & 15;
      masks[slot] = static_cast<uint16_t>(masks[slot] | 1U << row);
      const uint8_t* value = (slot < 2 ? values.low : values.high) + row;
      for (size_t b = 0; b < values.bytes; ++b) total += uint64_t{value[16 * b]} << 8 * b;
    }
  }
  return total;
}

const KernelSet& Choose() {
  const char* forced = std::getenv("SD_KERNELS");
  if (forced != nullptr && std::string(forced) == "portable") return PortableKernels();
  const KernelSet* avx2 = Avx2Kernels();
  return avx2 != nullptr ? *avx2 : PortableKernels();
}

}  // namespace

const KernelSet& PortableKernels() {
  static const KernelSet portable = {
      "portable",        PairsPortable,       LanesPortable,     PackPairPortable,  TapsPortable,
      TransformPortable, PackTriplesPortable, TriplesPortable,   TransposePortable, ScatterPortable,
      RequantPortable,   RequantRowPortable,  NarrowPortable,    WidenPortable,     DigitsPortable,
      MostPortable,      SumPortable,         ChunkSumsPortable, LargestPortable,   PicksPortable};
  return portable;
}

const KernelSet& Kernels() {
  static const KernelSet& best = Choose();
  return best;
}

void WidePixels(const Pixel* pixels, size_t n_pixels, const int32_t* offsets,
                const int32_t* weights, size_t n, const int32_t* init) {
  for (size_t p = 0; p < n_pixels; ++p) {
    uint32_t acc[16];
    LoadSums(acc, pixels[p], init);
    for (size_t i = 0; i < n; ++i) {
      const auto x = static_cast<uint32_t>(int32_t{pixels[p].input[offsets[i]]});
      const int32_t* w = weights + 16 * i;
      for (int f = 0; f < 16; ++f) acc[f] += x * static_cast<uint32_t>(w[f]);
    }
    std::memcpy(pixels[p].acc, acc, sizeof(acc));
  }
}

}  // namespace sd
