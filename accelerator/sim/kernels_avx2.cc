// The inner loops for AVX2.
#include <algorithm>
#include <cstring>

#include "kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

namespace sd {
namespace {

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
SD_AVX2 inline __m128i LoadHalf(const void* from) {
  return _mm_loadu_si128(static_cast<const __m128i*>(from));
}
// As LoadVector, of bytes that 16-byte stores just wrote.
SD_AVX2 inline __m256i LoadHalves(const int32_t* from) {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(LoadHalf(from)), LoadHalf(from + 4), 1);
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

SD_AVX2 void PairsAvx2(const Pixel* pixels, size_t n_pixels, const int32_t* offsets,
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

SD_AVX2 void LanesAvx2(const Pixel* pixels, size_t n_pixels, const int32_t* offsets,
                       const int16_t* weights, size_t n, const int32_t* init) {
  size_t p = 0;
  for (; p + 4 <= n_pixels; p += 4) LanesBlock<4>(pixels + p, offsets, weights, n, init);
  for (; p < n_pixels; ++p) LanesBlock<1>(pixels + p, offsets, weights, n, init);
}

SD_AVX2 void PackPairAvx2(const uint8_t* row0, const uint8_t* row1, int16_t* to) {
  const __m128i a = LoadHalf(row0);
  const __m128i b = LoadHalf(row1);
  StoreVector(to, _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(a, b)));
  StoreVector(to + 16, _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(a, b)));
}

// int16 sums add up in int32, even and odd lanes apart (pmaddwd with 1 and 0), until all pairs are
// in.
SD_AVX2 void TapsBlock(const uint8_t* x, const TapPair* pairs, size_t n, size_t chain,
                       int32_t* sums, size_t stride) {
  const __m256i even = _mm256_set1_epi32(1);
  const __m256i odd = _mm256_set1_epi32(1 << 16);
  __m256i wide[12];  // [code][pixels 0-7 16-23, 8-15 24-31][even, odd]
  for (__m256i& sum : wide) sum = _mm256_setzero_si256();
  for (size_t i = 0; i < n;) {
    const size_t end = std::min(n, i + chain);
    __m256i half[6];
    SD_UNROLL
    for (__m256i& sum : half) sum = _mm256_setzero_si256();
    for (; i < end; ++i) {
      const __m256i x0 = LoadVector(x + pairs[i].offset[0]);
      const __m256i x1 = LoadVector(x + pairs[i].offset[1]);
      const __m256i x_low = _mm256_unpacklo_epi8(x0, x1);
      const __m256i x_high = _mm256_unpackhi_epi8(x0, x1);
      SD_UNROLL
      for (int k = 0; k < 3; ++k) {
        const __m256i code = _mm256_set1_epi32(pairs[i].code[k]);
        half[2 * k] = _mm256_add_epi16(half[2 * k], _mm256_maddubs_epi16(x_low, code));
        half[2 * k + 1] = _mm256_add_epi16(half[2 * k + 1], _mm256_maddubs_epi16(x_high, code));
      }
    }
    SD_UNROLL
    for (int s = 0; s < 6; ++s) {
      wide[2 * s] = _mm256_add_epi32(wide[2 * s], _mm256_madd_epi16(half[s], even));
      wide[2 * s + 1] = _mm256_add_epi32(wide[2 * s + 1], _mm256_madd_epi16(half[s], odd));
    }
  }
  SD_UNROLL
  for (int s = 0; s < 6; ++s) {
    const __m256i low = _mm256_unpacklo_epi32(wide[2 * s], wide[2 * s + 1]);
    const __m256i high = _mm256_unpackhi_epi32(wide[2 * s], wide[2 * s + 1]);
    int32_t* to = sums + s / 2 * stride + s % 2 * 8;
    StoreVector(to, _mm256_permute2x128_si256(low, high, 0x20));
    StoreVector(to + 16, _mm256_permute2x128_si256(low, high, 0x31));
  }
}

SD_AVX2 void TapsAvx2(const uint8_t* input, const TapPair* pairs, size_t n, size_t chain,
                      int32_t* sums, size_t stride, size_t pixels) {
  for (size_t p = 0; p < pixels; p += 32) {
    TapsBlock(input + p, pairs, n, chain, sums + p, stride);
  }
}

SD_AVX2 void TransformAvx2(int32_t* to, const Term* terms, size_t n, size_t pixels) {
  for (size_t p = 0; p < pixels; p += 32) {
    __m256i sum[4];
    SD_UNROLL
    for (int v = 0; v < 4; ++v) sum[v] = LoadVector(to + p + 8 * v);
    for (size_t i = 0; i < n; ++i) {
      const __m256i factor = _mm256_set1_epi32(terms[i].factor);
      SD_UNROLL
      for (int v = 0; v < 4; ++v) {
        const __m256i from = LoadVector(terms[i].from + p + 8 * v);
        sum[v] = _mm256_add_epi32(sum[v], _mm256_mullo_epi32(from, factor));
      }
    }
    SD_UNROLL
    for (int v = 0; v < 4; ++v) StoreVector(to + p + 8 * v, sum[v]);
  }
}

// 16 pixels of a row: (channel 0, channel 1) of pixels 0-7 and of 8-15; channel 2 of pixels 0-3
// 8-11 4-7 12-15, so that interleaving two rows gives pixels 0-7 and 8-15.
SD_AVX2 void PackTriplesAvx2(const uint8_t* planes, size_t rows, bool is_signed, uint8_t* block) {
  for (size_t row = 0; row < rows; ++row) {
    for (size_t p = 0; p < kBlockPixels; p += 16) {
      __m256i x[3];
      SD_UNROLL
      for (int c = 0; c < 3; ++c) {
        const __m128i bytes = LoadHalf(planes + (3 * row + c) * kBlockPixels + p);
        const __m256i wide = is_signed ? _mm256_cvtepi8_epi16(bytes) : _mm256_cvtepu8_epi16(bytes);
        x[c] = _mm256_permute4x64_epi64(wide, 0xD8);
      }
      uint8_t* to = block + row * kTripleBytes + p / 16 * 96;
      StoreVector(to, _mm256_unpacklo_epi16(x[0], x[1]));
      StoreVector(to + 32, _mm256_unpackhi_epi16(x[0], x[1]));
      StoreVector(to + 64, x[2]);
    }
  }
}

template <int kGroups>
SD_AVX2 void TriplesBlock(const uint8_t* block, const TriplePair* pairs, size_t n, int32_t* sums,
                          const int32_t* start) {
  __m256i low[kGroups];
  __m256i high[kGroups];
  SD_UNROLL
  for (int g = 0; g < kGroups; ++g) {
    low[g] = start != nullptr ? _mm256_set1_epi32(*start) : LoadVector(sums + 16 * g);
    high[g] = start != nullptr ? low[g] : LoadVector(sums + 16 * g + 8);
  }
  for (size_t i = 0; i < n; ++i) {
    const uint8_t* x0 = block + pairs[i].offset[0];
    const uint8_t* x1 = block + pairs[i].offset[1];
    const __m256i w0 = _mm256_set1_epi32(pairs[i].weight[0]);
    const __m256i w1 = _mm256_set1_epi32(pairs[i].weight[1]);
    const __m256i w2 = _mm256_set1_epi32(pairs[i].weight[2]);
    SD_UNROLL
    for (int g = 0; g < kGroups; ++g) {
      const __m256i a = LoadVector(x0 + 96 * g + 64);
      const __m256i b = LoadVector(x1 + 96 * g + 64);
      low[g] = _mm256_add_epi32(low[g], _mm256_madd_epi16(LoadVector(x0 + 96 * g), w0));
      high[g] = _mm256_add_epi32(high[g], _mm256_madd_epi16(LoadVector(x0 + 96 * g + 32), w0));
      low[g] = _mm256_add_epi32(low[g], _mm256_madd_epi16(LoadVector(x1 + 96 * g), w1));
      high[g] = _mm256_add_epi32(high[g], _mm256_madd_epi16(LoadVector(x1 + 96 * g + 32), w1));
      low[g] = _mm256_add_epi32(low[g], _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), w2));
      high[g] = _mm256_add_epi32(high[g], _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), w2));
    }
  }
  SD_UNROLL
  for (int g = 0; g < kGroups; ++g) {
    StoreVector(sums + 16 * g, low[g]);
    StoreVector(sums + 16 * g + 8, high[g]);
  }
}

