// Sums of products, for AVX2: all forms of weights.
#include <cstring>

#include "avx2.h"

#if defined(__x86_64__)

namespace sd::avx2 {

namespace {

SD_AVX2 inline __m256i BroadcastPair(const int16_t* from) {
  int32_t pair = 0;
  std::memcpy(&pair, from, 4);
  return _mm256_set1_epi32(pair);
}

// kPixels x 16 sums stay in registers: 6 pixels take 12 of the 16.
template <int kPixels>
SD_AVX2 void PairsBlock(const Pixel* pixels, const int32_t* offsets, const int16_t* weights,
                        size_t n, const int32_t* init) {
  __m256i low[kPixels];
  __m256i high[kPixels];
  const int16_t* input[kPixels];
  SD_UNROLL
  for (int p = 0; p < kPixels; ++p) {
    input[p] = pixels[p].input;
    const uint8_t* from = init != nullptr ? reinterpret_cast<const uint8_t*>(init) : pixels[p].acc;
    low[p] = LoadVector(from);
    high[p] = LoadVector(from + 32);
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

}  // namespace

SD_AVX2 void Pairs(const Pixel* pixels, size_t n_pixels, const int32_t* offsets,
                   const int16_t* weights, size_t n, const int32_t* init) {
  size_t p = 0;
  for (; p + 6 <= n_pixels; p += 6) PairsBlock<6>(pixels + p, offsets, weights, n, init);
  switch (n_pixels - p) {
    case 5:
      return PairsBlock<5>(pixels + p, offsets, weights, n, init);
    case 4:
      return PairsBlock<4>(pixels + p, offsets, weights, n, init);
    case 3:
      return PairsBlock<3>(pixels + p, offsets, weights, n, init);
    case 2:
      return PairsBlock<2>(pixels + p, offsets, weights, n, init);
    case 1:
      return PairsBlock<1>(pixels + p, offsets, weights, n, init);
    default:
      return;
  }
}

namespace {

// Two taps at a time: interleaved, pmaddwd sums their products. Sums are kept in the order that
// the interleaving gives (lanes 0-3 8-11, 4-7 12-15).
template <int kPixels>
SD_AVX2 void LanesBlock(const Pixel* pixels, const int32_t* offsets, const int16_t* weights,
                        size_t n, const int32_t* init) {
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
    const uint8_t* from = init != nullptr ? reinterpret_cast<const uint8_t*>(init) : pixels[p].acc;
    StoreVector(pixels[p].acc, _mm256_add_epi32(LoadVector(from), first));
    StoreVector(pixels[p].acc + 32, _mm256_add_epi32(LoadVector(from + 32), second));
  }
}

}  // namespace

SD_AVX2 void Lanes(const Pixel* pixels, size_t n_pixels, const int32_t* offsets,
                   const int16_t* weights, size_t n, const int32_t* init) {
  size_t p = 0;
  for (; p + 4 <= n_pixels; p += 4) LanesBlock<4>(pixels + p, offsets, weights, n, init);
  for (; p < n_pixels; ++p) LanesBlock<1>(pixels + p, offsets, weights, n, init);
}

SD_AVX2 void PackPair(const uint8_t* row0, const uint8_t* row1, int16_t* to) {
  const __m128i a = LoadHalf(row0);
  const __m128i b = LoadHalf(row1);
  StoreVector(to, _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(a, b)));
  StoreVector(to + 16, _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(a, b)));
}

SD_AVX2 void Widen(const uint8_t* from, int16_t* to, size_t n, bool is_signed) {
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const __m128i bytes = LoadHalf(from + i);
    StoreVector(to + i, is_signed ? _mm256_cvtepi8_epi16(bytes) : _mm256_cvtepu8_epi16(bytes));
  }
  for (; i < n; ++i) to[i] = is_signed ? static_cast<int8_t>(from[i]) : int16_t{from[i]};
}

}  // namespace sd::avx2

#endif
