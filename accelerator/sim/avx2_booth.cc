// Loops of the bit-serial array's time, for AVX2.
#include <algorithm>

#include "avx2.h"

#if defined(__x86_64__)

namespace sd::avx2 {
namespace {

/*! \brief Sum of the bytes of a vector, as the two numbers that psadbw leaves. */
SD_AVX2 inline __m128i SumHalves(__m256i sums) {
  return _mm_add_epi64(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
}

SD_AVX2 inline __m256i BothHalves(const uint8_t* table) {
  return _mm256_broadcastsi128_si256(LoadHalf(table));
}

// Digit i is zero if bits 2i + 1, 2i and 2i - 1 are equal, that is if bits 2i + 1 and 2i of
// x ^ 2x are zero; an unsigned byte has a fifth digit, its bit 7.
SD_AVX2 inline __m256i DigitsOf(__m256i x, __m256i pairs, __m256i fifth) {
  const __m256i nibble = _mm256_set1_epi8(15);
  const __m256i edges = _mm256_xor_si256(x, _mm256_add_epi8(x, x));
  const __m256i low = _mm256_shuffle_epi8(pairs, _mm256_and_si256(edges, nibble));
  const __m256i high =
      _mm256_shuffle_epi8(pairs, _mm256_and_si256(_mm256_srli_epi16(edges, 4), nibble));
  const __m256i top = _mm256_and_si256(_mm256_cmpgt_epi8(_mm256_setzero_si256(), x), fifth);
  return _mm256_add_epi8(_mm256_add_epi8(low, high), top);
}

/*! \brief OR over 8 filters of the four bytes that each has. */
SD_AVX2 inline __m128i OrOfFilters(__m256i bits) {
  __m128i x = _mm_or_si128(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1));
  x = _mm_or_si128(x, _mm_srli_si128(x, 8));
  return _mm_or_si128(x, _mm_srli_si128(x, 4));
}

}  // namespace

SD_AVX2 void Digits(const uint8_t* from, uint8_t* to, size_t n, bool is_signed) {
  alignas(16) static constexpr uint8_t kPairs[16] = {0, 1, 1, 1, 1, 2, 2, 2,
                                                     1, 2, 2, 2, 1, 2, 2, 2};
  const __m256i pairs = BothHalves(kPairs);
  const __m256i fifth = _mm256_set1_epi8(is_signed ? 0 : 1);
  size_t i = 0;
  for (; i + 32 <= n; i += 32) {
    StoreVector(to + i, DigitsOf(LoadVector(from + i), pairs, fifth));
  }
  for (; i + 16 <= n; i += 16) {
    const __m256i value = DigitsOf(_mm256_castsi128_si256(LoadHalf(from + i)), pairs, fifth);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), _mm256_castsi256_si128(value));
  }
  PortableKernels().digits(from + i, to + i, n - i, is_signed);
}

SD_AVX2 void Most(const uint8_t* words, size_t n, size_t stride, uint8_t* most) {
  __m128i a = _mm_setzero_si128();
  __m128i b = a;
  size_t i = 0;
  if (stride == 16) {  // two words at once
    __m256i c = _mm256_setzero_si256();
    __m256i d = c;
    for (; i + 4 <= n; i += 4) {
      c = _mm256_max_epu8(c, LoadVector(words + i * 16));
      d = _mm256_max_epu8(d, LoadVector(words + i * 16 + 32));
    }
    c = _mm256_max_epu8(c, d);
    a = _mm256_castsi256_si128(c);
    b = _mm256_extracti128_si256(c, 1);
  }
  for (; i + 2 <= n; i += 2) {
    a = _mm_max_epu8(a, LoadHalf(words + i * stride));
    b = _mm_max_epu8(b, LoadHalf(words + (i + 1) * stride));
  }
  if (i < n) a = _mm_max_epu8(a, LoadHalf(words + i * stride));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(most), _mm_max_epu8(a, b));
}