// 8 pixels; three sums, as one would wait for itself.
SD_AVX2 void TriplesHalf(const uint8_t* block, const TriplePair* pairs, size_t n, int32_t* sums,
                         const int32_t* start) {
  __m256i sum[3] = {start != nullptr ? _mm256_set1_epi32(*start) : LoadVector(sums),
                    _mm256_setzero_si256(), _mm256_setzero_si256()};
  for (size_t i = 0; i < n; ++i) {
    const uint8_t* x0 = block + pairs[i].offset[0];
    const uint8_t* x1 = block + pairs[i].offset[1];
    const __m256i third = _mm256_unpacklo_epi16(LoadVector(x0 + 64), LoadVector(x1 + 64));
    const __m256i w0 = _mm256_set1_epi32(pairs[i].weight[0]);
    const __m256i w1 = _mm256_set1_epi32(pairs[i].weight[1]);
    const __m256i w2 = _mm256_set1_epi32(pairs[i].weight[2]);
    sum[0] = _mm256_add_epi32(sum[0], _mm256_madd_epi16(LoadVector(x0), w0));
    sum[1] = _mm256_add_epi32(sum[1], _mm256_madd_epi16(LoadVector(x1), w1));
    sum[2] = _mm256_add_epi32(sum[2], _mm256_madd_epi16(third, w2));
  }
  StoreVector(sums, _mm256_add_epi32(_mm256_add_epi32(sum[0], sum[1]), sum[2]));
}

