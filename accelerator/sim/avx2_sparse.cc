// Sums of products of kept rows, for AVX2.
#include <algorithm>

#include "avx2.h"

#if defined(__x86_64__)

namespace sd::avx2 {

namespace {

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

}  // namespace

SD_AVX2 void Taps(const uint8_t* input, const TapPair* pairs, size_t n, size_t chain, int32_t* sums,
                  size_t stride, size_t pixels) {
  for (size_t p = 0; p < pixels; p += 32) {
    TapsBlock(input + p, pairs, n, chain, sums + p, stride);
  }
}

SD_AVX2 void Transform(int32_t* to, const Term* terms, size_t n, size_t pixels) {
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
SD_AVX2 void PackTriples(const uint8_t* planes, size_t rows, bool is_signed, uint8_t* block) {
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

namespace {

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

}  // namespace

SD_AVX2 void Triples(const uint8_t* block, const TriplePair* pairs, size_t n, int32_t* sums,
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

SD_AVX2 void Transpose(const uint8_t* const* words, uint8_t* to, size_t stride, uint8_t flip) {
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

namespace {

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

}  // namespace

SD_AVX2 void Scatter(const int32_t* sums, size_t stride, uint8_t* const* words, size_t pixels,
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

}  // namespace sd::avx2

#endif