SD_AVX2 void Sum(const uint8_t* words, size_t n, size_t stride, uint32_t* sums) {
  constexpr size_t kChain = 48;  // words whose bytes, at most 5 each, add up in a byte
  __m256i low = LoadVector(sums);
  __m256i high = LoadVector(sums + 8);
  for (size_t first = 0; first < n; first += kChain) {
    const size_t last = std::min(n, first + kChain);
    __m128i a = _mm_setzero_si128();
    __m128i b = a;
    size_t i = first;
    for (; i + 2 <= last; i += 2) {
      a = _mm_add_epi8(a, LoadHalf(words + i * stride));
      b = _mm_add_epi8(b, LoadHalf(words + (i + 1) * stride));
    }
    if (i < last) a = _mm_add_epi8(a, LoadHalf(words + i * stride));
    a = _mm_add_epi8(a, b);
    low = _mm256_add_epi32(low, _mm256_cvtepu8_epi32(a));
    high = _mm256_add_epi32(high, _mm256_cvtepu8_epi32(_mm_srli_si128(a, 8)));
  }
  StoreVector(sums, low);
  StoreVector(sums + 8, high);
}

namespace {

/*! \brief Sums of three neighbours. */
SD_AVX2 inline __m128i SumsOf3(const uint8_t* from) {
  return _mm_add_epi8(_mm_add_epi8(LoadHalf(from), LoadHalf(from + 1)), LoadHalf(from + 2));
}

/*! \brief 16 sums of three bytes. */
SD_AVX2 inline void ChunkSumsOf3(const uint8_t* from, uint8_t* to) {
  const __m128i first = _mm_setr_epi8(0, 3, 6, 9, 12, 15, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
  const __m128i second = _mm_setr_epi8(-1, -1, -1, -1, -1, -1, 2, 5, 8, 11, 14, -1, -1, -1, -1, -1);
  const __m128i third = _mm_setr_epi8(-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 1, 4, 7, 10, 13);
  const __m128i low = _mm_or_si128(_mm_shuffle_epi8(SumsOf3(from), first),
                                   _mm_shuffle_epi8(SumsOf3(from + 16), second));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                   _mm_or_si128(low, _mm_shuffle_epi8(SumsOf3(from + 32), third)));
}

}  // namespace

SD_AVX2 void ChunkSums(const uint8_t* from, size_t chunk, size_t n, uint8_t* to) {
  if (chunk != 3 || n < 16) return PortableKernels().chunk_sums(from, chunk, n, to);
  for (size_t i = 0; i + 16 < n; i += 16) ChunkSumsOf3(from + 3 * i, to + i);
  ChunkSumsOf3(from + 3 * (n - 16), to + n - 16);
}

SD_AVX2 uint32_t Largest(const uint8_t* const* lines, size_t offset, const ByteRun* runs,
                         size_t n) {
  // 16 bytes from place 16 - k on: k bytes of ones.
  alignas(16) static constexpr uint8_t kOnes[32] = {255, 255, 255, 255, 255, 255, 255, 255,
                                                    255, 255, 255, 255, 255, 255, 255, 255};
  __m128i most = _mm_setzero_si128();
  for (size_t i = 0; i < n; ++i) {
    const uint8_t* from = lines[runs[i].line] + offset + runs[i].first;
    size_t left = runs[i].count;
    for (; left >= 16; left -= 16, from += 16) most = _mm_max_epu8(most, LoadHalf(from));
    const __m128i mask = LoadHalf(kOnes + 16 - left);
    most = _mm_max_epu8(most, _mm_and_si128(LoadHalf(from), mask));
  }
  // The least of 8 uint16, of the complements of the larger of two bytes.
  most = _mm_max_epu8(most, _mm_srli_epi16(most, 8));
  const __m128i rest = _mm_xor_si128(_mm_and_si128(most, _mm_set1_epi16(255)), _mm_set1_epi16(255));
  return 255U - static_cast<uint32_t>(_mm_extract_epi16(_mm_minpos_epu16(rest), 0));
}

