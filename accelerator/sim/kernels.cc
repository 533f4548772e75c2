#include "kernels.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>

#if defined(__x86_64__)
#define SD_X86 1
#include <immintrin.h>
#endif

namespace sd {
namespace {

void PairsPortable(const Pixel* pixels, size_t n_pixels, const int32_t* offsets,
                   const int16_t* weights, size_t n) {
  for (size_t p = 0; p < n_pixels; ++p) {
    uint32_t acc[16];
    std::memcpy(acc, pixels[p].acc, sizeof(acc));
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
                   const int16_t* weights, size_t n) {
  for (size_t p = 0; p < n_pixels; ++p) {
    uint32_t acc[16];
    std::memcpy(acc, pixels[p].acc, sizeof(acc));
    for (size_t i = 0; i < n; ++i) {
      const int16_t* x = pixels[p].input + offsets[i];
      const int16_t* w = weights + 16 * i;
      for (int f = 0; f < 16; ++f) acc[f] += static_cast<uint32_t>(int32_t{x[f]} * w[f]);
    }
    std::memcpy(pixels[p].acc, acc, sizeof(acc));
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

#if SD_X86
#define SD_AVX2 __attribute__((target("avx2")))
// Without it gcc keeps arrays of vectors in memory: 48 instead of 75 GMAC/s.
#if defined(__clang__)
#define SD_UNROLL _Pragma("unroll")
#else
#define SD_UNROLL _Pragma("GCC unroll 8")
#endif

SD_AVX2 inline __m256i LoadVector(const void* from) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}
// As LoadVector, of bytes that 16-byte stores just wrote.
SD_AVX2 inline __m256i LoadHalves(const int32_t* from) {
  const auto* halves = reinterpret_cast<const __m128i*>(from);
  return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(halves)),
                                 _mm_loadu_si128(halves + 1), 1);
}
SD_AVX2 inline void StoreVector(void* to, __m256i value) {
  _mm256_storeu_si256(static_cast<__m256i*>(to), value);
}
SD_AVX2 inline __m256i BroadcastPair(const int16_t* from) {
  int32_t pair = 0;
  std::memcpy(&pair, from, 4);
  return _mm256_set1_epi32(pair);
}

// kPixels x 16 sums stay in registers: 6 pixels take 12 of the 16.
template <int kPixels>
SD_AVX2 void PairsBlock(const Pixel* pixels, const int32_t* offsets, const int16_t* weights,
                        size_t n) {
  __m256i low[kPixels];
  __m256i high[kPixels];
  const int16_t* input[kPixels];
  SD_UNROLL
  for (int p = 0; p < kPixels; ++p) {
    input[p] = pixels[p].input;
    low[p] = LoadVector(pixels[p].acc);
    high[p] = LoadVector(pixels[p].acc + 32);
  }
  for (size_t i = 0; i < n; ++i) {
    const int64_t offset = offsets[i];
    const __m256i w_low = LoadVector(weights + 32 * i);
    const __m256i w_high = LoadVector(weights + 32 * i + 16);
    SD_UNROLL
    for (int p = 0; p < kPixels; ++p) {
      const __m256i x = BroadcastPair(input[p] + offset);
      low[p] = _mm256_add_epi32(low[p], _mm256_madd_epi16(x, w_low));
      high[p] = _mm256_add_epi32(high[p], _mm256_madd_epi16(x, w_high));
    }
  }
  SD_UNROLL
  for (int p = 0; p < kPixels; ++p) {
    StoreVector(pixels[p].acc, low[p]);
    StoreVector(pixels[p].acc + 32, high[p]);
  }
}

SD_AVX2 void PairsAvx2(const Pixel* pixels, size_t n_pixels, const int32_t* offsets,
                       const int16_t* weights, size_t n) {
  size_t p = 0;
  for (; p + 6 <= n_pixels; p += 6) PairsBlock<6>(pixels + p, offsets, weights, n);
  switch (n_pixels - p) {
    case 5:
      return PairsBlock<5>(pixels + p, offsets, weights, n);
    case 4:
      return PairsBlock<4>(pixels + p, offsets, weights, n);
    case 3:
      return PairsBlock<3>(pixels + p, offsets, weights, n);
    case 2:
      return PairsBlock<2>(pixels + p, offsets, weights, n);
    case 1:
      return PairsBlock<1>(pixels + p, offsets, weights, n);
    default:
      return;
  }
}

// Two taps at a time: interleaved, pmaddwd sums their products. Sums are kept in the order that
// the interleaving gives (lanes 0-3 8-11, 4-7 12-15).
template <int kPixels>
SD_AVX2 void LanesBlock(const Pixel* pixels, const int32_t* offsets, const int16_t* weights,
                        size_t n) {
  __m256i low[kPixels];
  __m256i high[kPixels];
  SD_UNROLL
  for (int p = 0; p < kPixels; ++p) low[p] = high[p] = _mm256_setzero_si256();
  for (size_t i = 0; i < n; i += 2) {
    const bool two = i + 1 < n;
    const __m256i w0 = LoadVector(weights + 16 * i);
    const __m256i w1 = two ? LoadVector(weights + 16 * (i + 1)) : _mm256_setzero_si256();
    const __m256i w_low = _mm256_unpacklo_epi16(w0, w1);
    const __m256i w_high = _mm256_unpackhi_epi16(w0, w1);
    const int64_t offset0 = offsets[i];
    const int64_t offset1 = two ? offsets[i + 1] : offset0;
    SD_UNROLL
    for (int p = 0; p < kPixels; ++p) {
      const __m256i x0 = LoadVector(pixels[p].input + offset0);
      const __m256i x1 = LoadVector(pixels[p].input + offset1);
      low[p] = _mm256_add_epi32(low[p], _mm256_madd_epi16(_mm256_unpacklo_epi16(x0, x1), w_low));
      high[p] = _mm256_add_epi32(high[p], _mm256_madd_epi16(_mm256_unpackhi_epi16(x0, x1), w_high));
    }
  }
  SD_UNROLL
  for (int p = 0; p < kPixels; ++p) {
    const __m256i first = _mm256_permute2x128_si256(low[p], high[p], 0x20);
    const __m256i second = _mm256_permute2x128_si256(low[p], high[p], 0x31);
    StoreVector(pixels[p].acc, _mm256_add_epi32(LoadVector(pixels[p].acc), first));
    StoreVector(pixels[p].acc + 32, _mm256_add_epi32(LoadVector(pixels[p].acc + 32), second));
  }
}

SD_AVX2 void LanesAvx2(const Pixel* pixels, size_t n_pixels, const int32_t* offsets,
                       const int16_t* weights, size_t n) {
  size_t p = 0;
  for (; p + 4 <= n_pixels; p += 4) LanesBlock<4>(pixels + p, offsets, weights, n);
  for (; p < n_pixels; ++p) LanesBlock<1>(pixels + p, offsets, weights, n);
}

// (x M0 + 2^30) >> 31, low 32 bits, of the even lanes.
SD_AVX2 inline __m256i HighProduct(__m256i x, __m256i m0) {
  const __m256i nudge = _mm256_set1_epi64x(int64_t{1} << 30);
  return _mm256_srli_epi64(_mm256_add_epi64(_mm256_mul_epi32(x, m0), nudge), 31);
}

SD_AVX2 void RequantAvx2(int32_t* lanes, const RequantWords& words, bool clip) {
  for (int i = 0; i < 16; i += 8) {
    const __m256i right = LoadVector(words.right + i);
    const __m256i m0 = LoadVector(words.m0 + i);
    const __m256i x = _mm256_sllv_epi32(LoadHalves(lanes + i), LoadVector(words.left + i));
    const __m256i even = HighProduct(x, m0);
    const __m256i odd = HighProduct(_mm256_srli_epi64(x, 32), _mm256_srli_epi64(m0, 32));
    const __m256i high = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
    const __m256i one = _mm256_set1_epi32(1);
    const __m256i mask = _mm256_sub_epi32(_mm256_sllv_epi32(one, right), one);
    const __m256i negative = _mm256_srai_epi32(high, 31);  // -1 where high < 0
    const __m256i threshold = _mm256_sub_epi32(_mm256_srai_epi32(mask, 1), negative);
    const __m256i up = _mm256_cmpgt_epi32(_mm256_and_si256(high, mask), threshold);
    __m256i value = _mm256_sub_epi32(_mm256_srav_epi32(high, right), up);
    if (clip) {
      value = _mm256_add_epi32(value, LoadVector(words.zp + i));
      value = _mm256_max_epi32(value, LoadVector(words.lo + i));
      value = _mm256_min_epi32(value, LoadVector(words.hi + i));
    }
    StoreVector(lanes + i, value);
  }
}

// Saturation to int16 and then to 8 bits is saturation to 8 bits. 16-byte loads, because the lanes
// were just written by 16-byte stores.
SD_AVX2 void NarrowAvx2(const int32_t* lanes, uint8_t* to, bool is_signed) {
  const auto* from = reinterpret_cast<const __m128i*>(lanes);
  const __m128i low = _mm_packs_epi32(_mm_loadu_si128(from), _mm_loadu_si128(from + 1));
  const __m128i high = _mm_packs_epi32(_mm_loadu_si128(from + 2), _mm_loadu_si128(from + 3));
  const __m128i bytes = is_signed ? _mm_packs_epi16(low, high) : _mm_packus_epi16(low, high);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bytes);
}
#endif  // SD_X86

const KernelSet& Choose() {
  const char* forced = std::getenv("SD_KERNELS");
  if (forced != nullptr && std::string(forced) == "portable") return PortableKernels();
#if SD_X86
  static const KernelSet avx2 = {"avx2", PairsAvx2, LanesAvx2, RequantAvx2, NarrowAvx2};
  if (__builtin_cpu_supports("avx2")) return avx2;
#endif
  return PortableKernels();
}

}  // namespace

const KernelSet& PortableKernels() {
  static const KernelSet portable = {"portable", PairsPortable, LanesPortable, RequantPortable,
                                     NarrowPortable};
  return portable;
}

const KernelSet& Kernels() {
  static const KernelSet& best = Choose();
  return best;
}

void WidePixels(const Pixel* pixels, size_t n_pixels, const int32_t* offsets,
                const int32_t* weights, size_t n) {
  for (size_t p = 0; p < n_pixels; ++p) {
    uint32_t acc[16];
    std::memcpy(acc, pixels[p].acc, sizeof(acc));
    for (size_t i = 0; i < n; ++i) {
      const auto x = static_cast<uint32_t>(int32_t{pixels[p].input[offsets[i]]});
      const int32_t* w = weights + 16 * i;
      for (int f = 0; f < 16; ++f) acc[f] += x * static_cast<uint32_t>(w[f]);
    }
    std::memcpy(pixels[p].acc, acc, sizeof(acc));
  }
}

}  // namespace sd
