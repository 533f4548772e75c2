// From sums to bytes, for AVX2.
#include "avx2.h"

#if defined(__x86_64__)

namespace sd::avx2 {

namespace {

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

}  // namespace

SD_AVX2 void Requant(int32_t* lanes, const RequantWords& words, bool clip) {
  for (int i = 0; i < 16; i += 8) {
    const Quantisation q = LoadQuantisation(words, i);
    const __m256i x = _mm256_sllv_epi32(LoadHalves(lanes + i), q.left);
    StoreVector(lanes + i, Requant8(x, q, clip));
  }
}

namespace {

// Saturation to int16 and then to 8 bits is saturation to 8 bits.
template <bool kLeft, bool kSigned>
SD_AVX2 void RequantRowOf(const uint8_t* from, size_t from_stride, uint8_t* to, size_t to_stride,
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

}  // namespace

SD_AVX2 void RequantRow(const uint8_t* from, size_t from_stride, uint8_t* to, size_t to_stride,
                        size_t n, const RequantWords& words, bool is_signed) {
  int32_t left = 0;
  for (const int32_t amount : words.left) left |= amount;
  auto* const run = left != 0
                        ? (is_signed ? RequantRowOf<true, true> : RequantRowOf<true, false>)
                        : (is_signed ? RequantRowOf<false, true> : RequantRowOf<false, false>);
  run(from, from_stride, to, to_stride, n, words);
}

// 16-byte loads, because the lanes were just written by 16-byte stores.
SD_AVX2 void Narrow(const int32_t* lanes, uint8_t* to, bool is_signed) {
  const __m128i low = _mm_packs_epi32(LoadHalf(lanes), LoadHalf(lanes + 4));
  const __m128i high = _mm_packs_epi32(LoadHalf(lanes + 8), LoadHalf(lanes + 12));
  const __m128i bytes = is_signed ? _mm_packs_epi16(low, high) : _mm_packus_epi16(low, high);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bytes);
}

}  // namespace sd::avx2

#endif