namespace {

template <bool kTwoTables>
SD_AVX2 uint64_t PicksOf(const PickUnits& units, const PickValues& values, uint16_t* masks) {
  alignas(16) static constexpr uint8_t kLowBits[16] = {1, 2, 4, 8, 16, 32, 64, 128};
  alignas(16) static constexpr uint8_t kHighBits[16] = {0, 0, 0, 0, 0,  0,  0,  0,
                                                        1, 2, 4, 8, 16, 32, 64, 128};
  const __m256i nibble = _mm256_set1_epi8(15);
  const __m256i zero = _mm256_setzero_si256();
  const __m256i low_bits = BothHalves(kLowBits);
  const __m256i high_bits = BothHalves(kHighBits);
  const __m256i slots = _mm256_set1_epi32(
      static_cast<int32_t>(units.slots >= 4 ? ~uint32_t{0} : (1U << 8 * units.slots) - 1));
  const __m256i filter = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i second_half = _mm256_set1_epi32(static_cast<int32_t>(0xFFFF0000U));
  __m256i table[4] = {zero, zero, zero, zero};
  __m256i table2[4] = {zero, zero, zero, zero};
  __m256i sum[4] = {zero, zero, zero, zero};
  for (size_t b = 0; b < values.bytes; ++b) {
    table[b] = BothHalves(values.low + 16 * b);
    table2[b] = BothHalves(values.high + 16 * b);
  }
  __m256i low = zero;
  __m256i high = zero;
  const uint8_t* unit = units.first;
  for (size_t f = 0; f < units.filters; f += 8, unit += units.stride) {
    __m256i valid = slots;
    if (units.filters - f < 8) {
      const auto left = _mm256_set1_epi32(static_cast<int32_t>(units.filters - f));
      valid = _mm256_and_si256(valid, _mm256_cmpgt_epi32(left, filter));
    }
    // Bit 7 of an index makes pshufb give zero.
    const __m256i row = _mm256_or_si256(_mm256_and_si256(LoadVector(unit), nibble),
                                        _mm256_andnot_si256(valid, _mm256_set1_epi8(-128)));
    low = _mm256_or_si256(low, _mm256_shuffle_epi8(low_bits, row));
    high = _mm256_or_si256(high, _mm256_shuffle_epi8(high_bits, row));
    SD_UNROLL
    for (int b = 0; b < 4; ++b) {
      if (static_cast<size_t>(b) >= values.bytes) break;
      __m256i value = _mm256_shuffle_epi8(table[b], row);
      if (kTwoTables) {
        value = _mm256_blendv_epi8(value, _mm256_shuffle_epi8(table2[b], row), second_half);
      }
      sum[b] = _mm256_add_epi64(sum[b], _mm256_sad_epu8(value, zero));
    }
  }
  const __m128i both = _mm_unpacklo_epi8(OrOfFilters(low), OrOfFilters(high));
  alignas(16) uint16_t found[8];
  _mm_store_si128(reinterpret_cast<__m128i*>(found), both);
  for (size_t slot = 0; slot < units.slots; ++slot) masks[slot] |= found[slot];
  uint64_t total = 0;
  for (size_t b = 0; b < values.bytes; ++b) {
    const __m128i halves = SumHalves(sum[b]);
    const auto bytes = static_cast<uint64_t>(_mm_cvtsi128_si64(halves)) +
                       static_cast<uint64_t>(_mm_extract_epi64(halves, 1));
    total += bytes << 8 * b;
  }
  return total;
}

}  // namespace

SD_AVX2 uint64_t Picks(const PickUnits& units, const PickValues& values, uint16_t* masks) {
  return values.low == values.high ? PicksOf<false>(units, values, masks)
                                   : PicksOf<true>(units, values, masks);
}

}  // namespace sd::avx2

#endif