SD_AVX2 void TriplesAvx2(const uint8_t* block, const TriplePair* pairs, size_t n, int32_t* sums,
                         size_t pixels, const int32_t* start) {
  switch (pixels / 16) {
    case 4:
      return TriplesBlock<4>(block, pairs, n, sums, start);
    case 3:
      return TriplesBlock<3>(block, pairs, n, sums, start);
    case 2:
      return TriplesBlock<2>(block, pairs, n, sums, start);
    case 1:
      return TriplesBlock<1>(block, pairs, n, sums, start);
    default:
      return TriplesHalf(block, pairs, n, sums, start);
  }
}

SD_AVX2 void TransposeAvx2(const uint8_t* const* words, uint8_t* to, size_t stride, uint8_t flip) {
  __m128i a[16];
  __m128i b[16];
  // After round k, element i of row j is what ends up in row i of column j once bits have rotated.
  const __m128i mask = _mm_set1_epi8(static_cast<char>(flip));
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) a[i] = _mm_xor_si128(LoadHalf(words[i]), mask);
  for (int round = 0; round < 4; ++round) {
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      b[2 * i] = _mm_unpacklo_epi8(a[i], a[i + 8]);
      b[2 * i + 1] = _mm_unpackhi_epi8(a[i], a[i + 8]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) a[i] = b[i];
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i * stride), a[i]);
  }
}

