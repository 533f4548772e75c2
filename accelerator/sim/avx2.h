#ifndef SD_SIM_AVX2_H_
#define SD_SIM_AVX2_H_

#include "kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define SD_AVX2 __attribute__((target("avx2")))
// Without it gcc keeps arrays of vectors in memory: 48 instead of 75 GMAC/s.
#if defined(__clang__)
#define SD_UNROLL _Pragma("unroll")
#else
#define SD_UNROLL _Pragma("GCC unroll 8")
#endif

namespace sd::avx2 {

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

/*! \brief The kernels, as kernels.h describes them. */
SD_AVX2 void Pairs(const Pixel* pixels, size_t n_pixels, const int32_t* offsets,
                   const int16_t* weights, size_t n, const int32_t* init);
SD_AVX2 void Lanes(const Pixel* pixels, size_t n_pixels, const int32_t* offsets,
                   const int16_t* weights, size_t n, const int32_t* init);
SD_AVX2 void PackPair(const uint8_t* row0, const uint8_t* row1, int16_t* to);
SD_AVX2 void Taps(const uint8_t* input, const TapPair* pairs, size_t n, size_t chain, int32_t* sums,
                  size_t stride, size_t pixels);
SD_AVX2 void Transform(int32_t* to, const Term* terms, size_t n, size_t pixels);
SD_AVX2 void PackTriples(const uint8_t* planes, size_t rows, bool is_signed, uint8_t* block);
SD_AVX2 void Triples(const uint8_t* block, const TriplePair* pairs, size_t n, int32_t* sums,
                     size_t pixels, const int32_t* start);
SD_AVX2 void Transpose(const uint8_t* const* words, uint8_t* to, size_t stride, uint8_t flip);
SD_AVX2 void Scatter(const int32_t* sums, size_t stride, uint8_t* const* words, size_t pixels,
                     bool add);
SD_AVX2 void Requant(int32_t* lanes, const RequantWords& words, bool clip);
SD_AVX2 void RequantRow(const uint8_t* from, size_t from_stride, uint8_t* to, size_t to_stride,
                        size_t n, const RequantWords& words, bool is_signed);
SD_AVX2 void Narrow(const int32_t* lanes, uint8_t* to, bool is_signed);
SD_AVX2 void Widen(const uint8_t* from, int16_t* to, size_t n, bool is_signed);
SD_AVX2 void Digits(const uint8_t* from, uint8_t* to, size_t n, bool is_signed);
SD_AVX2 void Most(const uint8_t* words, size_t n, size_t stride, uint8_t* most);
SD_AVX2 void Sum(const uint8_t* words, size_t n, size_t stride, uint32_t* sums);
SD_AVX2 void ChunkSums(const uint8_t* from, size_t chunk, size_t n, uint8_t* to);
SD_AVX2 uint32_t Largest(const uint8_t* const* lines, size_t offset, const ByteRun* runs, size_t n);
SD_AVX2 uint64_t Picks(const PickUnits& units, const PickValues& values, uint16_t* masks);

}  // namespace sd::avx2

#endif  // __x86_64__

#endif  // SD_SIM_AVX2_H_
