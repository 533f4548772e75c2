#ifndef SD_SIM_KERNELS_H_
#define SD_SIM_KERNELS_H_

#include <cstddef>
#include <cstdint>

namespace sd {

/*! \brief Requantisation parameters of 16 lanes. */
struct RequantWords {
  int32_t m0[16];
  int32_t left[16];
  int32_t right[16];
  int32_t zp[16];
  int32_t lo[16];
  int32_t hi[16];
};

/*! \brief One output pixel of a GEMM: where its inputs start and where its 16 sums are. */
struct Pixel {
  const int16_t* input;
  uint8_t* acc;  // 16 int32, any alignment
};

/*!
 * \brief acc[0..15] += sum over i, j of input[offsets[i] + j] * weights[i][filter][j], j < 2.
 *
 * weights: int16 [n][16][2]. Sums are modulo 2^32. `init` replaces acc if it is not null.
 */
using PairsFn = void (*)(const Pixel* pixels, size_t n_pixels, const int32_t* offsets,
                         const int16_t* weights, size_t n, const int32_t* init);

/*!
 * \brief acc[lane] += sum over i of input[offsets[i] + lane] * weights[i][lane] (depthwise).
 *
 * weights: int16 [n][16]. `init` replaces acc if it is not null.
 */
using LanesFn = void (*)(const Pixel* pixels, size_t n_pixels, const int32_t* offsets,
                         const int16_t* weights, size_t n, const int32_t* init);

/*! \brief to[f][j] = rows[j][f] as int16: weights of PairsFn from two rows of 16 bytes. */
using PackPairFn = void (*)(const uint8_t* row0, const uint8_t* row1, int16_t* to);

/*! \brief Two kept rows of a filter, for TapsFn. */
struct TapPair {
  int32_t offset[2];  // of the rows' inputs
  int32_t code[3];    // bytes (code of row 0, code of row 1) twice
};

/*!
 * \brief sums[k * stride + p] = sum over pairs, i of input[offset[i] + p] * code[k] of row i.
 *
 * \param chain Pairs whose products add up in int16 whatever the input is.
 * \param pixels Multiple of 32.
 */
using TapsFn = void (*)(const uint8_t* input, const TapPair* pairs, size_t n, size_t chain,
                        int32_t* sums, size_t stride, size_t pixels);

/*! \brief One term of TransformFn. */
struct Term {
  const int32_t* from;
  int32_t factor;
};

/*! \brief to[p] += sum over terms of from[p] * factor; pixels: multiple of 32. */
using TransformFn = void (*)(int32_t* to, const Term* terms, size_t n, size_t pixels);

/*! \brief Pixels of a block of PackTriplesFn, and its bytes for a row of three channels. */
constexpr size_t kBlockPixels = 64;
constexpr size_t kTripleBytes = 6 * kBlockPixels;

/*! \brief Two kept rows of three channels, for TriplesFn. */
struct TriplePair {
  uint32_t offset[2];  // bytes: row * kTripleBytes
  int32_t weight[3];   // int16 pairs: channels 0, 1 of row 0; of row 1; channel 2 of both
};

/*!
 * \brief Planes of kBlockPixels bytes (3 a row) to the layout that TriplesFn reads.
 *
 * The layout is that of the kernel set.
 */
using PackTriplesFn = void (*)(const uint8_t* planes, size_t rows, bool is_signed, uint8_t* block);

/*!
 * \brief sums[p] += sum over pairs, rows, channels.
 *
 * \param pixels 8 or a multiple of 16, <= kBlockPixels.
 * \param start Replaces sums if it is not null.
 */
using TriplesFn = void (*)(const uint8_t* block, const TriplePair* pairs, size_t n, int32_t* sums,
                           size_t pixels, const int32_t* start);

/*! \brief to[lane * stride + i] = words[i][lane] ^ flip for 16 words of 16 bytes. */
using TransposeFn = void (*)(const uint8_t* const* words, uint8_t* to, size_t stride, uint8_t flip);

/*!
 * \brief words[p][f] = sums[f * stride + p] for 16 filters, or += if `add`.
 *
 * sums can be read up to the next multiple of 8 pixels.
 */
using ScatterFn = void (*)(const int32_t* sums, size_t stride, uint8_t* const* words, size_t pixels,
                           bool add);

/*! \brief lanes = mbqm(lanes), with zero point and clip if asked for. */
using RequantFn = void (*)(int32_t* lanes, const RequantWords& words, bool clip);

/*!
 * \brief RequantFn with clip and NarrowFn of n vectors; strides in bytes.
 *
 * `from` and `to` do not overlap.
 */
using RequantRowFn = void (*)(const uint8_t* from, size_t from_stride, uint8_t* to,
                              size_t to_stride, size_t n, const RequantWords& words,
                              bool is_signed);

/*! \brief Saturates 16 int32 lanes to 8 bits. */
using NarrowFn = void (*)(const int32_t* lanes, uint8_t* to, bool is_signed);

/*! \brief n bytes to int16. */
using WidenFn = void (*)(const uint8_t* from, int16_t* to, size_t n, bool is_signed);

/*! \brief to[i] = non-zero radix-4 Booth digits of from[i] (BoothDigits). */
using DigitsFn = void (*)(const uint8_t* from, uint8_t* to, size_t n, bool is_signed);

/*! \brief most[lane] = largest byte of a lane of n words of 16 bytes, `stride` bytes apart. */
using MostFn = void (*)(const uint8_t* words, size_t n, size_t stride, uint8_t* most);

/*! \brief sums[lane] += bytes of a lane of n words, each at most 5, `stride` bytes apart. */
using SumFn = void (*)(const uint8_t* words, size_t n, size_t stride, uint32_t* sums);

/*! \brief to[i] = sum of bytes [i * chunk, (i + 1) * chunk), i < n, modulo 256. */
using ChunkSumsFn = void (*)(const uint8_t* from, size_t chunk, size_t n, uint8_t* to);
constexpr size_t kChunkPadding = 2;  // bytes that can be read beyond the last chunk

/*! \brief Bytes [first, first + count) of a line. */
struct ByteRun {
  uint32_t line;
  uint32_t first;
  uint32_t count;
};
constexpr size_t kRunPadding = 16;  // bytes that can be read beyond a run

/*! \brief Largest byte of n runs, 0 if there is none; `offset` is added to all of them. */
using LargestFn = uint32_t (*)(const uint8_t* const* lines, size_t offset, const ByteRun* runs,
                               size_t n);

/*! \brief Storage units of row picks, see PicksFn. */
struct PickUnits {
  const uint8_t* first;  // 32 bytes: low nibble of byte 4 * filter + slot names a row
  size_t stride;         // bytes between units of 8 filters each
  size_t filters;        // of all units; the last one may hold fewer than 8
  size_t slots;          // 1..4
};

/*! \brief Value of each of 16 rows, split into bytes: [byte][row], low byte first. */
struct PickValues {
  const uint8_t* low;   // of slots 0 and 1
  const uint8_t* high;  // of slots 2 and 3
  size_t bytes;         // of a value, at most 4
};

/*! \brief masks[slot] |= rows that the filters name in a slot; returns the sum of their values. */
using PicksFn = uint64_t (*)(const PickUnits& units, const PickValues& values, uint16_t* masks);

/*! \brief Inner loops for one kind of processor. */
struct KernelSet {
  const char* name;
  PairsFn pairs;
  LanesFn lanes;
  PackPairFn pack_pair;
  TapsFn taps;
  TransformFn transform;
  PackTriplesFn pack_triples;
  TriplesFn triples;
  TransposeFn transpose;
  ScatterFn scatter;
  RequantFn requant;
  RequantRowFn requant_row;
  NarrowFn narrow;
  WidenFn widen;
  DigitsFn digits;
  MostFn most;
  SumFn sum;
  ChunkSumsFn chunk_sums;
  LargestFn largest;
  PicksFn picks;
};

/*! \brief Plain C++; the others give the same bits. */
const KernelSet& PortableKernels();
/*! \brief For AVX2, or null where the processor or the compiler has none. */
const KernelSet* Avx2Kernels();
/*! \brief The best set that this processor runs (environment SD_KERNELS=portable overrides). */
const KernelSet& Kernels();

/*! \brief As PairsFn with int32 weights [n][16] and single inputs, for weights beyond int16. */
void WidePixels(const Pixel* pixels, size_t n_pixels, const int32_t* offsets,
                const int32_t* weights, size_t n, const int32_t* init);

}  // namespace sd

#endif  // SD_SIM_KERNELS_H_