// Rows of 8 filters x 8 pixels to 8 pixels x 8 filters.
SD_AVX2 inline void Transpose8(__m256i* v) {
  __m256i t[8];
  __m256i u[8];
  SD_UNROLL
  for (int i = 0; i < 4; ++i) {
    t[2 * i] = _mm256_unpacklo_epi32(v[2 * i], v[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_epi32(v[2 * i], v[2 * i + 1]);
  }
  SD_UNROLL
  for (int i = 0; i < 2; ++i) {
    u[4 * i] = _mm256_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
    u[4 * i + 1] = _mm256_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    u[4 * i + 2] = _mm256_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
    u[4 * i + 3] = _mm256_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  }
  SD_UNROLL
  for (int i = 0; i < 4; ++i) {
    v[i] = _mm256_permute2x128_si256(u[i], u[i + 4], 0x20);
    v[i + 4] = _mm256_permute2x128_si256(u[i], u[i + 4], 0x31);
  }
}

SD_AVX2 void ScatterAvx2(const int32_t* sums, size_t stride, uint8_t* const* words, size_t pixels,
                         bool add) {
  for (size_t p = 0; p < pixels; p += 8) {
    const size_t n = std::min<size_t>(8, pixels - p);
    for (size_t half = 0; half < 2; ++half) {
      __m256i v[8];
      SD_UNROLL
      for (int f = 0; f < 8; ++f) v[f] = LoadVector(sums + (8 * half + f) * stride + p);
      Transpose8(v);
      if (n == 8 && !add) {
        SD_UNROLL
        for (int i = 0; i < 8; ++i) StoreVector(words[p + i] + 32 * half, v[i]);
        continue;
      }
      for (size_t i = 0; i < n; ++i) {
        uint8_t* to = words[p + i] + 32 * half;
        StoreVector(to, add ? _mm256_add_epi32(LoadVector(to), v[i]) : v[i]);
      }
    }
  }
}

// Words of 8 lanes as vectors, and what follows from them.
struct Quantisation {
  __m256i left;
  __m256i m0;
  __m256i m0_odd;  // of the odd lanes
  __m256i right;
  __m256i mask;       // bits that the right shift drops
  __m256i threshold;  // more in them rounds up, one more for negative values
  __m256i zp;
  __m256i lo;
  __m256i hi;
};

SD_AVX2 inline Quantisation LoadQuantisation(const RequantWords& words, int i) {
  Quantisation q;
  const __m256i one = _mm256_set1_epi32(1);
  q.left = LoadVector(words.left + i);
  q.m0 = LoadVector(words.m0 + i);
  q.m0_odd = _mm256_srli_epi64(q.m0, 32);
  q.right = LoadVector(words.right + i);
  q.mask = _mm256_sub_epi32(_mm256_sllv_epi32(one, q.right), one);
  q.threshold = _mm256_srai_epi32(q.mask, 1);
  q.zp = LoadVector(words.zp + i);
  q.lo = LoadVector(words.lo + i);
  q.hi = LoadVector(words.hi + i);
  return q;
}

// Of 8 lanes, already shifted left.
SD_AVX2 inline __m256i Requant8(__m256i x, const Quantisation& q, bool clip) {
  // (x M0 + 2^30) >> 31, low 32 bits, of the even and of the odd lanes.
  const __m256i nudge = _mm256_set1_epi64x(int64_t{1} << 30);
  const __m256i even = _mm256_add_epi64(_mm256_mul_epi32(x, q.m0), nudge);
  const __m256i odd = _mm256_add_epi64(_mm256_mul_epi32(_mm256_srli_epi64(x, 32), q.m0_odd), nudge);
  const __m256i high =
      _mm256_blend_epi32(_mm256_srli_epi64(even, 31), _mm256_slli_epi64(odd, 1), 0xAA);
  // threshold - (-1 where high < 0)
  const __m256i threshold = _mm256_sub_epi32(q.threshold, _mm256_srai_epi32(high, 31));
  const __m256i up = _mm256_cmpgt_epi32(_mm256_and_si256(high, q.mask), threshold);
  __m256i value = _mm256_sub_epi32(_mm256_srav_epi32(high, q.right), up);
  if (clip) {
    value = _mm256_add_epi32(value, q.zp);
    value = _mm256_min_epi32(_mm256_max_epi32(value, q.lo), q.hi);
  }
  return value;
}

SD_AVX2 void RequantAvx2(int32_t* lanes, const RequantWords& words, bool clip) {
  for (int i = 0; i < 16; i += 8) {
    const Quantisation q = LoadQuantisation(words, i);
    const __m256i x = _mm256_sllv_epi32(LoadHalves(lanes + i), q.left);
    StoreVector(lanes + i, Requant8(x, q, clip));
  }
}

// Saturation to int16 and then to 8 bits is saturation to 8 bits.
template <bool kLeft, bool kSigned>
SD_AVX2 void RequantRow(const uint8_t* from, size_t from_stride, uint8_t* to, size_t to_stride,
                        size_t n, const RequantWords& words) {
  const Quantisation first = LoadQuantisation(words, 0);
  const Quantisation second = LoadQuantisation(words, 8);
  for (size_t i = 0; i < n; ++i, from += from_stride, to += to_stride) {
    __m256i x0 = LoadVector(from);
    __m256i x1 = LoadVector(from + 32);
    if (kLeft) {
      x0 = _mm256_sllv_epi32(x0, first.left);
      x1 = _mm256_sllv_epi32(x1, second.left);
    }
    const __m256i low = Requant8(x0, first, true);
    const __m256i high = Requant8(x1, second, true);
    // Lanes 0-3 8-11 4-7 12-15.
    const __m256i both = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xD8);
    const __m128i a = _mm256_castsi256_si128(both);
    const __m128i b = _mm256_extracti128_si256(both, 1);
    const __m128i bytes = kSigned ? _mm_packs_epi16(a, b) : _mm_packus_epi16(a, b);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bytes);
  }
}

SD_AVX2 void RequantRowAvx2(const uint8_t* from, size_t from_stride, uint8_t* to, size_t to_stride,
                            size_t n, const RequantWords& words, bool is_signed) {
  int32_t left = 0;
  for (const int32_t amount : words.left) left |= amount;
  auto* const run = left != 0 ? (is_signed ? RequantRow<true, true> : RequantRow<true, false>)
                              : (is_signed ? RequantRow<false, true> : RequantRow<false, false>);
  run(from, from_stride, to, to_stride, n, words);
}

// 16-byte loads, because the lanes were just written by 16-byte stores.
SD_AVX2 void NarrowAvx2(const int32_t* lanes, uint8_t* to, bool is_signed) {
  const __m128i low = _mm_packs_epi32(LoadHalf(lanes), LoadHalf(lanes + 4));
  const __m128i high = _mm_packs_epi32(LoadHalf(lanes + 8), LoadHalf(lanes + 12));
  const __m128i bytes = is_signed ? _mm_packs_epi16(low, high) : _mm_packus_epi16(low, high);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bytes);
}

SD_AVX2 void WidenAvx2(const uint8_t* from, int16_t* to, size_t n, bool is_signed) {
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const __m128i bytes = LoadHalf(from + i);
    StoreVector(to + i, is_signed ? _mm256_cvtepi8_epi16(bytes) : _mm256_cvtepu8_epi16(bytes));
  }
  for (; i < n; ++i) to[i] = is_signed ? static_cast<int8_t>(from[i]) : int16_t{from[i]};
}

}  // namespace

const KernelSet* Avx2Kernels() {
  static const KernelSet avx2 = {"avx2",        PairsAvx2,     LanesAvx2,       PackPairAvx2,
                                 TapsAvx2,      TransformAvx2, PackTriplesAvx2, TriplesAvx2,
                                 TransposeAvx2, ScatterAvx2,   RequantAvx2,     RequantRowAvx2,
                                 NarrowAvx2,    WidenAvx2};
  return __builtin_cpu_supports("avx2") ? &avx2 : nullptr;
}

}  // namespace sd

#else

namespace sd {
const KernelSet* Avx2Kernels() { return nullptr; }
}  // namespace sd

#endif
